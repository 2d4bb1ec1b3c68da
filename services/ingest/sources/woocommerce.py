"""WooCommerce: webhooks signed over the raw body, told once, in any order, with the state at the time of telling.

The delivery id names a second, not a callback, so it is no key. The topic is not covered by the signature: it only tells
deleted from restored from told, and a deletion must also look like one (a body with nothing but an id).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.callbacks import WOOCOMMERCE
from schemas.orders import Currency
from services.ingest.errors import AmountUnreadable, CallbackForeign, CallbackUnreadable, WebhookRefused
from services.ingest.rules import facts
from services.ingest.sources.money import exponent, minor
from services.ingest.sources.signing import hmac_fits
from services.ingest.sources.source import Delivery, Received, Source, amount, bounded, distinct, reasonable, status
from services.ingest.sources.text import email, unescaped
from services.ingest.sources.woocommerce_cards import without_cards
from services.ingest.sources.woocommerce_lines import NOTHING, Extra, extra

SIGNATURE = b"x-wc-webhook-signature"
TOPIC = b"x-wc-webhook-topic"
DELETED, RESTORED = "order.deleted", "order.restored"
RESTORED_WITHIN = timedelta(days=1)  # shops' queues stand still for hours
TOLD = frozenset({"order.created", "order.updated", RESTORED, ""})  # "": a proxy took the header; the body is an order
LEADING_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*([0-9]{1,19})\s*[,}]')
ENTITY = re.compile(
    r"&(?:(amp|#0*38|#x0*26)|(lt|#0*60|#x0*3c)|(gt|#0*62|#x0*3e)|(quot|#0*34|#x0*22)|(#0*39|#x0*27));", re.IGNORECASE
)
MEANT = "&<>\"'"
PAYMENT_META = frozenset({"_stripe_intent_id", "_stripe_charge_id", "_adyen_psp_reference", "_ppcp_paypal_capture_id"})
REFERENCE = re.compile(r"[A-Za-z0-9_-]{6,200}", re.ASCII)
QUANTITY_MAX, QUANTITY_DIGITS = 1_000_000, 7
STATUS_CHARS_MAX = 40  # as in schemas.orders
PAYMENTS_MAX = 20  # that an order names
PING = re.compile(rb"webhook_id=[0-9]{1,20}")

Id = Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]  # numbers are read as text (coerce_numbers_to_str)
Text = Annotated[str | None, Field(max_length=10_000)]
Number = Annotated[str, Field(max_length=40)]  # neither null nor empty: nothing is not nought
At = datetime | None


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class Billing(Part):
    first_name: Text = None
    last_name: Text = None
    email: Text = None


class LineItem(Part):
    id: Id
    name: Text = None
    product_id: Id | None = None
    sku: Text = None
    quantity: Number
    total: Number
    meta_data: object = None  # by plugins: read on its own, so that nothing in it costs the order


class Refund(Part):
    total: Number


class Told(Part):
    """An order as REST v3 shows it: what is needed of it."""

    id: Id
    number: Text = None
    status: Annotated[str, Field(min_length=1, max_length=43)]
    currency: Currency
    date_created_gmt: At = None
    date_modified_gmt: At = None
    date_paid_gmt: At = None
    total: Number
    billing: Billing
    line_items: Annotated[list[LineItem], Field(max_length=500)]
    refunds: Annotated[list[Refund] | None, Field(max_length=1_000)] = None
    transaction_id: Text = None
    meta_data: object = None


class Deleted(Part):
    """Nothing but an id: what is more than that is another callback with a wrong topic."""

    id: Id
    status: None = None
    line_items: None = None


Shape = TypeVar("Shape", Told, Deleted)


def verify(delivery: Delivery) -> bool:
    """base64(HMAC-SHA256(secret, raw body)). No time is signed: an old delivery stays valid, and is known as a repeat."""
    return hmac_fits(delivery, delivery.headers.get(SIGNATURE, b""))


def key_of(secret: str) -> bytes:
    """As WordPress signs: with its five special characters decoded, once."""
    return ENTITY.sub(lambda found: MEANT[(found.lastindex or 1) - 1], secret).encode()


def topic(headers: Mapping[bytes, bytes]) -> str:
    return headers.get(TOPIC, b"").decode("ascii", "replace")


def orders(body: bytes) -> tuple[str | None]:
    """WordPress writes the id first."""
    found = LEADING_ID.match(body)
    return (found[1].decode() if found else None,)


def is_ping(delivery: Delivery) -> bool:
    """What a shop sends, unsigned, when a webhook is saved: it demands 200, and says nothing."""
    return SIGNATURE not in delivery.headers and PING.fullmatch(delivery.body.strip()) is not None


def identify(received: Received, order: Told | Deleted) -> str:
    """Source, order, topic, and of a full order the second of its clock and its status."""
    name = f"{received.source}:{order.id} {received.topic or 'order'}"
    if isinstance(order, Deleted):
        return name
    at = order.date_modified_gmt
    return f"{name} {at.isoformat() if at else ''} {status(order.status)}"


def normalise(received: Received) -> facts.Callback:
    if received.topic == DELETED:
        gone = validated(Deleted, received.body)
        deletion = facts.deletion_fact(received.position, is_deleted=True)
        return facts.callback(identify(received, gone), f"{received.source}:{gone.id}", (deletion,))
    if received.topic not in TOLD:
        raise CallbackForeign(f"its topic is {received.topic[:100]!r}, and only order.* is about orders")
    order = validated(Told, received.body)
    extras = [extra(item.meta_data) if item.meta_data else NOTHING for item in order.line_items]
    word = status(order.status)
    written = storefront(order, word, extras)
    told: tuple[facts.Fact, ...] = facts.written_facts(written, word, modified(order), received.position)
    if received.topic == RESTORED:
        told += (facts.deletion_fact(restored_at(received, order), is_deleted=False),)
    return facts.callback(
        identify(received, order),
        f"{received.source}:{order.id}",
        told,
        payments=payments(received, order),
        notices=noticed(received, order, extras),
    )


def noticed(received: Received, order: Told, extras: Sequence[Extra]) -> tuple[facts.Notice, ...]:
    """Chosen numbers that cannot be printed, and gifts to nobody, by the key under which they stood; and fields for whose want
    something else was taken: the order as never refunded, or as changed when it was made.
    """
    told = [("unusable-number", f"line_items.meta_data.{it.unusable}") for it in extras if it.unusable]
    told += [("unusable-recipient", f"line_items.meta_data.{it.nobody}") for it in extras if it.nobody]
    if order.date_modified_gmt is None:
        told.append(("missing-field", "date_modified_gmt"))
    if order.refunds is None:
        told.append(("missing-field", "refunds"))
    if not told:
        return ()
    return tuple([facts.Notice(received.source, kind, what, received.body) for kind, what in sorted(set(told))])


def validated(kind: type[Shape], body: bytes) -> Shape:
    try:
        return kind.__pydantic_validator__.validate_json(body)  # type: ignore[no-any-return]  # the validator is untyped
    except ValidationError:
        if said := refusal(body):
            raise WebhookRefused(said) from None
        raise


def refusal(body: bytes) -> str:
    """What a shop signs and sends when the user who made the webhook may not read the order: an error of its REST API."""
    try:
        told = orjson.loads(body)
    except ValueError:
        return ""
    data = told.get("data") if isinstance(told, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("status"), int) or not {"code", "message"} <= told.keys():
        return ""
    why = "the user who made the webhook may not read orders any more" if data["status"] in {401, 403} else "no order"
    return f"an error of the shop's REST API, status {data['status']:d}, code {str(told['code'])[:60]!r}: {why}"


def payments(received: Received, order: Told) -> list[str]:
    """What the gateway's plugin wrote down of the payment: how it is called there."""
    references: list[object] = [order.transaction_id]
    if isinstance(order.meta_data, list):
        entries = [it for it in order.meta_data if isinstance(it, dict) and isinstance(it.get("key"), str)]
        references += [it.get("value") for it in entries if it["key"] in PAYMENT_META]
    return [
        facts.payment(received.source, text)
        for text in references[:PAYMENTS_MAX]
        if isinstance(text, str) and REFERENCE.fullmatch(text)
    ]


