"""The rules of model/README.md, each taken out by one function (see mutations.py)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from schemas.envelope import Output
from services.runtime.errors import BrokerUnavailable
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.commit import BatchCommitter
from services.runtime.loop.idle_checks import IdleChecks
from services.runtime.loop.lane import Lane, LaneState, PreparedRecord
from services.runtime.loop.parsing import RecordParser
from services.runtime.loop.ports import AcquiredLane, ExpectedLane, LaneAdvance, LockedLanes
from services.runtime.loop.publisher import OutputPublisher, SettledDeliveries
from services.runtime.loop.timer import Timer
from services.runtime.loop.worker import Worker
from services.runtime.records import TIMER, LaneKey, Record
from services.runtime.testing import FakeBrokerClient
from services.runtime.testing.ledger import FakeTransaction
from tests.protocol.laws.fake_world import FakeMember
from tests.protocol.seams import replace_rule
from tests.protocol.toy import rules
from tests.protocol.toy.events import FirstSnapshot, SecondSnapshot
from tests.protocol.toy.memory import MemoryStore
from tests.protocol.toy.rules import BatchResult, Classification, First

Patch = pytest.MonkeyPatch


# Events, rules 1 to 5.


def sequence_of_the_process(patch: Patch) -> None:
    """1: counted in the process, not in the key's locked row."""
    counters: dict[int, dict[str, int]] = {}
    lock = MemoryStore.lock_firsts

    def counted(self: MemoryStore, keys: Sequence[str]) -> dict[str, First]:
        known = counters.setdefault(id(self.session.tables.setdefault("inputs", {})) % 2, {})
        rows = lock(self, keys)
        for key, row in rows.items():
            known[key] = max(known.get(key, 0), row.sequence - 1)
        return {key: replace(row, sequence=known[key]) for key, row in rows.items()}

    replace_rule(patch, MemoryStore, MemoryStore.lock_firsts, counted)


def deltas(patch: Patch) -> None:
    """2: an event has what is new, and not all that is known."""
    add_snapshots = rules.add_first_snapshots

    def only_new(found: BatchResult, before: Any, brought: Any, pads: Any) -> BatchResult:
        for events in add_snapshots(found, before, brought, pads).snapshots.values():
            for at, it in enumerate(events):
                if isinstance(it, FirstSnapshot):
                    new = tuple(sorted({*it.children} - {*before[it.key].children}))
                    events[at] = msgspec.structs.replace(it, children=new)
        return found

    replace_rule(patch, rules, rules.add_first_snapshots, only_new)


def everything_is_newer(patch: Patch) -> None:
    """3: a reader applies every snapshot, however old."""
    replace_rule(patch, rules, rules.classify, lambda _position, _last: Classification.NEWER)


def an_end_without_a_beginning_is_ignored(patch: Patch) -> None:
    """4: the cancellation of a key that is not known yet is dropped."""
    decide = rules.decide_second

    def decided(batch: Sequence[FirstSnapshot], rows: Any) -> BatchResult:
        found = decide(batch, rows)
        for key, row in list(found.seconds.items()):
            if row.state == "cancelled" and rows[key].first_sequence == 0:
                found.seconds[key] = rows[key]
        return found

    replace_rule(patch, rules, rules.decide_second, decided)


def equal_is_older(patch: Patch) -> None:
    """5: a copy is counted as superseded."""

    def newer(position: tuple[int, int], last: tuple[int, int]) -> Classification:
        return Classification.NEWER if position > last else Classification.OLDER

    replace_rule(patch, rules, rules.classify, newer)


# The row, rules 6 to 11.


def rows_begin_at_the_end(patch: Patch) -> None:
    """6: the row of a new partition is created where its log ends."""
    bounds = FakeBrokerClient.bounds
    replace_rule(
        patch,
        FakeBrokerClient,
        FakeBrokerClient.bounds,
        lambda self, lane: (bounds(self, lane)[1],) * 2,
    )


def commits_compare_no_offset(patch: Patch) -> None:
    """7: the epoch alone, and a process that lost the response to its commit commits the same batch
    again.
    """

    def same_epoch(self: FakeTransaction, expected: ExpectedLane) -> bool:
        row = self._rows.get((self._group, expected.lane))
        return row is not None and row.epoch == expected.epoch

    replace_rule(patch, FakeTransaction, FakeTransaction.as_expected, same_epoch)
    replace_rule(patch, Assignment, Assignment.forget, lambda *_: None)


def outputs_are_not_kept(patch: Patch) -> None:
    """8: a new owner does not publish the outputs in the row."""
    held = Assignment.take_over

    def hold(self: Assignment[Any], lane: Lane, row: AcquiredLane, topic_id: str) -> None:
        held(self, lane, AcquiredLane(row.epoch, row.next_offset, row.topic_id, None), topic_id)

    replace_rule(patch, Assignment, Assignment.take_over, hold)


def commits_do_not_wait(patch: Patch) -> None:
    """8: the next batch is committed over outputs that are not acknowledged."""
    replace_rule(
        patch, Lane, Lane.may_commit, property(lambda self: self.state is LaneState.RUNNING)
    )
    replace_rule(patch, Assignment, Assignment.leave_out, lambda *_: None)


