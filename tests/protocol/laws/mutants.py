"""Mutants of the protocol: each function takes one rule of model/README.md out of the code by a
patch. mutations.py has the table of which law must then fail.
"""

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
from services.runtime.loop.publisher import OutputPublisher, SettledDeliveries
from services.runtime.loop.timer import Timer
from services.runtime.loop.worker import Worker
from services.runtime.ports import AcquiredLane, ExpectedLane, LaneUpdate, LockedLanes
from services.runtime.records import TIMER, LaneKey, Record
from services.runtime.testing import FakeBrokerClient
from services.runtime.testing.lane_store import FakeTransaction
from tests.protocol.laws.fake_system import FakeMember
from tests.protocol.patching import replace_rule
from tests.protocol.toy import rules
from tests.protocol.toy.events import FirstSnapshot, SecondSnapshot
from tests.protocol.toy.memory import MemoryStore
from tests.protocol.toy.rules import BatchResult, Classification, First

Patch = pytest.MonkeyPatch


# Events, rules 1 to 5.


def sequence_of_the_process(patch: Patch) -> None:
    """Without rule 1 (sequence from the key's row): a sequence is counted in the process, not in
    the key's locked row.
    """
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
    """Without rule 2 (full snapshots): an event has what is new, and not all that is known."""
    add_snapshots = rules.add_first_snapshots

    def only_new(result: BatchResult, before: Any, brought: Any, pads: Any) -> BatchResult:
        for events in add_snapshots(result, before, brought, pads).snapshots.values():
            for at, event in enumerate(events):
                if isinstance(event, FirstSnapshot):
                    new = tuple(sorted({*event.children} - {*before[event.key].children}))
                    events[at] = msgspec.structs.replace(event, children=new)
        return result

    replace_rule(patch, rules, rules.add_first_snapshots, only_new)


def everything_is_newer(patch: Patch) -> None:
    """Without rule 3 (only greater is applied): a reader applies every snapshot, however old."""
    replace_rule(patch, rules, rules.classify, lambda _position, _last: Classification.NEWER)


def an_end_without_a_beginning_is_ignored(patch: Patch) -> None:
    """Without rule 4 (states may be skipped): the cancellation of a key that is not known yet is
    dropped.
    """
    decide = rules.decide_second

    def decided(batch: Sequence[FirstSnapshot], rows: Any) -> BatchResult:
        result = decide(batch, rows)
        for key, row in list(result.seconds.items()):
            if row.state == "cancelled" and rows[key].first_sequence == 0:
                result.seconds[key] = rows[key]
        return result

    replace_rule(patch, rules, rules.decide_second, decided)


def equal_is_older(patch: Patch) -> None:
    """Without rule 5 (equal is a duplicate): a copy is counted as superseded."""

    def newer(position: tuple[int, int], last: tuple[int, int]) -> Classification:
        return Classification.NEWER if position > last else Classification.OLDER

    replace_rule(patch, rules, rules.classify, newer)


# The row, rules 6 to 11.


def rows_begin_at_the_end(patch: Patch) -> None:
    """Without rule 6 (one row per lane): a new partition's row is created where its log ends."""
    bounds = FakeBrokerClient.bounds
    replace_rule(
        patch,
        FakeBrokerClient,
        FakeBrokerClient.bounds,
        lambda self, lane: (bounds(self, lane)[1],) * 2,
    )


def commits_compare_no_offset(patch: Patch) -> None:
    """Without rule 7 (compare and advance): a commit compares the epoch alone, and a process that
    lost the response to its commit commits the same batch again.
    """

    def same_epoch(self: FakeTransaction, expected: ExpectedLane) -> bool:
        row = self._rows.get((self._group, expected.lane))
        return row is not None and row.epoch == expected.epoch

    replace_rule(patch, FakeTransaction, FakeTransaction.as_expected, same_epoch)
    replace_rule(patch, Assignment, Assignment.reacquire, lambda *_: None)


def outputs_are_not_kept(patch: Patch) -> None:
    """Without rule 8 (outbox until acknowledged): a new owner does not publish the outputs in the
    row.
    """
    held = Assignment.run_acquired

    def hold(self: Assignment[Any], lane: Lane, row: AcquiredLane, topic_id: str) -> None:
        held(self, lane, AcquiredLane(row.epoch, row.next_offset, row.topic_id, None), topic_id)

    replace_rule(patch, Assignment, Assignment.run_acquired, hold)


def commits_do_not_wait(patch: Patch) -> None:
    """Without rule 8 (outbox until acknowledged): the next batch is committed over outputs that are
    not acknowledged.
    """
    replace_rule(
        patch, Lane, Lane.may_commit, property(lambda self: self.state is LaneState.RUNNING)
    )
    replace_rule(patch, Assignment, Assignment.pause_for_acks, lambda *_: None)