def restored_at(received: Received, order: Told) -> str:
    """The record's position in the log, but not long after the order was last changed, and a restoration changes it.

    The topic is not signed: without this an order's old body, sent again as restored, would undo any later deletion.
    """
    return min(received.position, facts.sortable(modified(order) + RESTORED_WITHIN))


def modified(order: Told) -> datetime:
    at = order.date_modified_gmt or order.date_created_gmt
    if at is None:
        raise CallbackUnreadable("the order has neither date_modified_gmt nor date_created_gmt")
    return utc(at)


def storefront(order: Told, word: str, extras: Sequence[Extra]) -> bytes:
    """A Storefront, byte for byte as the model writes it, at a fraction of its cost."""
    digits, billing, refunds = exponent(order.currency), order.billing, order.refunds
    distinct([item.id for item in order.line_items])
    if len(word) > STATUS_CHARS_MAX:
        raise CallbackUnreadable(f"the status is longer than {STATUS_CHARS_MAX}")
    name = " ".join(filter(None, (billing.first_name, billing.last_name)))
    return orjson.dumps(
        {
            "status": word,
            "channel": "",
            "number": unescaped(order.number or order.id, 64),
            "currency": order.currency,
            "total_minor": amount(minor(order.total, digits)),
            "refunded_minor": amount(sum(abs(minor(it.total, digits)) for it in refunds)) if refunds else 0,
            "placed_at": reasonable(offset(order.date_created_gmt)) if order.date_created_gmt else None,
            "paid_at": utc(order.date_paid_gmt) if order.date_paid_gmt else None,
            "buyer": {"name": unescaped(name, 200), "email": email(billing.email or "")},
            "lines": [line(item, beside, digits) for item, beside in zip(order.line_items, extras, strict=True)],
        },
        option=orjson.OPT_UTC_Z,
    )


