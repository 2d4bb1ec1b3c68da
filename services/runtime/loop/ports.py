"""What the loop needs of the world: a log (Kafka) and a ledger (PostgreSQL). Each has a second,
in-memory implementation in services/runtime/testing, and one suite of laws runs over both.
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
DeliveryCallback: TypeAlias = Callable[[StublineError | None], None]


@dataclass(slots=True)
class FetchResult:
    """What one fetch brought: records by lane in the log's sequence, lanes whose offset the log
    does not have, and what the broker refuses until somebody gives a right back: a lane's records,
    or (None) the place in the group.

    `ends`: where a partition ends for readers, reported once for each end; all records before it
    have been given. `unreadable`: lanes whose next batch the client cannot unpack, reported again
    and again.
    """

    records: dict[LaneKey, list[Record]] = field(default_factory=dict)
    ends: dict[LaneKey, int] = field(default_factory=dict)
    unreadable: dict[LaneKey, str] = field(default_factory=dict)
    out_of_range: dict[LaneKey, str] = field(default_factory=dict)
    refused: dict[LaneKey | None, str] = field(default_factory=dict)
    stamped_by_producers: set[str] = field(
        default_factory=set
    )  # topics of records whose time is not the broker's


class RebalanceListener(Protocol):
    """Learns, inside `fetch`, what the group's coordinator says. It does no I/O but deliveries;
    what it raises comes out of `fetch` once the client is through with the callback.
    """

    def assigned(self, lanes: Collection[LaneKey]) -> None: ...
    def revoked(self, lanes: Collection[LaneKey]) -> None: ...
    def lost(self, lanes: Collection[LaneKey]) -> None: ...


class BrokerClient(Protocol):
    """One member of a consumer group, with its producer. Calls may raise BrokerAway or
    ProducerFailed.
    """

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None: ...
    def fetch(self, records_max: int, timeout_s: float) -> FetchResult:
        """Newly assigned lanes come paused, and stay silent until `start_at`."""
        ...

    def assigned(self) -> frozenset[LaneKey]:
        """The lanes that the client itself takes for its own."""
        ...

    def start_at(self, lane: LaneKey, offset: int) -> None: ...
    def pause(self, lanes: Collection[LaneKey]) -> None: ...
    def resume(self, lanes: Collection[LaneKey]) -> None: ...
    def produce(self, output: Output, answer: DeliveryCallback) -> None:
        """`answer(None)` once every in-sync replica has it; with a Stop when it can never be taken,
        else with a Transient. Called inside `deliveries`.
        """
        ...

    def deliveries(self, timeout_s: float) -> None: ...
    def ends(self, lane: LaneKey) -> tuple[int, int] | None:
        """(low, high) watermarks as last heard of, without asking."""
        ...

    def bounds(self, lane: LaneKey) -> tuple[int, int]:
        """(low, high) watermarks, asked of the broker."""
        ...

    def ask_ends(self, lanes: Collection[LaneKey]) -> Callable[[], Mapping[LaneKey, int]]:
        """Last stable offsets, up to which records may be read, asked of the broker at once;
        answers without waiting, and without those that are not known yet.
        """
        ...

    def unreadable_to(self, lane: LaneKey, offset: int) -> int | None:
        """The first offset after the batch at `offset`, which the client cannot read. None: it was
        not found in time.
        """
        ...

    def topic_ids(self, topics: Collection[str]) -> Callable[[], Mapping[str, str]]:
        """Asks at once, answers when called: the question overlaps with other work. Without those
        that are not there, or that we may not see.
        """
        ...

    def lanes_total(self) -> int:
        """Partitions of all subscribed topics, as last heard of."""
        ...

    def hint(self, positions: Mapping[LaneKey, int]) -> None:
        """Tells lag tools how far the group is. Nothing reads it back."""
        ...

    def close(self, timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class AcquiredLane:
    """A lane's row as its new owner found it."""

    epoch: int
    next_offset: int
    topic_id: str
    unpublished: bytes | None