def new_owners_do_not_wait(patch: Patch) -> None:
    """Without rule 8 (outbox until acknowledged): a new owner commits before the row's outputs are
    acknowledged.
    """
    held = Assignment.run_acquired

    def hold(self: Assignment[Any], lane: Lane, row: AcquiredLane, topic_id: str) -> None:
        held(self, lane, row, topic_id)
        lane.pending_acks = None

    replace_rule(patch, Assignment, Assignment.run_acquired, hold)


def rows_are_emptied_early(patch: Patch) -> None:
    """Without rule 8 (outbox until acknowledged): the outbox is cleared before everything in it is
    acknowledged.
    """

    def clear(self: IdleChecks[Any], running: list[Lane], _now: float) -> None:
        if running:
            self._lane_store.clear_outbox([lane.expected for lane in running])

    replace_rule(patch, IdleChecks, IdleChecks.clear_idle, clear)


def failed_deliveries_count_as_done(patch: Patch) -> None:
    """Without rule 8 (outbox until acknowledged): a failed delivery counts as acknowledged."""
    settle = OutputPublisher.settle

    def forgiving(self: OutputPublisher, of: Any) -> SettledDeliveries:
        of = list(of)
        for lane in of:
            if lane.pending_acks and isinstance(lane.pending_acks.error, BrokerUnavailable):
                lane.pending_acks = None
        return settle(self, of)

    replace_rule(patch, OutputPublisher, OutputPublisher.settle, forgiving)


def work_of_fenced_lanes_is_kept(patch: Patch) -> None:
    """Without rule 9 (one lock order): a joint transaction advances the other rows only, and keeps
    all work.
    """
    advance = FakeTransaction.advance

    def some(self: FakeTransaction, rows: Sequence[LaneUpdate]) -> None:
        advance(self, [row for row in rows if self.as_expected(row.expected)])

    replace_rule(
        patch,
        FakeTransaction,
        FakeTransaction.lock,
        lambda self, _claims: LockedLanes(frozenset(), self.session.now),
    )
    replace_rule(patch, FakeTransaction, FakeTransaction.advance, some)


def decisions_are_taken_early(patch: Patch) -> None:
    """Without rule 10 (decide on locked rows): a decision is made on the rows of a key as this
    process itself left them, before it locked them.
    """
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
    """Without rule 13 (fenced, acquire again): a fenced lane is never acquired again, although the
    broker still assigns it.
    """

    def fenced(self: Assignment[Any], of: Any) -> None:
        for key in of:
            if key in self.lanes:
                self.lanes[key].mark_stopped("fenced for good")
                self.lanes[key].acquire_at = float("inf")

    replace_rule(patch, Assignment, Assignment.reacquire_fenced, fenced)


def prepared_records_outlive_their_epoch(patch: Patch) -> None:
    """Without rule 14 (revoked and lost): what was fetched before the lane was lost is committed
    after it came back to the same process.
    """
    kept: dict[tuple[int, LaneKey], list[PreparedRecord]] = {}
    revoked, hold = Assignment.revoked, Assignment.run_acquired

    def dropping(self: Assignment[Any], of: Any) -> None:
        for key in of:
            if key in self.lanes and self.lanes[key].prepared:
                kept[id(self), key] = list(self.lanes[key].prepared)
        revoked(self, of)

    def holding(self: Assignment[Any], lane: Lane, held: AcquiredLane, topic_id: str) -> None:
        hold(self, lane, held, topic_id)
        if prepared := kept.pop((id(self), lane.key), None):
            lane.prepared, lane.fetch_position = prepared, prepared[-1].offset + 1

    replace_rule(patch, Assignment, Assignment.revoked, dropping)
    replace_rule(
        patch, Worker, Worker.without_recreated, lambda _self, slices, _ids: slices
    )  # its ids are requested for the topics of a fetch
    replace_rule(patch, Assignment, Assignment.run_acquired, holding)


def idle_owners_do_not_compare_rows(patch: Patch) -> None:
    """Without rule 15 (idle owners compare): only a commit detects a row that was moved."""
    replace_rule(patch, IdleChecks, IdleChecks.compare_rows, lambda *_: None)


def topic_ids_are_believed(patch: Patch) -> None:
    """Without rule 16 (topic id): the id of a topic is compared only when its lane is acquired."""
    replace_rule(patch, Worker, Worker.without_recreated, lambda _self, slices, _ids: slices)
    replace_rule(patch, IdleChecks, IdleChecks.compare_topics, lambda *_: None)


def dead_letters_have_no_copies(patch: Patch) -> None:
    """Without rule 17 (dead letters are outputs): a dead letter is a row and no output."""
    add = BatchCommitter.add_dead_letters

    def without_copies(
        self: BatchCommitter[Any], transaction: Any, slices: Any, decided: Any, _outputs: Any
    ) -> None:
        add(self, transaction, slices, decided, {})

    replace_rule(patch, BatchCommitter, BatchCommitter.add_dead_letters, without_copies)


