"""Prepares fetched records: offsets are compared, bytes are parsed. No transaction is open here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from schemas.envelope import NotAnEvent
from schemas.structs import UnknownEnumValue
from services.runtime.errors import (
    NewerRelease,
    NotAnEventError,
    Poison,
    RecordTooLarge,
    Stop,
    UnexpectedError,
)
from services.runtime.loop import dead_letters
from services.runtime.loop.lane import Lane, PreparedRecord
from services.runtime.observability.logs import describe
from services.runtime.observability.telemetry import Telemetry
from services.runtime.records import (
    HEADER_OVERHEAD_BYTES,
    RECORD_BYTES_MAX,
    UNREADABLE_HEADERS,
    Dead,
    Record,
    TruncatedValue,
    record_bytes,
)

# What is kept of a record that is too large.
VALUE_BYTES_KEPT, HEADERS_BYTES_KEPT, KEY_BYTES_KEPT = 2**16, 2**14, 2**10


class RecordParser:
    """Turns a record into its event, or into a Dead, or into the Stop that stops its lane."""

    def __init__(
        self, parse: Callable[[Record], Any], replay_topic: str, telemetry: Telemetry
    ) -> None:
        self._parse, self._replay_topic, self._telemetry = parse, replay_topic, telemetry

    def prepare(self, lane: Lane, records: Sequence[Record], end: int | None = None) -> bool:
        """Prepare records in the order of the log (model/: rule 19, contiguity).

        Returns False if an offset is not contiguous: nothing from there on is prepared, and the
        lane must be assigned again. `end` is the partition's end, if the client has met it.

        An offset below the fetch position was prepared before, and is dropped. An offset gap is
        accepted once two assignments in a row meet it alike. One alone may be a jump of the client,
        as seen with confluent-kafka 2.16 while a broker's response to an older request was on its
        way. All gaps of one fetch are remembered, so that they cost one more assignment together.
        """
        key, prepared, position, gap = lane.key, lane.prepared, lane.fetch_position, 0
        read, bytes_max = self._read, RECORD_BYTES_MAX
        if key.topic == self._replay_topic:
            read, bytes_max = self._replay, RECORD_BYTES_MAX + dead_letters.REPLAY_HEADERS_BYTES_MAX
        lane.unreadable, known_gaps = 0, lane.offset_gaps
        new: Any = tuple.__new__  # as PreparedRecord(...), at half its cost
        for index, record in enumerate(records):
            offset = record.offset
            if offset != position:
                if offset < position:
                    continue
                if known_gaps.get(position) != offset:
                    lane.offset_gaps = _offset_gaps(position, records[index:], end)
                    return False
                gap = offset - position
            elif known_gaps and offset in known_gaps:
                del known_gaps[offset]
                self._telemetry.client_skipped_record(key, offset)
            size = record_bytes(record)
            origin, event = read(record) if size <= bytes_max else _truncated(record, size)
            prepared.append(new(PreparedRecord, (key, offset, origin, event, gap, size)))
            lane.fetch_position = position = offset + 1
            gap = 0
        if end is not None and end > position:
            if lane.offset_gaps.get(position) != end:
                lane.offset_gaps = {position: end}
                return False
            lane.trailing_gap = position, end
        return True

    def _replay(self, record: Record) -> tuple[Record, Any]:
        try:
            origin = dead_letters.original_record(record)
        except Poison as error:
            return record, Dead(error)
        return self._read(origin)

    def _read(self, record: Record) -> tuple[Record, Any]:
        if record.headers is UNREADABLE_HEADERS:
            return record, Dead(
                NotAnEventError(
                    "the name of a header is not UTF-8, so no header can be read or kept"
                )
            )
        return record, self.event_of(record)

    def event_of(self, record: Record) -> Any:
        """Return what `parse` returns. Whatever it raises ends this record only: deeply nested
        JSON, for one, raises RecursionError.
        """
        try:
            return self._parse(record)
        except Stop as error:
            return error
        except UnknownEnumValue as error:
            return NewerRelease(f"{record.topic} {record.partition} {record.offset}: {error}")
        except NotAnEvent as error:
            return Dead(NotAnEventError(str(error)))
        except Poison as error:
            return Dead(error)
        except Exception as error:  # noqa: BLE001 - bytes from outside may raise anything
            self._telemetry.record_failed((record.topic, record.partition, record.offset), error)
            return Dead(UnexpectedError(describe(error)), unexpected=True)


def _offset_gaps(position: int, records: Sequence[Record], end: int | None) -> dict[int, int]:
    """Return the offset gaps from `position` on: the first offset of each -> the first offset after
    it.
    """
    gaps: dict[int, int] = {}
    for record in records:
        if record.offset > position:
            gaps[position] = record.offset
        position = max(position, record.offset + 1)
    if end is not None and end > position:
        gaps[position] = end
    return gaps


def _truncated(record: Record, size: int) -> tuple[Record, Dead]:
    """Return the part of the record that its dead letter keeps. Of the headers, the first ones that
    fit.
    """
    value = record.value or b""
    room = HEADERS_BYTES_KEPT

    def fits(header: tuple[str, bytes | None]) -> bool:
        nonlocal room
        room -= (
            HEADER_OVERHEAD_BYTES
            + len(header[0].encode("utf-8", "surrogatepass"))
            + len(header[1] or b"")
        )
        return room >= 0

    kept = record._replace(
        key=record.key and record.key[:KEY_BYTES_KEPT],
        value=record.value and value[:VALUE_BYTES_KEPT],
        headers=list(takewhile(fits, record.headers)),
    )
    cause = (
        f"{size} bytes of key ({len(record.key or b'')}), value ({len(value)}) and "
        f"{len(record.headers)} headers, "
        f"and {RECORD_BYTES_MAX} can be worked"
    )
    truncated = TruncatedValue(len(value), hashlib.sha256(value).digest())
    return kept, Dead(RecordTooLarge(cause), truncated=truncated)
