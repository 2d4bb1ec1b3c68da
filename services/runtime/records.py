"""Records, their headers as bytes, and the four outcomes that a record can have."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from schemas.envelope import Output, ReadHeaders
from services.runtime.errors import StublineError

# Of key, value and headers together. It bounds what a record turns into (its dead letter's row, the
# copy in the dead topic, the replay), so that this always fits into a transaction and into a topic
# of 8 MiB.
RECORD_BYTES_MAX = 8 * 2**20 - 2**17
HEADER_OVERHEAD_BYTES = 8  # per header, beside its name and its value: their lengths
HEADER_LENGTHS = struct.Struct(">Ii")


class LaneKey(NamedTuple):
    """One partition of the consumer group. The timer's lane is `("@timer", 0)`."""

    topic: str
    partition: int


TIMER = LaneKey("@timer", 0)


# Replaces headers that the client cannot read because one of their names is not UTF-8.
UNREADABLE_HEADERS: Sequence[tuple[str, bytes | None]] = (("stubline-headers-unreadable", b"1"),)


class Record(NamedTuple):
    """Bytes with an offset. A replayed record has the topic, partition and offset at which it was
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
        """Return a header's value. If it is repeated, the last one wins, as in Kafka's clients."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None


def record_bytes(record: Record) -> int:
    """Return the bytes of key, value and headers as a dead letter's row keeps them.

    Called once per record, on the hot path.
    """
    _, _, _, _, key, value, headers, _ = record
    size = (len(key) if key else 0) + (len(value) if value else 0)
    if not headers:
        return size
    size += HEADER_OVERHEAD_BYTES * len(headers)
    try:
        pieces: Any = chain.from_iterable(headers)
        size += sum(map(len, pieces))
    except TypeError:  # a header without a value
        size += sum(len(name) + len(content or b"") for name, content in headers)
    if size <= RECORD_BYTES_MAX // 4:
        return size
    return size + sum(len(name.encode("utf-8", "surrogatepass")) - len(name) for name, _ in headers)


def pack_headers(headers: ReadHeaders) -> bytes:
    """Serialize headers as (u32 length, i32 length or -1 for null, name, value) each.

    Not as JSON: names may repeat, and values are any bytes or null.
    """
    return b"".join(
        HEADER_LENGTHS.pack(len(name), -1 if value is None else len(value)) + name + (value or b"")
        for name, value in (
            (text.encode("utf-8", "surrogatepass"), content) for text, content in headers
        )
    )


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    """Deserialize what `pack_headers` wrote."""
    headers: list[tuple[str, bytes | None]] = []
    at = 0
    while at < len(packed):
        name_length, value_length = HEADER_LENGTHS.unpack_from(packed, at)
        middle = at + HEADER_LENGTHS.size + name_length
        name = packed[at + HEADER_LENGTHS.size : middle].decode("utf-8", "surrogatepass")
        at = middle + max(value_length, 0)
        headers.append((name, None if value_length < 0 else packed[middle:at]))
    return headers


class TruncatedValue(NamedTuple):
    """Length and hash of a value of which a dead letter keeps only the first part."""

    value_bytes: int
    value_sha256: bytes


class Event(Protocol):
    """An output of an effect: a snapshot that can be encoded as a record."""

    def encode(self, *, time: str, traceparent: str | None) -> Output:
        """Encode as CloudEvents 1.0 in binary mode.

        `time` is the transaction's time, `traceparent` the trace context of this hop.
        """
        ...


@dataclass(frozen=True, slots=True)
class Effect:
    """The record changed something. After the commit its outputs are published and its counts are
    added.
    """

    outputs: Sequence[Event] = ()
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Applied before: the same (generation, sequence) of the writer, or the same input."""

    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer snapshot of the same writer and key was applied before it."""

    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """The record can never succeed: it is kept with its bytes as a dead letter."""

    error: StublineError
    counts: Mapping[str, int] | None = None
    subject_key: str | None = None  # replaces what the service's `subject` returns
    unexpected: bool = False  # raised, not returned: counts towards the failure rate
    truncated: TruncatedValue | None = None  # of a record that is kept in part: no replay


Outcome: TypeAlias = Effect | Duplicate | Superseded | Dead