def new_owners_do_not_wait(patch: Patch) -> None:
    """8: a new owner commits before the row's outputs are acknowledged."""
    held = Assignment.take_over

    def hold(self: Assignment[Any], lane: Lane, row: AcquiredLane, topic_id: str) -> None:
        held(self, lane, row, topic_id)
        lane.pending_acks = None

    replace_rule(patch, Assignment, Assignment.take_over, hold)


def rows_are_emptied_early(patch: Patch) -> None:
    """8: the outbox is cleared before everything in it is acknowledged."""

    def clear(self: IdleChecks[Any], running: list[Lane], _now: float) -> None:
        if running:
            self._ledger.clear_outbox([lane.expected for lane in running])

    replace_rule(patch, IdleChecks, IdleChecks.clear_idle, clear)


def failed_deliveries_count_as_done(patch: Patch) -> None:
    """8: a failed delivery counts as an acknowledgement."""
    settle = OutputPublisher.settle

    def forgiving(self: OutputPublisher, of: Any) -> SettledDeliveries:
        of = list(of)
        for lane in of:
            if lane.pending_acks and isinstance(lane.pending_acks.error, BrokerUnavailable):
                lane.pending_acks = None
        return settle(self, of)

    replace_rule(patch, OutputPublisher, OutputPublisher.settle, forgiving)


def work_of_lost_lanes_is_kept(patch: Patch) -> None:
    """9: a joint transaction advances the other rows only, and keeps all work."""
    advance = FakeTransaction.advance

    def some(self: FakeTransaction, rows: Sequence[LaneAdvance]) -> None:
        advance(self, [row for row in rows if self.as_expected(row.expected)])

    replace_rule(
        patch,
        FakeTransaction,
        FakeTransaction.lock,
        lambda self, _claims: LockedLanes(frozenset(), self.session.now),
    )
    replace_rule(patch, FakeTransaction, FakeTransaction.advance, some)


def decisions_are_taken_early(patch: Patch) -> None:
    """10: on the rows of a key as this process itself left them, before it locked them."""
    left: dict[tuple[int, str], First] = {}
    lock, save, step = MemoryStore.lock_firsts, MemoryStore.save_firsts, FakeMember.step
    at_work: list[FakeMember] = []

    def stepped(self: FakeMember) -> None:
        at_work[:] = [self]
        step(self)

    def early(self: MemoryStore, keys: Sequence[str]) -> dict[str, First]:
        return {key: left.get((id(at_work[0]), key), row) for key, row in lock(self, keys).items()}

    def saved(self: MemoryStore, rows: Sequence[First]) -> None:
        save(self, rows)
        left.update({(id(at_work[0]), row.key): row for row in rows})

    replace_rule(patch, FakeMember, FakeMember.step, stepped)
    replace_rule(patch, MemoryStore, MemoryStore.lock_firsts, early)
    replace_rule(patch, MemoryStore, MemoryStore.save_firsts, saved)


# Owners, rules 13 to 21. 11 and 12 need real processes.


def fenced_lanes_are_not_acquired_again(patch: Patch) -> None:
    """13: although the broker still assigns them."""

    def fenced(self: Assignment[Any], of: Any) -> None:
        for key in of:
            if key in self.lanes:
                self.lanes[key].halt("fenced for good")
                self.lanes[key].acquire_at = float("inf")

    replace_rule(patch, Assignment, Assignment.fenced, fenced)


def prepared_records_outlive_their_epoch(patch: Patch) -> None:
    """14: what was fetched before the lane was lost is committed after it came back to the same
    process.
    """
    kept: dict[tuple[int, LaneKey], list[PreparedRecord]] = {}
    revoked, hold = Assignment.revoked, Assignment.take_over

    def dropping(self: Assignment[Any], of: Any) -> None:
        for key in of:
            if key in self.lanes and self.lanes[key].prepared:
                kept[id(self), key] = list(self.lanes[key].prepared)
        revoked(self, of)

    def holding(self: Assignment[Any], lane: Lane, held: AcquiredLane, topic_id: str) -> None:
        hold(self, lane, held, topic_id)
        if prepared := kept.pop((id(self), lane.key), None):
            lane.prepared, lane.tail = prepared, prepared[-1].offset + 1

    replace_rule(patch, Assignment, Assignment.revoked, dropping)
    replace_rule(
        patch, Worker, Worker.without_recreated, lambda _self, slices, _ids: slices
    )  # its ids are requested for the topics of a fetch
    replace_rule(patch, Assignment, Assignment.take_over, holding)


def idle_owners_do_not_compare_rows(patch: Patch) -> None:
    """15: only a commit detects a row that was moved."""
    replace_rule(patch, IdleChecks, IdleChecks.compare_rows, lambda *_: None)


def topic_ids_are_believed(patch: Patch) -> None:
    """16: the id of a topic is compared only when its lane is acquired."""
    replace_rule(patch, Worker, Worker.without_recreated, lambda _self, slices, _ids: slices)
    replace_rule(patch, IdleChecks, IdleChecks.compare_topics, lambda *_: None)


