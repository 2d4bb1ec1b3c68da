"""The mutation table: each rule of model/README.md is taken out, and its law must fail.

A law that was never seen to fail proves nothing. `python -m tests.protocol.laws.mutations` takes
the rules out of the world in memory, one after the other, and prints how each law failed. Rules
that only real processes can show are in tests/protocol/toy/mutate.py.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.protocol.laws import test_fake_input_laws as given
from tests.protocol.laws import test_fake_laws as fake
from tests.protocol.laws import test_lane_laws as lanes
from tests.protocol.laws import without
from tests.protocol.laws.fake_world import FakeWorld

Patch = pytest.MonkeyPatch
BYTES_MAX = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Mutation:
    """One rule without effect, and the law that must fail for it."""

    rule: int
    take_out: Callable[[Patch], None]
    law: Callable[..., None]
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.take_out.__name__

    def play(self, world: FakeWorld) -> None:
        self.law(world, *self.arguments)


MUTATIONS = (
    Mutation(
        1, without.sequence_of_the_process, lanes.test_a_storm_of_duplicates_has_each_effect_once
    ),
    Mutation(2, without.deltas, lanes.test_two_services_that_read_each_other_settle),
    Mutation(
        3, without.everything_is_newer, fake.test_outputs_that_arrive_late_and_twice_revive_nothing
    ),
    Mutation(
        4,
        without.an_end_without_a_beginning_is_ignored,
        fake.test_a_key_that_goes_straight_to_its_end_leaves_what_the_long_way_leaves,
    ),
    Mutation(
        5,
        without.equal_is_older,
        lanes.test_a_process_killed_at_any_point_loses_and_doubles_nothing,
        ("published",),
    ),
    Mutation(
        6,
        without.rows_begin_at_the_end,
        lanes.test_partitions_that_are_added_while_records_flow_are_read_from_their_first_record,
    ),
    Mutation(
        7, without.commits_compare_no_offset, fake.test_a_commit_whose_response_is_lost_counts_once
    ),
    Mutation(
        8,
        without.outputs_are_not_kept,
        lanes.test_a_process_killed_at_any_point_loses_and_doubles_nothing,
        ("committed",),
    ),
    Mutation(
        8,
        without.commits_do_not_wait,
        fake.test_what_is_not_acknowledged_is_neither_overwritten_nor_emptied,
    ),
    Mutation(
        8,
        without.new_owners_do_not_wait,
        fake.test_what_is_not_acknowledged_is_neither_overwritten_nor_emptied,
    ),
    Mutation(
        8,
        without.rows_are_emptied_early,
        fake.test_what_is_not_acknowledged_is_neither_overwritten_nor_emptied,
    ),
    Mutation(8, without.failed_deliveries_count_as_done, fake.test_a_failed_delivery_is_repeated),
    Mutation(
        9,
        without.work_of_lost_lanes_is_kept,
        fake.test_a_lane_that_is_lost_takes_its_records_out_of_a_joint_batch_and_no_others,
    ),
    Mutation(
        10,
        without.decisions_are_taken_early,
        lanes.test_members_that_come_and_go_lose_and_double_nothing,
    ),
    Mutation(
        13,
        without.fenced_lanes_are_not_acquired_again,
        fake.test_a_lane_that_is_lost_takes_its_records_out_of_a_joint_batch_and_no_others,
    ),
    Mutation(
        14,
        without.prepared_records_outlive_their_epoch,
        fake.test_what_was_prepared_before_a_lane_was_lost_is_never_committed,
    ),
    Mutation(
        15,
        without.idle_owners_do_not_compare_rows,
        fake.test_a_row_that_moves_under_an_idle_owner_is_detected,
    ),
    Mutation(
        16,
        without.topic_ids_are_believed,
        lanes.test_a_recreated_topic_stops_its_lanes_until_an_operator_accepts_it,
    ),
    Mutation(
        17,
        without.dead_letters_have_no_copies,
        lanes.test_a_storm_of_poison_harms_no_neighbour_and_is_kept_byte_for_byte,
    ),
    Mutation(18, without.the_timer_has_no_owner, lanes.test_the_timer_lane_works_each_due_key_once),
    Mutation(
        19,
        without.offsets_are_believed,
        given.test_a_client_that_reads_on_elsewhere_skips_and_repeats_nothing,
        ("ahead",),
    ),
    Mutation(
        19,
        without.smaller_offsets_are_worked,
        given.test_a_client_that_reads_on_elsewhere_skips_and_repeats_nothing,
        ("back",),
    ),
    Mutation(
        19, without.holes_are_not_counted, given.test_holes_in_a_log_are_stepped_over_and_counted
    ),
    Mutation(
        19,
        without.holes_are_believed_once,
        given.test_a_client_that_begins_elsewhere_after_one_assignment_skips_nothing,
    ),
    Mutation(
        19,
        without.ends_are_believed_once,
        given.test_a_client_that_reads_on_elsewhere_skips_and_repeats_nothing,
        ("end",),
    ),
    Mutation(
        20,
        without.silence_is_believed,
        given.test_a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag,
    ),
    Mutation(
        22,
        without.copies_of_replays_are_worked,
        fake.test_a_dead_letter_that_was_discarded_meanwhile_is_not_worked,
    ),
    Mutation(
        22,
        without.failures_open_any_dead_letter,
        fake.test_a_resolved_dead_letter_stays_resolved_whatever_becomes_of_its_copies,
    ),
    Mutation(
        23,
        without.replays_are_in_memory_only,
        fake.test_a_replay_survives_the_death_of_the_process_that_publishes_it,
        ("committed",),
    ),
    Mutation(
        24,
        without.everything_is_published_again,
        lanes.test_two_services_that_read_each_other_settle,
    ),
)


def seen_to_fail(mutation: Mutation) -> str:
    """Return how the law failed, or nothing if it held."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.take_out(patch)
        try:
            mutation.play(FakeWorld())
        except Exception as error:  # noqa: BLE001 - however it shows: a broken law, a run that never settles, a crash
            return f"{type(error).__name__}: {error}"
    return ""


def main() -> int:
    survivors = 0
    resource.setrlimit(
        resource.RLIMIT_AS, (BYTES_MAX, BYTES_MAX)
    )  # without a rule a run may never end
    for mutation in MUTATIONS:
        began = time.perf_counter()
        failure = seen_to_fail(mutation)
        survivors += not failure
        text = " ".join(failure.split())[:90] if failure else "NOT DETECTED"
        print(
            f"{mutation.rule:>4}  {mutation.name:<42} {time.perf_counter() - began:5.1f} s  {text}"
        )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
