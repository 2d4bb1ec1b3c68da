"""A storefront's own orders as CloudEvents: in this project's terms, in minor units, with its own
clock.

A storefront publishes them to Kafka, or posts them to the webhook endpoint, signed as in Standard
Webhooks: base64 of HMAC-SHA256(key, `webhook-id.webhook-timestamp.body`), as `v1,...`, several
separated by blanks. Attributes beside the body are not signed, so the endpoint trusts none of them:
it sets source and type itself, and the order names its source. In structured mode they are in the
body, and show whether it is an order at all.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping

import orjson

from schemas.callbacks import NATIVE, NativeLine, NativeOrder, NativePerson
from schemas.orders import Line, Person, Storefront, order_of
from schemas.text import rfc3339
from services.ingest.errors import CallbackMisaddressed, CallbackTypeUnknown, CallbackUnreadable
from services.ingest.rules import facts
from services.ingest.vendors.native import order as native_order
from services.ingest.vendors.native.cards import without_cards
from services.ingest.vendors.shared import exact_json
from services.ingest.vendors.shared.money import amount_text
from services.ingest.vendors.shared.signing import WHSEC_PREFIX, is_one_of
from services.ingest.vendors.shared.source import (
    ReceivedCallback,
    Source,
    WebhookRequest,
    bounded_time,
    checked_identifier,
    normalised_status,
    refuse_duplicate_lines,
)
from services.ingest.vendors.shared.text import clean, email

EVENT_ID_CHARS_MAX = 200
ID, TIME = re.compile(rb"[!-~]{1,200}"), re.compile(rb"[0-9]{1,15}")
SIGNATURES_MAX = 10
NOBODY = Person()


def signing_key(secret: str) -> bytes:
    """Return the key: `whsec_` and base64, as that specification writes secrets; any other text is
    the key itself.
    """
    if not secret.startswith(WHSEC_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(WHSEC_PREFIX), validate=True)
    except ValueError:
        raise ValueError(f"begins with {WHSEC_PREFIX}, but is not base64 after it") from None


def verify(request: WebhookRequest) -> bool:
    headers = request.headers
    event, at = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
    if (
        not ID.fullmatch(event)
        or not TIME.fullmatch(at)
        or abs(request.at - int(at)) > request.tolerance_s
    ):
        return False
    given, fits = headers.get(b"webhook-signature", b"").split(), False
    expected = [signature(secret, event, at, request.body) for secret in request.secrets]
    for signature_given in given[:SIGNATURES_MAX]:
        fits |= is_one_of(signature_given, expected)
    return fits


def signature(key: bytes, event: bytes, at: bytes, body: bytes) -> bytes:
    return b"v1," + base64.b64encode(hmac.digest(key, b"%b.%b.%b" % (event, at, body), "sha256"))


def event_id(request: WebhookRequest) -> str:
    """Return the signed id, which is the same in every repeat."""
    return request.headers.get(b"webhook-id", b"").decode("ascii", "replace")


def unwrap(body: bytes) -> bytes:
    """Return the order from an event in structured mode. Anything else stays as it is, for the
    worker to refuse.
    """
    if b'"specversion"' not in body:
        return body
    try:
        event = exact_json.loads(body)
        if (event["specversion"], event["type"]) != ("1.0", NATIVE):
            return body
        encoded = event.get("data_base64")
        return (
            exact_json.dumps(event["data"])
            if encoded is None
            else base64.b64decode(encoded, validate=True)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return body


def order_ids(body: bytes) -> tuple[str | None]:
    try:
        order_id = orjson.loads(body)["order_id"]
        is_one = isinstance(order_id, str) and order_of(f"shop:{order_id}".encode()) is not None
    except (ValueError, KeyError, TypeError, IndexError):
        return (None,)
    return (order_id if is_one else None,)


def identify(received: ReceivedCallback, order: NativeOrder) -> str:
    """Return the key: source, order and event id. In CloudEvents, source and id identify
    an event.
    """
    if len(received.id) > EVENT_ID_CHARS_MAX:
        raise CallbackUnreadable(f"ce_id is longer than {EVENT_ID_CHARS_MAX}")
    return f"{order.source}:{order.order_id} {checked_identifier(received.id, 'ce_id')}"


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    if b'"specversion"' in received.body:
        refuse_structured_event(received.body)
    order, beside, repairs = native_order.read(received.body)
    order_id = f"{order.source}:{checked_identifier(order.order_id, 'order_id')}"
    if order_of(order_id.encode()) is None:
        raise CallbackUnreadable("order_id begins with ?, or has an invalid character")
    if order.source != received.source:
        raise CallbackMisaddressed(
            f"ce_source is /sources/{received.source}, the order is of {order.source}"
        )
    if received.key != order_id.encode():
        raise CallbackMisaddressed(
            "the record's key is not the order's, source:order_id", wanted=order_id
        )
    modified_at = bounded_time(order.modified_at)
    order_facts: tuple[facts.Fact, ...] = facts.storefront_facts(
        storefront(order, beside), modified_at, received.position
    )
    if order.is_deleted is not None:
        order_facts += (facts.deletion_fact(rfc3339(modified_at), is_deleted=order.is_deleted),)
    drift = tuple(
        facts.DriftNotice(received.source, kind, cause, received.body)
        for kind, cause in sorted(set(repairs))
    )
    return facts.parsed_callback(identify(received, order), order_id, order_facts, drift=drift)


def refuse_structured_event(body: bytes) -> None:
    """Raise the reason why `unwrap` found no order in an event in structured mode."""
    event = orjson.loads(body)
    if not isinstance(event, dict) or "specversion" not in event:
        return
    if (value := event["specversion"]) != "1.0":
        raise CallbackUnreadable(f"specversion is {ascii(value)[:20]}, and this release reads 1.0")
    if (value := event.get("type")) != NATIVE:
        raise CallbackTypeUnknown(f"of the type {ascii(value)[:100]}")
    raise CallbackUnreadable("the event has no data that is an order")


def storefront(order: NativeOrder, beside: Mapping[str, str]) -> Storefront:
    """Return the Storefront. `beside` holds what was written in the place of amounts and a
    currency.
    """
    refuse_duplicate_lines([each.line_id for each in order.lines])
    for each in order.lines:
        checked_identifier(each.line_id, "line_id")
        if not all(number.isprintable() for number in each.numbers):
            raise CallbackUnreadable("a chosen number has a character that cannot be printed")
    return Storefront(
        status=normalised_status(order.status),
        number=clean(order.number, 64),
        currency=order.currency,
        total_minor=order.total_minor,
        refunded_minor=order.refunded_minor,
        placed_at=None if order.placed_at is None else bounded_time(order.placed_at),
        paid_at=None if order.paid_at is None else bounded_time(order.paid_at),
        buyer=person(order.buyer),
        lines=tuple([line(each) for each in order.lines]),
        currency_text=beside.get("currency_text"),
        total_text=beside.get("total_text"),
        refunded_text=beside.get("refunded_text"),
    )


def person(person: NativePerson) -> Person:
    """Return the person with clean texts."""
    return Person(name=clean(person.name, 200), email=email(person.email))


def line(line: NativeLine) -> Line:
    """Return the line with clean texts. Storefronts fill in every field, so a gift without a
    recipient is the buyer's.
    """
    recipient = None if line.recipient is None else person(line.recipient)
    return Line(
        line_id=line.line_id,
        product_id=clean(line.product_id, 64),
        sku=clean(line.sku, 100),
        name=clean(line.name, 300),
        quantity=line.quantity,
        total_minor=line.total_minor,
        recipient=None if recipient == NOBODY else recipient,
        numbers=line.numbers,
        is_eticket=line.is_eticket,
        variation_id=clean(line.variation_id, 64),
        total_text=line.total_text and amount_text(line.total_text),
    )


SOURCE = Source(
    kind="native",
    type=NATIVE,
    verify=verify,
    normalise=normalise,
    order_ids=order_ids,
    signing_key=signing_key,
    event_id=event_id,
    unwrap=unwrap,
    without_cards=without_cards,
    other_media=b"application/cloudevents+json",
)
