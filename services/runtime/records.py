"""What comes in, and the four ways in which it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from schemas.envelope import Output
from services.runtime.errors import StublineError


class LaneKey(NamedTuple):
    """One partition of the consumer group. The timer's lane is `("@timer", 0)`."""

    topic: str
    partition: int


TIMER = LaneKey("@timer", 0)


# In place of headers that the client itself cannot read: one of their names is not UTF-8.
UNREADABLE_HEADERS: Sequence[tuple[str, bytes | None]] = (("stubline-headers-unreadable", b"1"),)


class Record(NamedTuple):
    """Bytes with an offset. A replayed record shows the topic, partition and offset at which it was first consumed."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  # as the topic keeps it; -1 when it has none
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    letter_id: UUID | None = None  # the dead letter that it replays

    def header(self, name: str) -> bytes | None:
        """The last header of that name, as Kafka's own clients read it; header names may repeat."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None


class Event(Protocol):
    """What an effect says: a snapshot that can write itself as a record."""

    def encode(self, *, time: str, traceparent: str | None) -> Output:
        """As CloudEvents 1.0 in binary mode. `time` is the transaction's, `traceparent` this hop's."""
        ...


@dataclass(frozen=True, slots=True)
class Effect:
    """The record changed what is known. Its outputs are published after the commit; counts are raised after it too."""

    outputs: Sequence[Event] = ()
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Said before: the same (generation, sequence) of the writer, or the same input."""

    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """Something newer was applied before it."""

    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """It can never succeed: kept with its bytes as a dead letter."""

    error: StublineError
    counts: Mapping[str, int] | None = None
    subject_key: str | None = None  # whose data it is, if the service knows better than its `subject` does
    unexpected: bool = False  # raised, not returned: counts towards the brake


Outcome: TypeAlias = Effect | Duplicate | Superseded | Dead
