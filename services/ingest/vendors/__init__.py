"""Parses what sources send: which order it is about, its facts, and the idempotency key.

Each vendor is one folder of this package. Its module `webhook` has the same three functions as
every other (`verify`, `identify`, `normalise`) and a `SOURCE` that names them; its module `poll`,
if it has one, is described in `polls`. A callback comes through the webhook endpoint, which has
verified it, or is published by a storefront itself, whose right to write the broker has checked.
"""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module

from pydantic import ValidationError

from schemas.envelope import CloudEvent, NotAnEvent, read_event
from services.ingest.errors import CallbackTypeUnknown, CallbackUnreadable
from services.ingest.rules.facts import ParsedCallback, RecordOrigin, log_position
from services.ingest.vendors.shared.source import ReceivedCallback, Source
from services.runtime.records import Record, pack_headers

DEPTH = __name__.count(".") + 2  # services.ingest.vendors.<vendor>.<module>


def find_sources() -> dict[str, Source]:
    """Return every source that a module of a vendor's folder declares, by its kind."""
    modules = [
        import_module(module.name)
        for module in pkgutil.walk_packages(__path__, f"{__name__}.")
        if module.name.count(".") == DEPTH
    ]
    declared = [
        source
        for module in modules
        if isinstance(source := getattr(module, "SOURCE", None), Source)
    ]
    return {source.kind: source for source in declared}


ALL_SOURCES = find_sources()
SOURCES_BY_TYPE = {source.type: source for source in ALL_SOURCES.values()}  # by ce_type
# by the name in the sources file
WEBHOOK_SOURCES = {kind: source for kind, source in ALL_SOURCES.items() if source.has_webhook}
# CloudEvents extensions that the webhook endpoint sets, from the sources file
ORDERS_OF, DECIMALS = "ordersof", "decimals"
DIGIT = re.compile(r"[0-8]", re.ASCII)
SLUG = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
CE_SOURCE = re.compile(r"/sources/([a-z0-9-]{1,32})", re.ASCII)
FAULTS_MAX, LOCATION_CHARS_MAX = 5, 100


def parse(record: Record) -> ParsedCallback:
    """Parse a record. Raises NotAnEvent or Poison, whatever the bytes are."""
    event = read_event(record.headers, record.value)
    source = SOURCES_BY_TYPE.get(event.type)
    if source is None:
        raise CallbackTypeUnknown(f"of the type {event.type[:LOCATION_CHARS_MAX]!r}")
    received = received_callback(event, record)
    try:
        callback = source.normalise(received)._replace(received=received.time)
        return with_origin(callback, record) if callback.drift else callback
    except NotAnEvent:
        raise
    except ValidationError as error:  # its own text would carry the input into logs
        raise CallbackUnreadable(validation_text(error)) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise CallbackUnreadable(f"{type(error).__name__}: {error}"[:500]) from None


def with_origin(callback: ParsedCallback, record: Record) -> ParsedCallback:
    """Return the callback with its record's origin in what is kept, so that a later release can
    replay it.
    """
    origin = RecordOrigin(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp_ms,
        record.key,
        pack_headers(record.headers),
    )
    return callback._replace(
        drift=tuple(
            drift_notice._replace(origin=origin) if drift_notice.is_kept else drift_notice
            for drift_notice in callback.drift
        )
    )


def received_callback(event: CloudEvent, record: Record) -> ReceivedCallback:
    """Return the parts of the event that a source parses."""
    match = CE_SOURCE.fullmatch(event.source)
    if match is None:
        raise NotAnEvent(
            f"ce_source is {event.source[:LOCATION_CHARS_MAX]!r}, and a callback's is "
            "/sources/<slug>"
        )
    attributes = event.attributes
    orders_of = attributes.get(ORDERS_OF, "")
    if orders_of and not SLUG.fullmatch(orders_of):
        raise NotAnEvent(f"ce_{ORDERS_OF} is no source's name")
    if (decimals := attributes.get(DECIMALS)) is not None and not DIGIT.fullmatch(decimals):
        raise NotAnEvent(f"ce_{DECIMALS} is no number from 0 to 8")
    # Positional arguments take half the time of keywords.
    return ReceivedCallback(
        match[1],
        event.id,
        attributes.get("callbacktopic", ""),
        attributes.get("time", ""),
        record.key or b"",
        event.data or b"",
        orders_of,
        None if decimals is None else int(decimals),
        log_position(record.timestamp_ms, record.offset, record.partition),
    )


def validation_text(error: ValidationError) -> str:
    """Return what is wrong, without what was sent: names of fields and pydantic's messages."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    lines = [
        f"{'.'.join(map(str, fault['loc']))[:LOCATION_CHARS_MAX] or 'body'}: {fault['msg']}"
        for fault in faults[:FAULTS_MAX]
    ]
    return "; ".join(lines) + (
        f"; and {len(faults) - FAULTS_MAX} more" if len(faults) > FAULTS_MAX else ""
    )