def the_timer_has_no_owner(patch: Patch) -> None:
    """Without rule 18 (the timer's owner): no process owns the timer's lane."""
    replace_rule(
        patch,
        Assignment,
        Assignment.with_timer,
        lambda _self, of: [lane for lane in of if lane != TIMER],
    )


def offsets_are_believed(patch: Patch) -> None:
    """Without rule 19 (contiguity): the expected offset follows what is fetched."""
    prepare = RecordParser.prepare

    def believing(
        self: RecordParser, lane: Lane, records: Sequence[Record], end: int | None = None
    ) -> bool:
        for record in records:
            lane.offset_gaps = {lane.fetch_position: record.offset}
            prepare(self, lane, [record])
        return prepare(self, lane, [], end)

    replace_rule(patch, RecordParser, RecordParser.prepare, believing)


def smaller_offsets_are_worked(patch: Patch) -> None:
    """Without rule 19 (contiguity): records below the fetch position are worked again."""

    def anything(
        self: RecordParser, lane: Lane, records: Sequence[Record], _end: int | None = None
    ) -> bool:
        for record in records:
            lane.prepared.append(
                PreparedRecord(lane.key, record.offset, record, self.event_of(record), 0, 0)
            )
            lane.fetch_position = record.offset + 1
        return True

    replace_rule(patch, RecordParser, RecordParser.prepare, anything)


def offset_gaps_are_not_counted(patch: Patch) -> None:
    """Without rule 19 (contiguity): offsets without a record are not counted."""
    prepare = RecordParser.prepare

    def silently(self: RecordParser, lane: Lane, records: Any, end: int | None = None) -> bool:
        before = len(lane.prepared)
        done = prepare(self, lane, records, end)
        lane.prepared[before:] = [
            record._replace(gap_before=0) for record in lane.prepared[before:]
        ]
        return done

    replace_rule(patch, RecordParser, RecordParser.prepare, silently)


def offset_gaps_are_believed_once(patch: Patch) -> None:
    """Without rule 19 (contiguity): an offset gap that one assignment meets is accepted at once."""
    prepare = RecordParser.prepare

    def trusting(
        self: RecordParser, lane: Lane, records: Sequence[Record], end: int | None = None
    ) -> bool:
        if records and records[0].offset > lane.fetch_position:
            lane.offset_gaps = {lane.fetch_position: records[0].offset}
        return prepare(self, lane, records, end)

    replace_rule(patch, RecordParser, RecordParser.prepare, trusting)


def ends_are_believed_once(patch: Patch) -> None:
    """Without rule 19 (contiguity): an end that one assignment reports is accepted at once."""
    prepare = RecordParser.prepare

    def trusting(
        self: RecordParser, lane: Lane, records: Sequence[Record], end: int | None = None
    ) -> bool:
        if end is not None and not records:
            lane.offset_gaps = {lane.fetch_position: end}
        return prepare(self, lane, records, end)

    replace_rule(patch, RecordParser, RecordParser.prepare, trusting)


def silence_is_believed(patch: Patch) -> None:
    """Without rule 20 (silence is checked): a partition from which no record comes is taken for
    empty.
    """
    replace_rule(patch, IdleChecks, IdleChecks.compare_ends, lambda *_: None)


# Replays and repeated snapshots, rules 22 to 24.


def copies_of_replays_are_worked(patch: Patch) -> None:
    """Without rule 22 (replay state is locked): the dead letter's state is not checked."""

    def all_of_them(_self: FakeTransaction, ids: Sequence[UUID]) -> frozenset[UUID]:
        return frozenset(ids)

    replace_rule(patch, FakeTransaction, FakeTransaction.lock_dead_letters, all_of_them)


def failures_open_any_dead_letter(patch: Patch) -> None:
    """Without rule 22 (replay state is locked): a copy that fails opens a dead letter that another
    copy has resolved.
    """

    def reopen(self: FakeTransaction, failures: Sequence[tuple[UUID, str, str]]) -> None:
        for dead_letter_id, _, _ in failures:
            self._dead_letters[dead_letter_id].state = "open"

    copies_of_replays_are_worked(patch)
    replace_rule(patch, FakeTransaction, FakeTransaction.reopen_dead_letters, reopen)


def replays_are_in_memory_only(patch: Patch) -> None:
    """Without rule 23 (replay with its bytes): the bytes of a replayed dead letter are not in the
    timer's row.
    """
    row_after = Timer.row_after

    def without_outbox(self: Timer[Any], lane: Lane, outputs: list[Output]) -> LaneUpdate:
        return row_after(self, lane, outputs)._replace(outbox=None)

    replace_rule(patch, Timer, Timer.row_after, without_outbox)


def everything_is_published_again(patch: Patch) -> None:
    """Without rule 24 (publish what differs): a snapshot is published after every effect."""
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
