"""Mutation tests: each rule of the protocol is taken out once, and some random run must fail.

The names are those of the runs in model/README.md that leave the same rule out. What a rule of the
laws on the fake leaves out in the same way stands in tests/protocol/laws/mutants.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from services.runtime.loop.assignment import Assignment
from services.runtime.loop.lane import Lane, LaneState
from services.runtime.loop.parsing import RecordParser
from services.runtime.ports import ExpectedLane
from services.runtime.records import LaneKey
from services.runtime.testing.broker import FakeBrokerClient
from services.runtime.testing.lane_store import FakeLaneStore, FakeTransaction
from tests.protocol.laws import mutants
from tests.protocol.patching import replace_rule
from tests.protocol.simulation import test_rules
from tests.protocol.simulation.test_random_faults import check, run

SEEDS = 400
Patch = Callable[[pytest.MonkeyPatch], None]
Law = Callable[[], None]


def no_epoch(patch: pytest.MonkeyPatch) -> None:
    def same_offset(self: Any, expected: ExpectedLane) -> bool:
        rows = self._rows if isinstance(self, FakeTransaction) else self.database.rows
        row = rows.get((self._group, expected.lane))
        return row is not None and row.next_offset == expected.next_offset

    replace_rule(patch, FakeTransaction, FakeTransaction.as_expected, same_offset)
    replace_rule(patch, FakeLaneStore, FakeLaneStore.as_expected, same_offset)


def no_next(patch: pytest.MonkeyPatch) -> None:
    def same_epoch(self: FakeTransaction, expected: ExpectedLane) -> bool:
        row = self._rows.get((self._group, expected.lane))
        return row is not None and row.epoch == expected.epoch

    replace_rule(patch, FakeTransaction, FakeTransaction.as_expected, same_epoch)
    replace_rule(
        patch, Assignment, Assignment.reacquire, lambda *_: None
    )  # the response to a commit is lost, and the process tries again


def no_ack_wait(patch: pytest.MonkeyPatch) -> None:
    replace_rule(
        patch, Lane, Lane.may_commit, property(lambda self: self.state is LaneState.RUNNING)
    )


def no_contiguity(patch: pytest.MonkeyPatch) -> None:
    prepare = RecordParser.prepare

    def believing(self: RecordParser, lane: Lane, records: Any, end: int | None = None) -> bool:
        if records:
            lane.offset_gaps = {lane.fetch_position: records[0].offset}
        return prepare(self, lane, records, end)

    replace_rule(patch, RecordParser, RecordParser.prepare, believing)


def cached_ends(patch: pytest.MonkeyPatch) -> None:
    """The client's cached end of a partition, which it knows from fetching."""

    def request_ends(
        self: FakeBrokerClient, lanes: Collection[LaneKey]
    ) -> Callable[[], Mapping[LaneKey, int]]:
        known = {lane: self.ends(lane) for lane in lanes}
        return lambda: {lane: ends[1] for lane, ends in known.items() if ends is not None}

    replace_rule(patch, FakeBrokerClient, FakeBrokerClient.request_ends, request_ends)


def exceptions_ignored(patch: pytest.MonkeyPatch) -> None:
    def agree(self: Assignment[Any], _named: Any) -> None:
        for lane in self:
            lane.prepared.clear()  # what that fetch brought is lost, and the position is believed
            lane.fetch_position = max(lane.fetch_position, lane.next_offset)

    replace_rule(patch, Assignment, Assignment.agree_with, agree)


def random_runs() -> None:
    for seed in range(SEEDS):
        check(run(seed))


# The name of a rule that is left out, what leaves it out, and the law that detects its absence.
MUTATIONS: tuple[tuple[str, Patch, Law], ...] = (
    ("no_epoch", no_epoch, test_rules.an_old_owner_may_not_overwrite_what_a_rewind_brought_back),
    ("no_next", no_next, random_runs),
    ("no_ack_wait", no_ack_wait, random_runs),
    ("no_assign_wait", mutants.new_owners_do_not_wait, random_runs),
    ("no_outbox", mutants.outputs_are_not_kept, random_runs),
    ("no_resend", mutants.failed_deliveries_count_as_done, random_runs),
    ("no_reacquire", mutants.fenced_lanes_are_not_acquired_again, random_runs),
    ("no_contiguity", no_contiguity, random_runs),
    (
        "no_lag_check",
        mutants.silence_is_believed,
        test_rules.a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag,
    ),
    (
        "cached_ends",
        cached_ends,
        test_rules.a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag,
    ),
    (
        "no_idle_check",
        mutants.idle_owners_do_not_compare_rows,
        test_rules.an_idle_owner_detects_a_rewind,
    ),
    ("clear_early", mutants.rows_are_emptied_early, random_runs),
    ("exceptions_ignored", exceptions_ignored, random_runs),
    (
        "replay_no_guard",
        mutants.copies_of_replays_are_worked,
        test_rules.a_replayed_dead_letter_has_one_effect_however_many_copies_arrive,
    ),
    ("timer_of_nobody", mutants.the_timer_has_no_owner, random_runs),
)


@pytest.mark.parametrize(
    ("mutation", "law"),
    [(mutation, law) for _, mutation, law in MUTATIONS],
    ids=[name for name, _, _ in MUTATIONS],
)
def test_without_a_rule_its_law_fails(
    mutation: Patch, law: Law, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - however it shows: an assertion, a run that never settles, a crash
        law()
