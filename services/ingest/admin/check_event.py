"""Checks a storefront's event before it is published, by the code that will parse it afterwards."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from pydantic import BaseModel

from schemas.callbacks import NATIVE, TOPIC, NativeLine, NativePerson
from schemas.envelope import NotAnEvent
from schemas.text import did_you_mean, rfc3339
from schemas.topics import MIB
from services.ingest import vendors
from services.ingest.errors import CallbackMisaddressed
from services.ingest.rules.facts import ParsedCallback
from services.ingest.settings import ROOM_BYTES
from services.runtime.errors import Poison
from services.runtime.records import Record

AHEAD_MAX = timedelta(minutes=5)  # clocks differ
WARNINGS_MAX = 10  # of one kind
RECORD_BYTES_MAX = MIB - ROOM_BYTES
CLOUD_EVENTS = "application/cloudevents+json"
Headers = list[tuple[str, bytes | None]]


class NotAnEventFileError(ValueError):
    """The file holds nothing that could be published. The message names what it may hold."""


@dataclass(frozen=True, slots=True)
class EventDraft:
    """A record as it would be published. `supplied` names what was missing in the file and filled
    in, so that the rest can be checked.
    """

    key: str
    headers: Headers
    value: bytes
    supplied: tuple[str, ...] = ()

    def record(self) -> Record:
        return Record(TOPIC, 0, 0, 0, to_bytes(self.key), self.value, self.headers)


@dataclass(frozen=True, slots=True)
class EventCheck:
    """`fault` is the dead letter that the event would become; `warnings` are about what is accepted
    and probably a mistake.
    """

    draft: EventDraft
    callback: ParsedCallback | None
    fault: str = ""
    warnings: tuple[str, ...] = ()


def to_bytes(text: str) -> bytes:
    r"""Encode a lone surrogate (`\ud800`) too, so that the parser of the record names the fault."""
    return text.encode("utf-8", "surrogatepass")


def draft_from(text: bytes, key: str | None) -> EventDraft:
    """Read a file: an order, a structured CloudEvent, or a record as `kcat -J` writes it. Raises
    NotAnEventFileError.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAnEventFileError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise NotAnEventFileError(
            "it is not a JSON object: write the order, a structured CloudEvent, or a record of "
            "`kcat -J`"
        )
    if "payload" in document or "headers" in document:
        return _from_kcat(document, key)
    if "specversion" in document:
        return EventDraft(
            key or _key(_data(document)),
            [("content-type", CLOUD_EVENTS.encode())],
            text,
            _missing(key),
        )
    return EventDraft(
        key or _key(document),
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"check-event"),
            ("ce_type", NATIVE.encode()),
            ("ce_source", to_bytes(f"/sources/{document.get('source', '')}")),
            ("ce_time", rfc3339(datetime.now(UTC)).encode()),
            ("content-type", b"application/json"),
        ],
        text,
        ("headers", *_missing(key)),
    )


def _from_kcat(record: Mapping[str, Any], key: str | None) -> EventDraft:
    header_items, payload = record.get("headers") or [], record.get("payload")
    if (
        not isinstance(header_items, list)
        or len(header_items) % 2
        or not all(isinstance(item, str | None) for item in header_items)
    ):
        raise NotAnEventFileError(
            "`headers` is a list of names and values in turn, as `kcat -J` writes it"
        )
    if not isinstance(payload, str | None):
        raise NotAnEventFileError(
            "`payload` is the record's value as a text, as `kcat -J` writes it"
        )
    headers: Headers = [
        (
            str(header_items[index]),
            None if header_items[index + 1] is None else to_bytes(header_items[index + 1]),
        )
        for index in range(0, len(header_items), 2)
    ]
    return EventDraft(str(key or record.get("key") or ""), headers, to_bytes(payload or ""))


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of a structured event; empty when it is not an object."""
    given, encoded = event.get("data"), event.get("data_base64")
    if isinstance(encoded, str):
        with suppress(ValueError, RecursionError):
            given = json.loads(base64.b64decode(encoded, validate=True))
    return given if isinstance(given, dict) else {}


def _key(order: Mapping[str, Any]) -> str:
    return f"{order.get('source', '')}:{order.get('order_id', '')}"


def _missing(key: str | None) -> tuple[str, ...]:
    return () if key else ("key",)


def check(draft: EventDraft, now: datetime) -> EventCheck:
    """Return what ingest would make of the event. Nothing is published, and no server is needed."""
    if len(draft.value) > RECORD_BYTES_MAX:
        return EventCheck(
            draft,
            None,
            f"it has {len(draft.value):,} bytes; the topic takes {RECORD_BYTES_MAX:,}",
        )
    try:
        callback = vendors.parse(draft.record())
    except NotAnEvent as error:
        return EventCheck(draft, None, f"not-an-event: {error}")
    except Poison as error:
        wanted = (
            f": {error.wanted}" if isinstance(error, CallbackMisaddressed) and error.wanted else ""
        )
        return EventCheck(draft, None, f"{error.code}: {error.cause}{wanted}")
    return EventCheck(draft, callback, warnings=tuple(_warnings(draft, callback, now)))


def _warnings(draft: EventDraft, callback: ParsedCallback, now: datetime) -> Iterator[str]:
    names = [name for name, _ in draft.headers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"header {', '.join(twice)} is repeated: the last value wins"
    for drift_notice in callback.drift:
        yield (
            f"{drift_notice.kind}: {drift_notice.cause}; the order is accepted without it, and "
            "each such order is counted as an incident"
        )
    newest = _newest_time(callback)
    if newest is not None and newest > now + AHEAD_MAX:
        yield (
            f"modified_at is {rfc3339(newest)}, ahead of this clock: until then nothing else "
            "that is sent of this order counts"
        )
    is_structured = (
        (dict(draft.headers).get("content-type") or b"")
        .lower()
        .startswith(b"application/cloudevents")
    )
    if "headers" not in draft.supplied and "ce_time" not in names and not is_structured:
        yield "ce_time is missing: nobody can find out later when it was sent"
    yield from islice(_unread_fields(draft.value), WARNINGS_MAX)


def _newest_time(callback: ParsedCallback) -> datetime | None:
    """Return the newest time by the order's own clock. Facts of other sources are not versioned by
    a time alone.
    """
    try:
        return max(
            (datetime.fromisoformat(fact.version.partition("/")[0]) for fact in callback.facts),
            default=None,
        )
    except ValueError:
        return None


def _unread_fields(value: bytes) -> Iterator[str]:
    """Yield a warning for each field of an order that is not read: a misspelt `recipient` would be
    no gift.
    """
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    order = _data(document) if "specversion" in document else document
    lines_value = order.get("lines")
    lines = (
        [line for line in lines_value if isinstance(line, dict)]
        if isinstance(lines_value, list)
        else []
    )
    checked_parts: list[tuple[str, object, type[BaseModel]]] = [
        ("buyer", order.get("buyer"), NativePerson)
    ]
    checked_parts += [(f"lines.{index}", line, NativeLine) for index, line in enumerate(lines)]
    checked_parts += [
        (f"lines.{index}.recipient", line.get("recipient"), NativePerson)
        for index, line in enumerate(lines)
    ]
    for where, part, model in checked_parts:
        for name in sorted(
            part.keys() - model.model_fields.keys() if isinstance(part, dict) else ()
        ):
            yield f"{where}.{name} is not read{did_you_mean(name, model.model_fields)}"
