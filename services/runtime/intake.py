"""From fetched records to prepared ones: offsets compared, bytes parsed. No transaction is open here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from schemas.envelope import NotAnEvent, WordOfANewerRelease
from services.runtime import letters
from services.runtime.errors import NewerRelease, NotAnEventError, Poison, Stop, UnexpectedError
from services.runtime.lane import Lane, Prepared
from services.runtime.logs import describe
from services.runtime.records import UNREADABLE_HEADERS, Dead, Record
from services.runtime.telemetry import Telemetry


class Intake:
    """Turns records into events, or into what stands in their place: a Dead, or the Stop that halts their lane."""

    def __init__(self, parse: Callable[[Record], Any], replay_topic: str, telemetry: Telemetry) -> None:
        self._parse, self._replay_topic, self._telemetry = parse, replay_topic, telemetry

    def prepare(self, lane: Lane, records: Sequence[Record]) -> bool:
        """False when an offset does not follow on: nothing from there is prepared, and the lane must be assigned again.

        A smaller offset than the next is a record seen before, and is never worked (model/: rule 19). A hole is believed
        when two assignments in a row begin behind it at the same record: one alone may be the client's jump, as seen with
        confluent-kafka 2.16 while an answer of the broker to an older question was on its way.
        """
        key, prepared, tail, gap = lane.key, lane.prepared, lane.tail, 0
        read = self._replay if key.topic == self._replay_topic else self._read
        for record in records:
            offset = record.offset
            if offset != tail:
                if offset < tail:
                    continue
                if not lane.first_wanted or lane.doubted != offset:
                    lane.doubted = offset if lane.first_wanted else None
                    return False
                gap = offset - tail
            origin, event = read(record)
            prepared.append(Prepared(key, offset, origin, event, gap))
            lane.tail = tail = offset + 1
            gap, lane.first_wanted, lane.doubted = 0, False, None
        return True

    def _replay(self, record: Record) -> tuple[Record, Any]:
        try:
            origin = letters.replayed(record)
        except Poison as error:
            return record, Dead(error)
        return self._read(origin)

    def _read(self, record: Record) -> tuple[Record, Any]:
        if record.headers is UNREADABLE_HEADERS:
            return record, Dead(NotAnEventError("the name of a header is not UTF-8, so no header can be read or kept"))
        return record, self._event(record)

    def _event(self, record: Record) -> Any:
        """Whatever parse raises is that record's end and harms no neighbour; deep JSON raises RecursionError, for one."""
        try:
            return self._parse(record)
        except Stop as error:
            return error
        except WordOfANewerRelease as error:
            return NewerRelease(f"{record.topic} {record.partition} {record.offset}: {error}")
        except NotAnEvent as error:
            return Dead(NotAnEventError(str(error)))
        except Poison as error:
            return Dead(error)
        except Exception as error:  # noqa: BLE001 - a stranger's bytes may raise anything
            self._telemetry.unexpected((record.topic, record.partition, record.offset), error)
            return Dead(UnexpectedError(describe(error)), unexpected=True)
