"""Dead letters as records: what goes to the dead topic, what a replay carries, and how headers are
kept byte for byte.
"""

from __future__ import annotations

import struct
from uuid import UUID

from schemas.envelope import Output, ReadHeaders
from services.runtime.errors import ReplayUnknown
from services.runtime.loop.ports import DeadLetter, ReplayRequest
from services.runtime.records import Record

_LENGTHS = struct.Struct(">Ii")

DEAD_LETTER_ID = "stubline-letter-id"
TOPIC, PARTITION, OFFSET, TIME = (
    f"stubline-original-{name}" for name in ("topic", "partition", "offset", "timestamp")
)
REPLAY_HEADERS_BYTES_MAX = 2**12  # of these five
_OWN = frozenset({DEAD_LETTER_ID, TOPIC, PARTITION, OFFSET, TIME})


def pack_headers(headers: ReadHeaders) -> bytes:
    """Names may repeat, values be any bytes or null, so no JSON: (u32 length, i32 length or -1,
    name, value) each.
    """
    return b"".join(
        _LENGTHS.pack(len(name), -1 if value is None else len(value)) + name + (value or b"")
        for name, value in (
            (text.encode("utf-8", "surrogatepass"), content) for text, content in headers
        )
    )


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    headers: list[tuple[str, bytes | None]] = []
    at = 0
    while at < len(packed):
        name_length, value_length = _LENGTHS.unpack_from(packed, at)
        middle = at + _LENGTHS.size + name_length
        name = packed[at + _LENGTHS.size : middle].decode("utf-8", "surrogatepass")
        at = middle + max(value_length, 0)
        headers.append((name, None if value_length < 0 else packed[middle:at]))
    return headers


def dead_output(
    topic: str, group: str, letter: DeadLetter, letter_id: UUID, attempts: int
) -> Output:
    """The letter for people and tools: the source's bytes and headers, and text headers that say
    why.

    `__dlq.errors.*` are the names of Kafka's own share groups (KIP-1191), so that tools for those
    read ours.
    """
    record = letter.record
    said = {
        DEAD_LETTER_ID: str(letter_id),
        "stubline-code": letter.code,
        "stubline-stage": letter.stage,
        "stubline-attempts": str(attempts),
        TIME: str(record.timestamp_ms),
        "__dlq.errors.topic": record.topic,
        "__dlq.errors.partition": str(record.partition),
        "__dlq.errors.offset": str(record.offset),
        "__dlq.errors.group": group,
        "__dlq.errors.delivery.count": str(attempts),
        "__dlq.errors.message": f"{letter.code}: {letter.text}",
    }
    headers = [
        *record.headers,
        *((name, text.encode("utf-8", "replace")) for name, text in said.items()),
    ]
    return Output(topic, record.key, record.value, headers)


def replay_output(topic: str, replay: ReplayRequest) -> Output:
    """The source's bytes again, for the same group only. The letter's row, not this record, says
    whether it counts.
    """
    record = replay.record
    said = {
        DEAD_LETTER_ID: str(replay.letter_id),
        TOPIC: record.topic,
        PARTITION: str(record.partition),
        OFFSET: str(record.offset),
        TIME: str(record.timestamp_ms),
    }
    return Output(
        topic,
        record.key,
        record.value,
        [*record.headers, *((name, text.encode()) for name, text in said.items())],
    )


def original_record(record: Record) -> Record:
    """A record of the replay topic, as it was when it was first consumed. Raises ReplayUnknown when
    it names no letter.
    """
    said = {name: value or b"" for name, value in record.headers if name in _OWN}
    try:
        return Record(
            topic=said[TOPIC].decode(),
            partition=int(said[PARTITION]),
            offset=int(said[OFFSET]),
            timestamp_ms=int(said[TIME]),
            key=record.key,
            value=record.value,
            headers=record.headers[
                : -len(_OWN)
            ],  # ours stand last, so a source's header of the same name survives
            letter_id=UUID(said[DEAD_LETTER_ID].decode()),
        )
    except (KeyError, ValueError) as error:
        raise ReplayUnknown(f"header missing or malformed: {error}") from error
