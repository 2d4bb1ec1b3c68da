"""Dead letters as records: the copy in the dead topic, and the replay."""

from __future__ import annotations

from uuid import UUID

from schemas.envelope import Output
from services.runtime.errors import ReplayUnknown
from services.runtime.ports import DeadLetter, ReplayRequest
from services.runtime.records import Record

DEAD_LETTER_ID = "stubline-dead-letter-id"
TOPIC, PARTITION, OFFSET, TIME = (
    f"stubline-original-{name}" for name in ("topic", "partition", "offset", "timestamp")
)
REPLAY_HEADERS_BYTES_MAX = 2**12  # of the five headers above
_OWN = frozenset({DEAD_LETTER_ID, TOPIC, PARTITION, OFFSET, TIME})


def dead_output(
    topic: str, group: str, dead_letter: DeadLetter, dead_letter_id: UUID, attempts: int
) -> Output:
    """Return the dead topic's copy: the source's bytes and headers, then text headers with the
    reason.

    `__dlq.errors.*` are the header names of Kafka's share groups (KIP-1191), so that their tools
    can read ours.
    """
    record = dead_letter.record
    own = {
        DEAD_LETTER_ID: str(dead_letter_id),
        "stubline-code": dead_letter.code,
        "stubline-stage": dead_letter.stage,
        "stubline-attempts": str(attempts),
        TIME: str(record.timestamp_ms),
        "__dlq.errors.topic": record.topic,
        "__dlq.errors.partition": str(record.partition),
        "__dlq.errors.offset": str(record.offset),
        "__dlq.errors.group": group,
        "__dlq.errors.delivery.count": str(attempts),
        "__dlq.errors.message": f"{dead_letter.code}: {dead_letter.text}",
    }
    headers = [
        *record.headers,
        *((name, text.encode("utf-8", "replace")) for name, text in own.items()),
    ]
    return Output(topic, record.key, record.value, headers)


def replay_output(topic: str, replay: ReplayRequest) -> Output:
    """Return the source's bytes for the group's replay topic.

    Whether the replay counts is decided by the dead letter's row, not by this record.
    """
    record = replay.record
    own = {
        DEAD_LETTER_ID: str(replay.dead_letter_id),
        TOPIC: record.topic,
        PARTITION: str(record.partition),
        OFFSET: str(record.offset),
        TIME: str(record.timestamp_ms),
    }
    return Output(
        topic,
        record.key,
        record.value,
        [*record.headers, *((name, text.encode()) for name, text in own.items())],
    )


def original_record(record: Record) -> Record:
    """Return a record of the replay topic as it was when it was first consumed.

    Raises ReplayUnknown if it names no dead letter.
    """
    own = {name: value or b"" for name, value in record.headers if name in _OWN}
    try:
        return Record(
            topic=own[TOPIC].decode(),
            partition=int(own[PARTITION]),
            offset=int(own[OFFSET]),
            timestamp_ms=int(own[TIME]),
            key=record.key,
            value=record.value,
            # Ours stand last, so a source's header of the same name survives.
            headers=record.headers[: -len(_OWN)],
            dead_letter_id=UUID(own[DEAD_LETTER_ID].decode()),
        )
    except (KeyError, ValueError) as error:
        raise ReplayUnknown(f"header missing or malformed: {error}") from error