def line(item: LineItem, beside: Extra, digits: int) -> dict[str, object]:
    person = beside.recipient
    return {
        "line_id": item.id,
        "product_id": item.product_id or "",
        "sku": unescaped(item.sku or "", 100),
        "name": unescaped(item.name or "", 300),
        "quantity": quantity(item.quantity),
        "total_minor": amount(minor(item.total, digits)),
        "recipient": None if person is None else {"name": person[0], "email": person[1]},
        "numbers": beside.numbers,
        "is_eticket": None,
    }


def quantity(text: str) -> int:
    """Whole ones: of 1.5 kg beside the tickets nobody gets half a ticket."""
    if text.isdecimal() and text.isascii() and len(text) < QUANTITY_DIGITS:
        return int(text)
    try:
        whole = minor(text, 20) // 10**20
    except AmountUnreadable:
        raise CallbackUnreadable("a quantity is no decimal number") from None
    if whole > QUANTITY_MAX:
        raise CallbackUnreadable(f"a quantity is above {QUANTITY_MAX}")
    return max(whole, 0)


def utc(at: datetime) -> datetime:
    """Within bounds."""
    return bounded(offset(at))


def offset(at: datetime) -> datetime:
    """`*_gmt` has none and is UTC."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


SOURCE = Source(
    kind="woocommerce",
    type=WOOCOMMERCE,
    verify=verify,
    normalise=normalise,
    orders=orders,
    topic=topic,
    is_ping=is_ping,
    key_of=key_of,
    without_cards=without_cards,
)
