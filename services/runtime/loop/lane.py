"""What a process believes of one lane. Pure bookkeeping: the row in the ledger decides, this only
remembers.

Three numbers matter. `expected` is the process's own record of the row's next_offset; a commit
compares it. `tail` is the next offset to be prepared: expected, plus what stands prepared. An
`PendingAcks` counts the outputs of the row that are not yet acknowledged; as long as there is one,
the lane commits nothing.
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
    """ACQUIRE: no epoch, its records are dropped. RUNNING: may commit. STOPPED: an operator
    decides.
    """

    ACQUIRE = auto()
    RUNNING = auto()
    STOPPED = auto()


class RecordPosition(NamedTuple):
    """Where a record stands in its lane: the same in every try."""

    lane: LaneKey
    offset: int


class PreparedRecord(NamedTuple):
    """A record that was fetched and parsed.

    `lane` and `offset` say by which way it came, `gap` is the number of offsets without a record
    just before it, `size` the bytes of key, value and headers as they were fetched.
    """

    lane: LaneKey
    offset: int
    record: Record
    event: Any  # what parse made of it, or Dead
    gap: int
    size: int

    @property
    def place(self) -> RecordPosition:
        return RecordPosition(self.lane, self.offset)


class PendingAcks:
    """Outputs of one commit (or of one row taken over) on their way. Late answers to an old outbox
    touch nothing.
    """

    __slots__ = ("error", "failed", "remaining", "since", "total")

    def __init__(self, total: int, since: float) -> None:
        self.total, self.remaining, self.since = total, total, since
        self.error: StublineError | None = None
        self.failed: int | None = (
            None  # the place in the row of the output whose delivery failed first
        )

    def answer(self, error: StublineError | None, place: int = 0) -> None:
        """A failed delivery is not an acknowledgement."""
        if error is None:
            self.remaining -= 1
        elif self.error is None or (isinstance(error, Stop) and not isinstance(self.error, Stop)):
            self.error, self.failed = error, place


@dataclass(slots=True)
class Lane:
    key: LaneKey
    state: LaneState = LaneState.ACQUIRE
    epoch: int = -1
    expected: int = -1
    tail: int = -1
    topic_id: str = ""
    prepared: list[PreparedRecord] = field(default_factory=list)
    outbox: PendingAcks | None = None
    row_holds_outputs: bool = False  # acknowledged or not: what an idle lane may clear
    # Holes as an earlier assignment met them: the first offset of each -> the first offset after
    # it.
    holes: dict[int, int] = field(default_factory=dict)
    # Two assignments met no record from the one offset to the other, which is the partition's end.
    empty: tuple[int, int] = NO_HOLE
    unreadable: int = 0  # times in a row that the client could not read what stands at tail
    in_doubt: bool = (
        False  # it was ours and was forgotten: its row may hold outputs that nobody has published
    )
    left_out: bool = False  # its acknowledgements are late: paused, and no records are taken for it
    acquire_at: float = 0.0  # not before this time of the loop's clock
    acquire_tries: int = 0
    stop_code: str | None = None
    commit_at: float = 0.0  # the loop's clock at the last commit
    last_timestamp_ms: int = -1

    @property
    def claim(self) -> ExpectedLane:
        return ExpectedLane(self.key, self.epoch, self.expected)

    @property
    def may_commit(self) -> bool:
        return self.state is LaneState.RUNNING and self.outbox is None

    def forget(self) -> None:
        """Batch, position and pending outputs: whatever was believed may be wrong."""
        self.in_doubt = self.in_doubt or self.state is LaneState.RUNNING
        self.state = LaneState.ACQUIRE
        self.epoch = self.expected = self.tail = -1
        self.prepared.clear()
        self.outbox = None
        self.row_holds_outputs = self.left_out = False
        self.stop_code = None
        self.holes, self.empty, self.unreadable = {}, NO_HOLE, 0

    def hold(self, held: AcquiredLane) -> None:
        """Ours, from the row's next offset on. The caller publishes what the row holds before
        anything is committed.
        """
        self.forget()
        self.state, self.in_doubt = LaneState.RUNNING, False
        self.epoch, self.topic_id = held.epoch, held.topic_id
        self.expected = self.tail = held.next_offset
        self.row_holds_outputs = held.unpublished is not None
        self.acquire_tries = 0

    def halt(self, code: str) -> None:
        self.forget()
        self.state, self.stop_code, self.in_doubt = LaneState.STOPPED, code, False

    def drop_prepared(self) -> None:
        self.prepared.clear()
        self.tail = self.expected

    @property
    def read_to(self) -> int:
        """Up to here the partition holds no record that was not prepared: the tail, or the end of a
        hole at it.
        """
        begin, end = self.empty
        return end if begin == self.tail else self.tail

    @property
    def hole_at_end(self) -> int:
        """Offsets without a record from tail to the end of the partition; 0 unless all that came is
        committed.
        """
        return self.read_to - self.tail if self.may_commit and not self.prepared else 0

    def step_over(self, at: float) -> None:
        """The hole at the end of the partition is committed."""
        self.expected = self.tail = self.read_to
        self.row_holds_outputs = False
        self.commit_at = at

    def advance(self, taken: int, at: float) -> None:
        """The first `taken` prepared records are committed."""
        last = self.prepared[taken - 1]
        self.expected = last.offset + 1
        self.last_timestamp_ms = last.record.timestamp_ms
        del self.prepared[:taken]
        self.commit_at = at


def unacknowledged(lanes: Iterable[Lane]) -> dict[LaneKey, int]:
    return {lane.key: lane.outbox.remaining for lane in lanes if lane.outbox}
