"""From the bytes that a source sent to a callback: which order, which facts, and the key by which a repeat is known.

Each source is one module with the same three functions (`Source`). A callback comes through the door, which has verified it,
or is published by a storefront itself, whose right to write the broker has checked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from schemas.callbacks import NATIVE, WOOCOMMERCE
from schemas.envelope import CloudEvent, NotAnEvent, read_event
from services.ingest.errors import CallbackForeign, CallbackUnreadable
from services.ingest.rules import Callback
from services.ingest.sources import native, woocommerce
from services.ingest.sources.source import Received, Source

if TYPE_CHECKING:
    from services.runtime.records import Record

SOURCES: dict[str, Source] = {WOOCOMMERCE: woocommerce, NATIVE: native}  # by ce_type
KINDS: dict[str, Source] = {"woocommerce": woocommerce}  # what the door takes, by the name in the sources file
TYPES = {"woocommerce": WOOCOMMERCE}
CE_SOURCE = re.compile(r"/sources/([a-z0-9-]{1,32})", re.ASCII)
FAULTS_MAX, LOCATION_CHARS_MAX = 5, 100


def read(record: Record) -> Callback:
    """Raises NotAnEvent or Poison, whatever the bytes are."""
    event = read_event(record.headers, record.value)
    source = SOURCES.get(event.type)
    if source is None:
        raise CallbackForeign(f"of the type {event.type[:LOCATION_CHARS_MAX]!r}")
    received = accept(event, record.key)
    try:
        return source.normalise(received)
    except NotAnEvent:
        raise
    except ValidationError as error:  # whose own text would carry the input into letters and logs
        raise CallbackUnreadable(told(error)) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise CallbackUnreadable(f"{type(error).__name__}: {error}"[:500]) from None


def accept(event: CloudEvent, key: bytes | None) -> Received:
    """The parts of an event by which a callback is judged."""
    found = CE_SOURCE.fullmatch(event.source)
    if found is None:
        raise NotAnEvent(f"ce_source is {event.source[:LOCATION_CHARS_MAX]!r}, and a callback's is /sources/<slug>")
    attributes = event.attributes
    return Received(
        source=found[1],
        id=event.id,
        topic=attributes.get("callbacktopic", ""),
        time=attributes.get("time", ""),
        key=key or b"",
        body=event.data or b"",
    )


def told(error: ValidationError) -> str:
    """What is wrong, without what was sent: names of fields and pydantic's words."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    lines = [
        f"{'.'.join(map(str, it['loc']))[:LOCATION_CHARS_MAX] or 'body'}: {it['msg']}" for it in faults[:FAULTS_MAX]
    ]
    return "; ".join(lines) + (f"; and {len(faults) - FAULTS_MAX} more" if len(faults) > FAULTS_MAX else "")
