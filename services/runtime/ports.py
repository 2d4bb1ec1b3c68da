"""The loop's two dependencies: a broker client (Kafka) and a lane store (PostgreSQL).

Each has a second, in-memory implementation in services/runtime/testing, and one suite of laws runs
over both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

from schemas.envelope import Output
from services.runtime.errors import StublineError
from services.runtime.records import LaneKey, Record, TruncatedValue

S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")
DeliveryCallback: TypeAlias = Callable[[StublineError | None], None]


@dataclass(slots=True)
class FetchResult:
    """What one fetch brought.

    `records`: by lane, in the order of the log. `ends`: where a partition ends for readers; each
    end is reported once, after all records before it. `unreadable`: lanes whose next batch the
    client cannot unpack, reported at every attempt. `out_of_range`: lanes whose offset the
    partition does not hold. `refused`: lanes whose records the broker refuses for lack of a right;
    the key None stands for the membership in the group.
    """

    records: dict[LaneKey, list[Record]] = field(default_factory=dict)
    ends: dict[LaneKey, int] = field(default_factory=dict)
    unreadable: dict[LaneKey, str] = field(default_factory=dict)
    out_of_range: dict[LaneKey, str] = field(default_factory=dict)
    refused: dict[LaneKey | None, str] = field(default_factory=dict)
    # Topics of records that carry their producers' timestamps.
    producer_stamped: set[str] = field(default_factory=set)


class RebalanceListener(Protocol):
    """Is called inside `fetch` when the group coordinator changes the assignment.

    It does no I/O except waiting for acknowledgements. What it raises is raised by `fetch`, after
    the client has finished its callback.
    """

    def assigned(self, lanes: Collection[LaneKey]) -> None: ...
    def revoked(self, lanes: Collection[LaneKey]) -> None: ...
    def lost(self, lanes: Collection[LaneKey]) -> None: ...


class BrokerClient(Protocol):
    """One member of a consumer group, with its producer.

    Calls may raise BrokerUnavailable or ProducerFailed.
    """

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None: ...
    def fetch(self, records_max: int, timeout_s: float) -> FetchResult:
        """Fetch records. A newly assigned lane is paused until `start_at` is called for it."""
        ...

    def assigned(self) -> frozenset[LaneKey]:
        """Return the lanes that the client believes to be assigned to it."""
        ...

    def start_at(self, lane: LaneKey, offset: int) -> None: ...
    def pause(self, lanes: Collection[LaneKey]) -> None: ...
    def resume(self, lanes: Collection[LaneKey]) -> None: ...
    def produce(self, output: Output, on_delivery: DeliveryCallback) -> None:
        """Produce one record. `on_delivery` is called inside `poll_deliveries`: with None once
        every in-sync replica has the record, with a Stop if the broker will never take it, else
        with a Transient.
        """
        ...

    def poll_deliveries(self, timeout_s: float) -> None: ...
    def ends(self, lane: LaneKey) -> tuple[int, int] | None:
        """Return the (low, high) watermarks from the client's cache."""
        ...

    def bounds(self, lane: LaneKey) -> tuple[int, int]:
        """Return the (low, high) watermarks, requested from the broker."""
        ...

    def request_ends(self, lanes: Collection[LaneKey]) -> Callable[[], Mapping[LaneKey, int]]:
        """Request the last stable offsets, up to which records may be read.

        The request is sent at once. The returned function does not wait: it returns the offsets
        that have arrived so far.
        """
        ...

    def unreadable_to(self, lane: LaneKey, offset: int) -> int | None:
        """Return the first offset after the unreadable batch at `offset`, or None if it was not
        found in time.
        """
        ...

    def topic_ids(self, topics: Collection[str]) -> Callable[[], Mapping[str, str]]:
        """Request the ids of topics.

        The request is sent at once, and the returned function waits for the response: it overlaps
        with other work. Topics that do not exist, or that we may not see, are left out.
        """
        ...

    def lanes_total(self) -> int:
        """Return the number of partitions of all subscribed topics, from the client's cache."""
        ...

    def commit_group_offsets(self, positions: Mapping[LaneKey, int]) -> None:
        """Have the group's offsets committed for lag tools. Stubline never reads them back."""
        ...

    def close(self, timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class AcquiredLane:
    """A lane's row as its new owner found it. `outbox` holds outputs that may be unpublished."""

    epoch: int
    next_offset: int
    topic_id: str
    outbox: bytes | None


class Acquisition(NamedTuple):
    """The result of trying to acquire lanes."""

    acquired: dict[LaneKey, AcquiredLane]
    stopped: dict[LaneKey, str]  # lane -> code of a stop that no operator has resolved
    missing: frozenset[LaneKey]  # no row yet


class ExpectedLane(NamedTuple):
    """What this process expects to find in a row. A commit compares both (model/: rule 7, compare
    and advance).
    """

    lane: LaneKey
    epoch: int
    next_offset: int


class LaneUpdate(NamedTuple):
    """How a commit changes a lane's row."""

    expected: ExpectedLane
    next_offset: int
    outbox: bytes | None
    gaps: int
    effects: int
    duplicates: int
    superseded: int
    dead: int


class DeadLetter(NamedTuple):
    """A dead letter as it is stored."""

    record: Record
    topic_id: str
    stage: str
    code: str
    text: str
    trace_id: str | None
    subject_key: str | None
    truncated: TruncatedValue | None = None  # set if only the first part of the record is kept


class ReplayRequest(NamedTuple):
    """A dead letter whose bytes go back to their own group."""

    dead_letter_id: UUID
    record: Record


class LockedLanes(NamedTuple):
    """The result of locking rows. `fenced`: lanes whose rows are not as expected."""

    fenced: frozenset[LaneKey]
    now: datetime


class Controls(NamedTuple):
    paused: bool
    rate_limit_per_s: float | None


class Transaction(Protocol[S_co]):
    """One commit of lanes and work. It is rolled back unless `commit` is called."""

    @property
    def session(self) -> S_co: ...
    def lock(self, expected: Sequence[ExpectedLane]) -> LockedLanes: ...
    def lock_dead_letters(self, ids: Sequence[UUID]) -> frozenset[UUID]:
        """Lock and return those that are in state `replayed` (model/: rule 22, replay state is
        locked).
        """
        ...

    def resolve_dead_letters(self, ids: Sequence[UUID]) -> None: ...
    def reopen_dead_letters(self, failures: Sequence[tuple[UUID, str, str]]) -> None: ...
    def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> list[tuple[UUID, int]]:
        """Store dead letters and return their ids and attempts, in the same order."""
        ...

    def take_replay_requests(self, dead_letters_max: int, bytes_max: int) -> list[ReplayRequest]:
        """Mark requested dead letters as replayed, and return them. The caller publishes them with
        this commit.
        """
        ...

    def rolled_back(self) -> AbstractContextManager[None]:
        """Run a block in a savepoint that is rolled back at its end, whatever happens inside."""
        ...

    def advance(self, rows: Sequence[LaneUpdate]) -> None:
        """Raises LaneFenced if a row is not as expected."""
        ...

    def commit(self) -> None: ...


class LaneStore(Protocol[S_co]):
    """The rows of one consumer group: its lanes, dead letters and controls."""

    def acquire(self, lanes: Sequence[LaneKey]) -> Acquisition:
        """Raise the epochs of the free rows. A row that is locked by a commit is left out: try
        again later.
        """
        ...

    def add_lanes(self, lanes: Mapping[LaneKey, tuple[str, int]]) -> None:
        """Add rows for new lanes, with topic id and first offset. Existing rows are unchanged."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction[S_co]]: ...
    def compare(self, expected: Sequence[ExpectedLane]) -> frozenset[LaneKey]:
        """Return the lanes whose row is no longer as expected."""
        ...

    def conservation(self, lanes: Sequence[LaneKey]) -> Mapping[LaneKey, int]:
        """Return, per lane, the consumed records less those with an outcome."""
        ...

    def clear_outbox(self, expected: Sequence[ExpectedLane]) -> None:
        """Empty the outbox of rows that are still as expected (model/: rule 8, outbox until
        acknowledged).
        """
        ...

    def stop(self, expected: ExpectedLane, code: str, text: str) -> None:
        """Mark the row as stopped and raise its epoch, if it is still as expected."""
        ...

    def controls(self) -> Controls: ...
    def pause_service(self, code: str, text: str) -> None: ...
    def has_replay_requests(self) -> bool: ...
    def read(self, query: Callable[[S_co], T]) -> T:
        """Return what a service reads outside of any batch."""
        ...

    def reconnect(self) -> None:
        """Open a new connection. Raises DatabaseUnavailable or DatabaseRefused."""
        ...

    def close(self) -> None: ...
