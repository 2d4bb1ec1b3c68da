"""What a process knows of one lane. Pure bookkeeping: the lane's row decides.

Three numbers matter. `next_offset` is the process's own record of the row's next_offset; a commit
compares the two. `fetch_position` is the offset of the next record to prepare: the one after the
last prepared record, or next_offset if none is prepared. `pending_acks` counts the outputs in the
row that the broker has not acknowledged; while there are any, the lane commits nothing.

An offset gap is a range of offsets that hold no record for a reader: transaction markers, and what
compaction removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from services.runtime.errors import Stop, StublineError
from services.runtime.ports import AcquiredLane, ExpectedLane
from services.runtime.records import LaneKey, Record

NO_GAP = (-1, -1)


class LaneState(Enum):
    """ACQUIRE: has no epoch, its records are dropped. RUNNING: may commit. STOPPED: an operator
    has to decide.
    """

    ACQUIRE = auto()
    RUNNING = auto()
    STOPPED = auto()


class RecordPosition(NamedTuple):
    """Where a record stands in its lane: the same in every attempt."""

    lane: LaneKey
    offset: int


class PreparedRecord(NamedTuple):
    """A record that was fetched and parsed.

    `lane` and `offset` are where it was fetched, `gap_before` is the number of offsets without a
    record just before it, `size` the bytes of key, value and headers as they were fetched.
    """

    lane: LaneKey
    offset: int
    record: Record
    event: Any  # what parse returned, or a Dead, or the Stop that stops the lane here
    gap_before: int
    size: int

    @property
    def position(self) -> RecordPosition:
        return RecordPosition(self.lane, self.offset)


class PendingAcks:
    """Counts the acknowledgements that one commit (or one acquired row) still waits for.

    A lane gets a new counter for each commit, so a late report for an older one changes nothing.
    """

    __slots__ = ("error", "failed", "remaining", "since", "total")

    def __init__(self, total: int, since: float) -> None:
        self.total, self.remaining, self.since = total, total, since
        self.error: StublineError | None = None
        self.failed: int | None = None  # which output of the row failed first

    def report(self, error: StublineError | None, number: int = 0) -> None:
        """Take the delivery report of output `number`. A failure is no acknowledgement."""
        if error is None:
            self.remaining -= 1
        elif self.error is None or (isinstance(error, Stop) and not isinstance(self.error, Stop)):
            self.error, self.failed = error, number


@dataclass(slots=True)
class Lane:
    """One lane that the broker has assigned to this process."""

    key: LaneKey
    state: LaneState = LaneState.ACQUIRE
    epoch: int = -1
    next_offset: int = -1
    fetch_position: int = -1
    topic_id: str = ""
    prepared: list[PreparedRecord] = field(default_factory=list)
    pending_acks: PendingAcks | None = None
    row_holds_outputs: bool = False  # acknowledged or not: what an idle lane may clear
    # Gaps that an earlier assignment met: the first offset of each -> the first offset after it.
    offset_gaps: dict[int, int] = field(default_factory=dict)
    # The gap before the partition's end, once two assignments have met it: its first offset and the
    # first offset after it.
    trailing_gap: tuple[int, int] = NO_GAP
    # How often in a row the client could not read the batch at fetch_position.
    unreadable: int = 0
    # The lane was reset after it had run: its row may hold outputs that are not acknowledged.
    outbox_uncertain: bool = False
    paused_for_acks: bool = False  # its acknowledgements are late: it gets no records meanwhile
    acquire_at: float = 0.0  # not before this time of the loop's clock
    acquire_attempts: int = 0
    stop_code: str | None = None
    commit_at: float = 0.0  # the loop's clock at the last commit
    last_timestamp_ms: int = -1

    @property
    def expected(self) -> ExpectedLane:
        """What a commit compares with the row."""
        return ExpectedLane(self.key, self.epoch, self.next_offset)

    @property
    def may_commit(self) -> bool:
        return self.state is LaneState.RUNNING and self.pending_acks is None

    def reset(self) -> None:
        """Drop batch, position and pending outputs, any of which may be wrong."""
        self.outbox_uncertain = self.outbox_uncertain or self.state is LaneState.RUNNING
        self.state = LaneState.ACQUIRE
        self.epoch = self.next_offset = self.fetch_position = -1
        self.prepared.clear()
        self.pending_acks = None
        self.row_holds_outputs = self.paused_for_acks = False
        self.stop_code = None
        self.offset_gaps, self.trailing_gap, self.unreadable = {}, NO_GAP, 0

    def run_from(self, row: AcquiredLane) -> None:
        """Run from the row's next offset on.

        The caller publishes the row's outputs before anything is committed.
        """
        self.reset()
        self.state, self.outbox_uncertain = LaneState.RUNNING, False
        self.epoch, self.topic_id = row.epoch, row.topic_id
        self.next_offset = self.fetch_position = row.next_offset
        self.row_holds_outputs = row.outbox is not None
        self.acquire_attempts = 0

    def mark_stopped(self, code: str) -> None:
        """Commit and fetch nothing until an operator resolves the stop."""
        self.reset()
        self.state, self.stop_code = LaneState.STOPPED, code
        self.outbox_uncertain = False

    def drop_prepared(self) -> None:
        self.prepared.clear()
        self.fetch_position = self.next_offset

    @property
    def scanned_end(self) -> int:
        """The end of the offsets that were scanned for records: the fetch position, or the end of a
        trailing gap that begins there. Every record before it is prepared.
        """
        begin, end = self.trailing_gap
        return end if begin == self.fetch_position else self.fetch_position

    @property
    def trailing_gap_offsets(self) -> int:
        """The number of offsets in the trailing gap, if it can be committed now: all prepared
        records are committed and their outputs acknowledged. Otherwise 0.
        """
        return (
            self.scanned_end - self.fetch_position if self.may_commit and not self.prepared else 0
        )

    def advance_over_trailing_gap(self, at: float) -> None:
        """Advance to the end of the trailing gap, which is committed."""
        self.next_offset = self.fetch_position = self.scanned_end
        self.row_holds_outputs = False
        self.commit_at = at

    def advance(self, taken: int, at: float) -> None:
        """Advance over the first `taken` prepared records, which are committed."""
        last = self.prepared[taken - 1]
        self.next_offset = last.offset + 1
        self.last_timestamp_ms = last.record.timestamp_ms
        del self.prepared[:taken]
        self.commit_at = at


def unacknowledged(lanes: Iterable[Lane]) -> dict[LaneKey, int]:
    """Return the number of outputs without an acknowledgement, by lane."""
    return {lane.key: lane.pending_acks.remaining for lane in lanes if lane.pending_acks}