def dead_letters_have_no_copies(patch: Patch) -> None:
    """17: a dead letter is a row and no output."""
    add = BatchCommitter.add_dead_letters

    def without_copies(
        self: BatchCommitter[Any], transaction: Any, slices: Any, decided: Any, _outputs: Any
    ) -> None:
        add(self, transaction, slices, decided, {})

    replace_rule(patch, BatchCommitter, BatchCommitter.add_dead_letters, without_copies)


def the_timer_has_no_owner(patch: Patch) -> None:
    """18: no process owns the timer's lane."""
    replace_rule(
        patch,
        Assignment,
        Assignment.with_timer,
        lambda _self, of: [lane for lane in of if lane != TIMER],
    )


def offsets_are_believed(patch: Patch) -> None:
    """19: the expected offset follows what is fetched."""
    prepare = RecordParser.prepare

    def believing(
        self: RecordParser, lane: Lane, records: Sequence[Record], end: int | None = None
    ) -> bool:
        for record in records:
            lane.holes = {lane.tail: record.offset}
            prepare(self, lane, [record])
        return prepare(self, lane, [], end)

    replace_rule(patch, RecordParser, RecordParser.prepare, believing)


def smaller_offsets_are_worked(patch: Patch) -> None:
    """19: records below the tail are worked again."""

    def anything(
        self: RecordParser, lane: Lane, records: Sequence[Record], _end: int | None = None
    ) -> bool:
        for record in records:
            lane.prepared.append(
                PreparedRecord(lane.key, record.offset, record, self.event_of(record), 0, 0)
            )
            lane.tail = record.offset + 1
        return True

    replace_rule(patch, RecordParser, RecordParser.prepare, anything)


def holes_are_not_counted(patch: Patch) -> None:
    """19: offsets without a record are not counted."""
    prepare = RecordParser.prepare

    def silently(self: RecordParser, lane: Lane, records: Any, end: int | None = None) -> bool:
        before = len(lane.prepared)
        done = prepare(self, lane, records, end)
        lane.prepared[before:] = [it._replace(gap=0) for it in lane.prepared[before:]]
        return done

    replace_rule(patch, RecordParser, RecordParser.prepare, silently)


def holes_are_believed_once(patch: Patch) -> None:
    """19: a hole that one assignment meets is accepted at once."""
    prepare = RecordParser.prepare

    def trusting(
        self: RecordParser, lane: Lane, records: Sequence[Record], end: int | None = None
    ) -> bool:
        if records and records[0].offset > lane.tail:
            lane.holes = {lane.tail: records[0].offset}
        return prepare(self, lane, records, end)

    replace_rule(patch, RecordParser, RecordParser.prepare, trusting)


def ends_are_believed_once(patch: Patch) -> None:
    """19: an end that one assignment reports is accepted at once."""
    prepare = RecordParser.prepare

    def trusting(
        self: RecordParser, lane: Lane, records: Sequence[Record], end: int | None = None
    ) -> bool:
        if end is not None and not records:
            lane.holes = {lane.tail: end}
        return prepare(self, lane, records, end)

    replace_rule(patch, RecordParser, RecordParser.prepare, trusting)


def silence_is_believed(patch: Patch) -> None:
    """20: a partition from which no record comes is taken for empty."""
    replace_rule(patch, IdleChecks, IdleChecks.compare_ends, lambda *_: None)


# Replays and repeated snapshots, rules 22 to 24.


def copies_of_replays_are_worked(patch: Patch) -> None:
    """22: the dead letter's state is not checked."""

    def all_of_them(_self: FakeTransaction, ids: Sequence[UUID]) -> frozenset[UUID]:
        return frozenset(ids)

    replace_rule(patch, FakeTransaction, FakeTransaction.lock_dead_letters, all_of_them)


def failures_open_any_dead_letter(patch: Patch) -> None:
    """22: a copy that fails opens a dead letter that another copy has resolved."""

    def reopen(self: FakeTransaction, failures: Sequence[tuple[UUID, str, str]]) -> None:
        for dead_letter_id, _, _ in failures:
            self._dead_letters[dead_letter_id].state = "open"

    copies_of_replays_are_worked(patch)
    replace_rule(patch, FakeTransaction, FakeTransaction.reopen_dead_letters, reopen)


def replays_are_in_memory_only(patch: Patch) -> None:
    """23: the bytes of a replayed dead letter are not in the timer's row."""
    row_after = Timer.row_after

    def without_outbox(self: Timer[Any], lane: Lane, outputs: list[Output]) -> LaneAdvance:
        return row_after(self, lane, outputs)._replace(outbox=None)

    replace_rule(patch, Timer, Timer.row_after, without_outbox)


def everything_is_published_again(patch: Patch) -> None:
    """24: a snapshot after every effect."""
    replace_rule(
        patch,
        FirstSnapshot,
        FirstSnapshot.digest,
        lambda self: f"{self.sequence}{time.perf_counter_ns()}".encode(),
    )
    replace_rule(
        patch,
        SecondSnapshot,
        SecondSnapshot.digest,
        lambda self: f"{self.sequence}{time.perf_counter_ns()}".encode(),
    )
