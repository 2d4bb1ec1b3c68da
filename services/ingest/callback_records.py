"""Callbacks as records for Kafka, alike whether the webhook endpoint or a poll received them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from uuid import uuid4

from schemas.callbacks import received
from schemas.envelope import Input
from services.ingest.config.sources_file import SourceConfig
from services.ingest.vendors import DECIMALS, ORDERS_OF
from services.ingest.vendors.shared.poll import FoundObject
from services.ingest.vendors.shared.source import JSON

UNKNOWN_ID = "?"  # stands for an unknown source or order


def records(
    config: SourceConfig, callback_type: str, body: bytes, event_id: str = ""
) -> Iterator[Input]:
    """Yield one record for each distinct piece of a body.

    A record's key is its order's, wherever the order can be read, so that all of an order's records
    are in one partition. `event_id` is the sender's own id, if it has one.
    """
    source = config.source
    # a piece that a body holds twice is published once
    for piece in dict.fromkeys(source.split_events(body)):
        order = next(iter(source.order_ids(piece)), None)
        yield record(
            config,
            callback_type,
            piece,
            order,
            kind=source.type,
            media=source.media,
            event_id=event_id,
        )


def poll_records(config: SourceConfig, found_object: FoundObject) -> Iterator[Input]:
    """Yield the records of an object that a poll found, as if the vendor had sent it."""
    body = config.source.without_cards(found_object.body)
    if found_object.external_id is None and found_object.type == config.source.type:
        yield from records(config, found_object.callback_type, body)
    else:
        yield record(
            config,
            found_object.callback_type,
            body,
            found_object.external_id,
            kind=found_object.type,
            media=JSON,
        )


def record(
    config: SourceConfig,
    callback_type: str,
    body: bytes,
    order: str | None,
    *,
    kind: str,
    media: bytes,
    event_id: str = "",
) -> Input:
    extensions = {"callbacktopic": callback_type} if callback_type else {}
    if config.orders_of:
        extensions[ORDERS_OF] = config.orders_of
    if config.decimals is not None:
        extensions[DECIMALS] = str(config.decimals)
    return received(
        body,
        source=config.slug,
        key=f"{config.orders_of or config.slug}:{order}"
        if order
        else f"{config.slug}:{UNKNOWN_ID}{hashlib.sha256(body).hexdigest()[:16]}",
        kind=kind,
        reception_id=event_id or uuid4().hex,
        content_type=media.decode(),
        **extensions,
    )