class Acquisition(NamedTuple):
    held: dict[LaneKey, AcquiredLane]
    stopped: dict[LaneKey, str]  # lane -> code of the stop that nobody has resolved
    missing: frozenset[LaneKey]  # no row yet


class ExpectedLane(NamedTuple):
    """What the process believes of a row. A commit compares both (model/: rule 7)."""

    lane: LaneKey
    epoch: int
    next_offset: int


class LaneAdvance(NamedTuple):
    claim: ExpectedLane
    next_offset: int
    unpublished: bytes | None
    gaps: int
    effects: int
    duplicates: int
    superseded: int
    dead: int


class DeadLetter(NamedTuple):
    """A dead letter, in the words in which it is stored."""

    record: Record
    topic_id: str
    stage: str
    code: str
    text: str
    trace_id: str | None
    subject_key: str | None
    original: TruncatedValue | None = None  # only the first part of the record is kept


class ReplayRequest(NamedTuple):
    """A letter whose bytes go back to their own group."""

    letter_id: UUID
    record: Record


class LockedLanes(NamedTuple):
    lost: frozenset[LaneKey]
    now: datetime


class Controls(NamedTuple):
    paused: bool
    rate_limit_per_s: float | None


class Transaction(Protocol[S_co]):
    """One commit of lanes and work. Left without `commit`, it is rolled back."""

    @property
    def session(self) -> S_co: ...
    def lock(self, claims: Sequence[ExpectedLane]) -> LockedLanes: ...
    def lock_letters(self, ids: Sequence[UUID]) -> frozenset[UUID]:
        """Those in state `replayed`, locked (model/: rule 22)."""
        ...

    def resolve_letters(self, ids: Sequence[UUID]) -> None: ...
    def reopen_letters(self, failures: Sequence[tuple[UUID, str, str]]) -> None: ...
    def add_letters(self, letters: Sequence[DeadLetter]) -> list[tuple[UUID, int]]:
        """Ids and attempts so far, in the sequence of the letters."""
        ...

    def take_requested(self, letters_max: int, bytes_max: int) -> list[ReplayRequest]:
        """Turns requested letters into replayed ones. Whoever calls it publishes them with this
        commit.
        """
        ...

    def trial(self) -> AbstractContextManager[None]:
        """Whatever happens inside is rolled back at its end."""
        ...

    def advance(self, rows: Sequence[LaneAdvance]) -> None:
        """Raises LaneFenced when a row is not as claimed."""
        ...

    def commit(self) -> None: ...


class Ledger(Protocol[S_co]):
    """The rows of one consumer group."""

    def acquire(self, lanes: Sequence[LaneKey]) -> Acquisition:
        """Raises the epochs of the free rows. A row that somebody is just committing is left out:
        ask again.
        """
        ...

    def add_lanes(self, lanes: Mapping[LaneKey, tuple[str, int]]) -> None:
        """Rows for lanes seen for the first time: topic id and first offset. An existing row stays
        as it is.
        """
        ...

    def transaction(self) -> AbstractContextManager[Transaction[S_co]]: ...
    def compare(self, claims: Sequence[ExpectedLane]) -> frozenset[LaneKey]:
        """Those whose row is no longer as claimed."""
        ...

    def conservation(self, lanes: Sequence[LaneKey]) -> Mapping[LaneKey, int]:
        """Consumed records less those with an outcome."""
        ...

    def clear_unpublished(self, claims: Sequence[ExpectedLane]) -> None:
        """Empties what is acknowledged in rows that are still as claimed (model/: rule 8)."""
        ...

    def stop(self, claim: ExpectedLane, code: str, text: str) -> None:
        """Marks the row, if it is still as claimed, and raises its epoch."""
        ...

    def controls(self) -> Controls: ...
    def pause_service(self, code: str, text: str) -> None: ...
    def letters_requested(self) -> bool: ...
    def backlog(self, ask: Callable[[S_co], str | None]) -> str | None: ...
    def reconnect(self) -> None:
        """Raises DatabaseAway or DatabaseRefuses."""
        ...

    def close(self) -> None: ...
