"""A law that cannot fail proves nothing: each rule of the protocol is taken out once, and some
random run must fail.

The names are those of the runs in model/README.md that take the same rule out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from services.runtime.errors import BrokerUnavailable
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.idle_checks import IdleChecks
from services.runtime.loop.lane import Lane, LaneState
from services.runtime.loop.parsing import RecordParser
from services.runtime.loop.ports import AcquiredLane, ExpectedLane
from services.runtime.loop.publisher import OutputPublisher, SettledDeliveries
from services.runtime.records import TIMER, LaneKey
from services.runtime.testing.broker import FakeBrokerClient
from services.runtime.testing.ledger import FakeLedger, FakeTransaction
from tests.protocol.seams import replace_rule
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
    replace_rule(patch, FakeLedger, FakeLedger.as_expected, same_offset)


def no_next(patch: pytest.MonkeyPatch) -> None:
    def same_epoch(self: FakeTransaction, expected: ExpectedLane) -> bool:
        row = self._rows.get((self._group, expected.lane))
        return row is not None and row.epoch == expected.epoch

    replace_rule(patch, FakeTransaction, FakeTransaction.as_expected, same_epoch)
    replace_rule(
        patch, Assignment, Assignment.forget, lambda *_: None
    )  # the response to a commit is lost, and the process tries again


def no_ack_wait(patch: pytest.MonkeyPatch) -> None:
    replace_rule(
        patch, Lane, Lane.may_commit, property(lambda self: self.state is LaneState.RUNNING)
    )


def no_assign_wait(patch: pytest.MonkeyPatch) -> None:
    held = Assignment.take_over

    def hold(self: Assignment[Any], lane: Lane, row: AcquiredLane, topic_id: str) -> None:
        held(self, lane, row, topic_id)
        lane.pending_acks = None

    replace_rule(patch, Assignment, Assignment.take_over, hold)


def no_outbox(patch: pytest.MonkeyPatch) -> None:
    held = Assignment.take_over

    def hold(self: Assignment[Any], lane: Lane, row: AcquiredLane, topic_id: str) -> None:
        held(self, lane, AcquiredLane(row.epoch, row.next_offset, row.topic_id, None), topic_id)

    replace_rule(patch, Assignment, Assignment.take_over, hold)


def no_resend(patch: pytest.MonkeyPatch) -> None:
    settle = OutputPublisher.settle

    def forgiving(self: OutputPublisher, lanes: Any) -> SettledDeliveries:
        lanes = list(lanes)
        for lane in lanes:
            if lane.pending_acks and isinstance(lane.pending_acks.error, BrokerUnavailable):
                lane.pending_acks = None
        return settle(self, lanes)

    replace_rule(patch, OutputPublisher, OutputPublisher.settle, forgiving)


def no_reacquire(patch: pytest.MonkeyPatch) -> None:
    def fenced(self: Assignment[Any], lanes: Any) -> None:
        for key in lanes:
            if key in self.lanes:
                self.lanes[key].halt("fenced-for-good")
                self.lanes[key].acquire_at = float("inf")

    replace_rule(patch, Assignment, Assignment.fenced, fenced)


def no_contiguity(patch: pytest.MonkeyPatch) -> None:
    prepare = RecordParser.prepare

    def believing(self: RecordParser, lane: Lane, records: Any, end: int | None = None) -> bool:
        if records:
            lane.holes = {lane.tail: records[0].offset}
        return prepare(self, lane, records, end)

    replace_rule(patch, RecordParser, RecordParser.prepare, believing)


def no_lag_check(patch: pytest.MonkeyPatch) -> None:
    replace_rule(patch, IdleChecks, IdleChecks.compare_ends, lambda *_: None)


def no_idle_check(patch: pytest.MonkeyPatch) -> None:
    replace_rule(patch, IdleChecks, IdleChecks.compare_rows, lambda *_: None)


def clear_early(patch: pytest.MonkeyPatch) -> None:
    def clear(self: IdleChecks[Any], running: list[Lane], _now: float) -> None:
        if running:
            self._ledger.clear_outbox([lane.expected for lane in running])

    replace_rule(patch, IdleChecks, IdleChecks.clear_idle, clear)


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
            lane.tail = max(lane.tail, lane.next_offset)

    replace_rule(patch, Assignment, Assignment.agree_with, agree)


def replay_no_guard(patch: pytest.MonkeyPatch) -> None:
    def all_of_them(_self: FakeTransaction, ids: Sequence[UUID]) -> frozenset[UUID]:
        return frozenset(ids)

    replace_rule(patch, FakeTransaction, FakeTransaction.lock_dead_letters, all_of_them)


def timer_of_nobody(patch: pytest.MonkeyPatch) -> None:
    replace_rule(
        patch,
        Assignment,
        Assignment.with_timer,
        lambda _self, lanes: [lane for lane in lanes if lane != TIMER],
    )


def random_runs() -> None:
    for seed in range(SEEDS):
        check(run(seed))


# A rule, and the law that notices its absence.
MUTATIONS: tuple[tuple[Patch, Law], ...] = (
    (no_epoch, test_rules.an_old_owner_may_not_overwrite_what_a_rewind_brought_back),
    (no_next, random_runs),
    (no_ack_wait, random_runs),
    (no_assign_wait, random_runs),
    (no_outbox, random_runs),
    (no_resend, random_runs),
    (no_reacquire, random_runs),
    (no_contiguity, random_runs),
    (no_lag_check, test_rules.a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag),
    (
        cached_ends,
        test_rules.a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag,
    ),
    (no_idle_check, test_rules.an_idle_owner_detects_a_rewind),
    (clear_early, random_runs),
    (exceptions_ignored, random_runs),
    (replay_no_guard, test_rules.a_replayed_dead_letter_has_one_effect_however_many_copies_arrive),
    (timer_of_nobody, random_runs),
)


@pytest.mark.parametrize(
    ("mutation", "law"), MUTATIONS, ids=[mutation.__name__ for mutation, _ in MUTATIONS]
)
def test_without_a_rule_its_law_fails(
    mutation: Patch, law: Law, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - however it shows: an assertion, a run without rest, a crash
        law()
