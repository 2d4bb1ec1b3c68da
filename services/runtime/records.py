"""What comes in, and the four ways in which it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from schemas.envelope import Output
from services.runtime.errors import StublineError

# Of key, value and headers together. What is made of a record (its dead letter's row, the copy for
# the dead topic, the replay) is bounded by this, so that it always fits into a transaction and a
# topic of 8 MiB.
RECORD_BYTES_MAX = 8 * 2**20 - 2**17
HEADER_OVERHEAD_BYTES = 8  # of each header, beside its name and its value: their lengths


class LaneKey(NamedTuple):
    """One partition of the consumer group. The timer's lane is `("@timer", 0)`."""

    topic: str
    partition: int


TIMER = LaneKey("@timer", 0)


# In place of headers that the client itself cannot read: one of their names is not UTF-8.
UNREADABLE_HEADERS: Sequence[tuple[str, bytes | None]] = (("stubline-headers-unreadable", b"1"),)


class Record(NamedTuple):
    """Bytes with an offset. A replayed record shows the topic, partition and offset at which it was
    first consumed.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  # as the topic keeps it; -1 when it has none
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    dead_letter_id: UUID | None = None  # the dead letter that it replays

    def header(self, name: str) -> bytes | None:
        """The last header of that name, as Kafka's own clients read it; header names may repeat."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None


def record_bytes(record: Record) -> int:
    """Bytes of key, value and headers as a letter's row keeps them. Called once a record."""
    size = (
        len(record.key or b"")
        + len(record.value or b"")
        + HEADER_OVERHEAD_BYTES * len(record.headers)
    )
    try:
        pieces: Any = chain.from_iterable(record.headers)
        size += sum(map(len, pieces))
    except TypeError:  # a header without a value
        size += sum(len(name) + len(content or b"") for name, content in record.headers)
    if size <= RECORD_BYTES_MAX // 4:
        return size
    longer = sum(
        len(name.encode("utf-8", "surrogatepass")) - len(name) for name, _ in record.headers
    )
    return size + longer


class TruncatedValue(NamedTuple):
    """What is known of a value of which a dead letter keeps only the first part."""

    value_bytes: int
    value_sha256: bytes


class Event(Protocol):
    """What an effect says: a snapshot that can write itself as a record."""

    def encode(self, *, time: str, traceparent: str | None) -> Output:
        """As CloudEvents 1.0 in binary mode. `time` is the transaction's, `traceparent` this
        hop's.
        """
        ...


@dataclass(frozen=True, slots=True)
class Effect:
    """The record changed what is known. Its outputs are published after the commit; counts are
    raised after it too.
    """

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
    subject_key: str | None = (
        None  # whose data it is, if the service knows better than its `subject` does
    )
    unexpected: bool = False  # raised, not returned: counts towards the brake
    truncated: TruncatedValue | None = (
        None  # of a record that is kept in part: its letter cannot be replayed
    )


Outcome: TypeAlias = Effect | Duplicate | Superseded | Dead
