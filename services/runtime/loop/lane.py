"""What a process knows of one lane. Pure bookkeeping: the row in the ledger decides.

Three numbers matter. `next_offset` is the process's own record of the row's next_offset; a commit
compares the two. `tail` is the offset of the next record to prepare: next_offset, and as many
records as are prepared. `pending_acks` counts the outputs in the row that the broker has not
acknowledged; while there are any, the lane commits nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from services.runtime.errors import Stop, StublineError
from services.runtime.loop.ports import AcquiredLane, ExpectedLane
from services.runtime.records import LaneKey, Record

NO_HOLE = (-1, -1)


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

    `lane` and `offset` are where it was fetched, `gap` is the number of offsets without a record
    just before it, `size` the bytes of key, value and headers as they were fetched.
    """

    lane: LaneKey
    offset: int
    record: Record
    event: Any  # what parse returned, or a Dead, or the Stop that halts the lane here
    gap: int
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
    tail: int = -1
    topic_id: str = ""
    prepared: list[PreparedRecord] = field(default_factory=list)
    pending_acks: PendingAcks | None = None
    row_holds_outputs: bool = False  # acknowledged or not: what an idle lane may clear
    # Holes that an earlier assignment met: the first offset of each -> the first offset after it.
    holes: dict[int, int] = field(default_factory=dict)
    # Two assignments met no record from the one offset to the other, which is the partition's end.
    empty: tuple[int, int] = NO_HOLE
    unreadable: int = 0  # times in a row that the client could not read what stands at tail
    in_doubt: bool = False  # it ran here and was forgotten: its row may hold unpublished outputs
    left_out: bool = False  # its acknowledgements are late: paused, and no records are taken for it
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

    def forget(self) -> None:
        """Forget batch, position and pending outputs: any of them may be wrong."""
        self.in_doubt = self.in_doubt or self.state is LaneState.RUNNING
        self.state = LaneState.ACQUIRE
        self.epoch = self.next_offset = self.tail = -1
        self.prepared.clear()
        self.pending_acks = None
        self.row_holds_outputs = self.left_out = False
        self.stop_code = None
        self.holes, self.empty, self.unreadable = {}, NO_HOLE, 0

    def take_over(self, row: AcquiredLane) -> None:
        """Run from the row's next offset on.

        The caller publishes the row's outputs before anything is committed.
        """
        self.forget()
        self.state, self.in_doubt = LaneState.RUNNING, False
        self.epoch, self.topic_id = row.epoch, row.topic_id
        self.next_offset = self.tail = row.next_offset
        self.row_holds_outputs = row.outbox is not None
        self.acquire_attempts = 0

    def halt(self, code: str) -> None:
        """Stop until an operator resolves it."""
        self.forget()
        self.state, self.stop_code, self.in_doubt = LaneState.STOPPED, code, False

    def drop_prepared(self) -> None:
        self.prepared.clear()
        self.tail = self.next_offset

    @property
    def read_to(self) -> int:
        """The offset below which the partition holds no record that was not prepared: the tail, or
        the end of a hole at the tail.
        """
        begin, end = self.empty
        return end if begin == self.tail else self.tail

    @property
    def hole_at_end(self) -> int:
        """The number of offsets without a record from tail to the end of the partition; 0 unless
        all prepared records are committed.
        """
        return self.read_to - self.tail if self.may_commit and not self.prepared else 0

    def step_over(self, at: float) -> None:
        """Advance over the hole at the end of the partition, which is committed."""
        self.next_offset = self.tail = self.read_to
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
