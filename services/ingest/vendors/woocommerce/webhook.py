"""WooCommerce: webhooks signed over the raw body, sent once, in any order, with the state at the
time of sending.

The delivery id names a second, not a callback, so it is no key. The signature does not cover the
callback's type, which the header of the topic names: it only distinguishes deleted, restored and
updated orders, and a deletion must also have the form of one (a body with nothing but an id).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from schemas.callbacks import WOOCOMMERCE
from schemas.structs import encode
from services.ingest.errors import CallbackTypeUnknown
from services.ingest.rules import facts
from services.ingest.vendors.shared.payment_keys import payment_meta_keys
from services.ingest.vendors.shared.php_lists import list_from_php
from services.ingest.vendors.shared.repairs import Repair
from services.ingest.vendors.shared.signing import is_hmac_of_body
from services.ingest.vendors.shared.source import (
    ReceivedCallback,
    Source,
    WebhookRequest,
    normalised_status,
)
from services.ingest.vendors.woocommerce.cards import without_cards
from services.ingest.vendors.woocommerce.lines import NO_META, LineMeta, line_meta
from services.ingest.vendors.woocommerce.order import (
    WooCommerceDeletion,
    WooCommerceOrder,
    gmt_text,
    modified_at,
    read_deletion,
    read_order,
)
from services.ingest.vendors.woocommerce.storefront import storefront

SIGNATURE = b"x-wc-webhook-signature"
TYPE_HEADER = b"x-wc-webhook-topic"
DELETED, RESTORED = "order.deleted", "order.restored"
RESTORED_WITHIN = timedelta(days=1)  # a shop's queue may stand still for hours
# Empty: a proxy removed the header, and the body is an order.
ORDER_CALLBACK_TYPES = frozenset({"order.created", "order.updated", RESTORED, ""})
LEADING_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*([0-9]{1,19})\s*[,}]')
ENTITY = re.compile(
    r"&(?:(amp|#0*38|#x0*26)|(lt|#0*60|#x0*3c)|(gt|#0*62|#x0*3e)|(quot|#0*34|#x0*22)|(#0*39|#x0*27));",
    re.IGNORECASE,
)
ENTITY_CHARACTERS = "&<>\"'"
PAYMENT_META = payment_meta_keys()
REFERENCE = re.compile(r"[A-Za-z0-9_-]{6,200}", re.ASCII)
PAYMENTS_MAX = 20  # that an order names
PING = re.compile(rb"webhook_id=[0-9]{1,20}")


def verify(request: WebhookRequest) -> bool:
    """Check base64(HMAC-SHA256(secret, raw body)). No time is signed: an old callback stays valid,
    and is recognised as a repeat.
    """
    return is_hmac_of_body(request, request.headers.get(SIGNATURE, b""))


def signing_key(secret: str) -> bytes:
    """Return the key as WordPress signs: with its five special characters decoded, once."""
    return ENTITY.sub(lambda match: ENTITY_CHARACTERS[(match.lastindex or 1) - 1], secret).encode()


def callback_type(headers: Mapping[bytes, bytes]) -> str:
    return headers.get(TYPE_HEADER, b"").decode("ascii", "replace")


def order_ids(body: bytes) -> tuple[str | None]:
    """Return the order's id, which WordPress writes first."""
    match = LEADING_ID.match(body)
    return (match[1].decode() if match else None,)


def is_ping(request: WebhookRequest) -> bool:
    """Return whether it is the unsigned request that a shop sends when a webhook is saved; it
    expects 200.
    """
    return SIGNATURE not in request.headers and PING.fullmatch(request.body.strip()) is not None


def identify(received: ReceivedCallback, order: WooCommerceOrder | WooCommerceDeletion) -> str:
    """Return source, order, type, and for a full order the second of its clock and its status."""
    name = f"{received.source}:{order.id} {received.callback_type or 'order'}"
    if isinstance(order, WooCommerceDeletion):
        return name
    at = order.date_modified_gmt
    return f"{name} {at.isoformat() if at else ''} {normalised_status(order.status)}"


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    if received.callback_type == DELETED:
        deletion_of_order = read_deletion(received.body)
        deletion = facts.deletion_fact(received.position, is_deleted=True)
        return facts.parsed_callback(
            identify(received, deletion_of_order),
            f"{received.source}:{deletion_of_order.id}",
            (deletion,),
        )
    if received.callback_type not in ORDER_CALLBACK_TYPES:
        raise CallbackTypeUnknown(
            f"its topic is {received.callback_type[:100]!r}, and only order.* is about orders"
        )
    order, repairs = read_order(received.body)
    extras = [line_meta(item.meta_data) if item.meta_data else NO_META for item in order.line_items]
    word = normalised_status(order.status)
    front = storefront(order, word, extras, received.decimals, repairs)
    at = gmt_text(modified_at(order, repairs))
    known: tuple[facts.Fact, ...] = facts.serialized_storefront_facts(
        encode(front), word, at, received.position
    )
    if received.callback_type == RESTORED:
        known += (facts.deletion_fact(restored_at(received, order), is_deleted=False),)
    return facts.parsed_callback(
        identify(received, order),
        f"{received.source}:{order.id}",
        known,
        payments=payments(received, order, repairs),
        drift=drift_of(received, order, extras, repairs),
    )


def drift_of(
    received: ReceivedCallback,
    order: WooCommerceOrder,
    extras: Sequence[LineMeta],
    repairs: Sequence[Repair],
) -> tuple[facts.DriftNotice, ...]:
    """Return the drift: chosen numbers that cannot be printed and gifts without a recipient, by
    their key; and missing fields that were replaced (an order as never refunded, or as changed when
    it was made).
    """
    drift: list[tuple[str, str]] = [*repairs]
    for meta in extras:
        if meta is not NO_META:
            drift += drift_of_line(meta)
    if order.date_modified_gmt is None:
        drift.append(("missing-field", "date_modified_gmt"))
    if order.refunds is None:
        drift.append(("missing-field", "refunds"))
    if not drift:
        return ()
    return tuple(
        [
            facts.DriftNotice(received.source, kind, cause, received.body)
            for kind, cause in sorted(set(drift))
        ]
    )


def drift_of_line(meta: LineMeta) -> Iterator[tuple[str, str]]:
    if meta.unusable:
        yield "unusable-number", f"line_items.meta_data.{meta.unusable}"
    if meta.nobody:
        yield "unusable-recipient", f"line_items.meta_data.{meta.nobody}"
    if meta.is_no_list:
        yield "unreadable-list", "line_items.meta_data"


def payments(
    received: ReceivedCallback, order: WooCommerceOrder, repairs: list[Repair]
) -> list[str]:
    """Return the payments' names that gateways' plugins wrote into the order."""
    references: list[object] = [order.transaction_id]
    if order.meta_data:
        meta = (
            order.meta_data if isinstance(order.meta_data, list) else list_from_php(order.meta_data)
        )
        if meta is None:
            repairs.append(Repair("unreadable-list", "meta_data"))
        entries = [
            entry
            for entry in meta or ()
            if isinstance(entry, dict) and isinstance(entry.get("key"), str)
        ]
        references += [entry.get("value") for entry in entries if entry["key"] in PAYMENT_META]
    return [
        facts.payment_name(received.source, text)
        for text in references[:PAYMENTS_MAX]
        if isinstance(text, str) and REFERENCE.fullmatch(text)
    ]


def restored_at(received: ReceivedCallback, order: WooCommerceOrder) -> str:
    """Return the record's position in the log, but not long after the order's last change, which a
    restoration is.

    The type is not signed: without this bound an order's old body, sent again as restored, would
    undo any later deletion.
    """
    return min(received.position, gmt_text(modified_at(order, []) + RESTORED_WITHIN))


SOURCE = Source(
    kind="woocommerce",
    type=WOOCOMMERCE,
    verify=verify,
    normalise=normalise,
    order_ids=order_ids,
    callback_type=callback_type,
    is_ping=is_ping,
    signing_key=signing_key,
    has_decimal_amounts=True,
    without_cards=without_cards,
)
