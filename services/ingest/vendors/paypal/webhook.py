"""PayPal: what happened to a payment, in any order and perhaps repeated, each event with its own
id.

An event names the order by what the shop gave PayPal to keep (`custom_id`, or else `invoice_id`),
and the payment by the id of its capture. If the order's id cannot be read nothing is lost: every
order that names the payment gets the movement too.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import NamedTuple

import orjson

from schemas.callbacks import PAYPAL
from schemas.orders import Movement, MovementKind, MovementState
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules import facts
from services.ingest.vendors.paypal.cards import without_cards
from services.ingest.vendors.paypal.objects import (
    PayPalEvent,
    PayPalEventHead,
    PayPalMoney,
    PayPalResource,
)
from services.ingest.vendors.paypal.proof import event_id, read_options, verify
from services.ingest.vendors.shared.gateway import (
    CountedAmount,
    counted_amount,
    kept_callback,
    missing_amount_drift,
)
from services.ingest.vendors.shared.money import EXPONENTS, counted
from services.ingest.vendors.shared.source import (
    ReceivedCallback,
    Source,
    bounded_time,
    bounded_time_or_none,
    checked_identifier,
)
from services.ingest.vendors.shared.text import clean

__all__ = ["SOURCE", "identify", "normalise", "order_ids", "verify", "without_cards"]

RANKS: dict[MovementState, int] = {"open": 20, "done": 50, "failed": 60, "undone": 80}
REFUND_STATES: dict[str, MovementState] = {
    "COMPLETED": "done",
    "PENDING": "open",
    "FAILED": "failed",
    "CANCELLED": "failed",
}
OUTCOMES: dict[str, MovementState] = {
    "RESOLVED_BUYER_FAVOUR": "done",
    "RESOLVED_WITH_PAYOUT": "done",
    "ACCEPTED": "done",
    "RESOLVED_SELLER_FAVOUR": "undone",
    "CANCELED_BY_BUYER": "undone",
    "DENIED": "undone",
}
NOT_PAYMENTS = (
    "CHECKOUT.",
    "BILLING.",
    "CATALOG.",
    "CUSTOMER.ACCOUNT",
    "IDENTITY.",
    "INVOICING.",
    "MERCHANT.",
    "VAULT.",
)
REFERENCE = re.compile(r"[A-Za-z0-9_-]{6,200}", re.ASCII)
EXTERNAL = re.compile(r"(?!\?)\S{1,200}")
CUSTOM = re.compile(
    rb'"(?:custom_id|custom)"\s*:\s*"(?:\{\\"order_id\\"\s*:\s*(?:\\")?([0-9]{1,19})|([0-9A-Za-z_.#-]{1,200})")'
)
INVOICE = re.compile(rb'"(?:invoice_id|invoice_number)"\s*:\s*"([0-9A-Za-z_.#-]{1,200})"')
PAYMENTS_MAX = 10


class PayPalMovement(NamedTuple):
    """What an event type means for the money. If it has no state, the resource has it."""

    kind: MovementKind
    state: MovementState | None = None


MOVED = {
    "PAYMENT.AUTHORIZATION.CREATED": PayPalMovement("authorisation", "done"),
    "PAYMENT.AUTHORIZATION.VOIDED": PayPalMovement("authorisation", "undone"),
    "PAYMENT.CAPTURE.PENDING": PayPalMovement("capture", "open"),
    "PAYMENT.CAPTURE.COMPLETED": PayPalMovement("capture", "done"),
    "PAYMENT.CAPTURE.DENIED": PayPalMovement("capture", "failed"),
    "PAYMENT.CAPTURE.DECLINED": PayPalMovement("capture", "failed"),
    "PAYMENT.CAPTURE.REFUNDED": PayPalMovement("refund"),
    "PAYMENT.CAPTURE.REVERSED": PayPalMovement("refund"),
    "PAYMENT.REFUND.PENDING": PayPalMovement("refund", "open"),
    "PAYMENT.REFUND.COMPLETED": PayPalMovement("refund", "done"),
    "PAYMENT.REFUND.FAILED": PayPalMovement("refund", "failed"),
    "PAYMENT.REFUND.CANCELLED": PayPalMovement("refund", "failed"),
    "CUSTOMER.DISPUTE.CREATED": PayPalMovement("dispute", "open"),
    "CUSTOMER.DISPUTE.UPDATED": PayPalMovement("dispute", "open"),
    "CUSTOMER.DISPUTE.RESOLVED": PayPalMovement("dispute"),
}


def order_ids(body: bytes) -> tuple[str | None]:
    """Return the order's id that the shop gave PayPal to keep, if it is there as plain text."""
    match = CUSTOM.search(body) or INVOICE.search(body)
    return ((match[1] or match[match.lastindex or 1]).decode() if match else None,)


def identify(received: ReceivedCallback, event: PayPalEventHead) -> str:
    """Return source and event id, the same in every transmission."""
    return f"{received.source}:{checked_identifier(event.id, 'id')}"


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    """Parse the event. Only a checksum of the body is signed, so a transmission proves the first
    body that came with it and no other.
    """
    proof = (
        f"{received.source} transmission {received.id}"[:500],
        hashlib.sha256(received.body).digest(),
    )
    return parsed(received)._replace(proof=proof)


def parsed(received: ReceivedCallback) -> facts.ParsedCallback:
    head = PayPalEventHead.model_validate_json(received.body)
    movement_type = MOVED.get(head.event_type)
    if movement_type is None:
        cause = clean(head.event_type, 100) or "?"
        is_reported = not head.event_type.startswith(NOT_PAYMENTS)
        return kept_callback(
            received, identify(received, head), "unknown-type", cause, is_reported=is_reported
        )
    event = PayPalEvent.model_validate_json(received.body)
    resource = event.resource
    references = payments(resource, movement_type.kind)
    order = external_order_id(resource)
    if not references and order is None:
        raise CallbackUnreadable("it names neither a payment nor an order")
    movement, unknown = movement_of(received, event, movement_type, references)
    drift = [
        facts.DriftNotice(received.source, "unknown-status", word, received.body)
        for word in unknown
    ]
    drift += missing_amount_drift(received, movement, head.event_type)
    return facts.parsed_callback(
        identify(received, event),
        None if order is None else f"{received.order_source}:{order}",
        payments=[facts.payment_name(received.order_source, reference) for reference in references],
        movements=(facts.movement_fact(movement, rank=RANKS[movement.state]),),
        drift=tuple(drift),
    )


def movement_of(
    received: ReceivedCallback,
    event: PayPalEvent,
    movement_type: PayPalMovement,
    references: list[str],
) -> tuple[Movement, list[str]]:
    """Return the movement, and the words of its state that are unknown."""
    resource = event.resource
    kind, state, word = movement_state(event, movement_type)
    is_dispute = kind == "dispute"
    paid, reference = (
        (resource.dispute_amount, resource.dispute_id)
        if is_dispute
        else (resource.amount, resource.id)
    )
    if not reference or not REFERENCE.fullmatch(reference):
        raise CallbackUnreadable("resource.id (of a dispute: dispute_id) is missing or malformed")
    movement = Movement(
        gateway=received.source,
        kind=kind,
        reference=reference,
        payment=references[0] if references else reference,
        state=state or "open",
        detail=detail(event),
        at=changed_at(event),
        **(CountedAmount() if paid is None else money(paid))._asdict(),
    )
    return movement, [] if state else [clean(word, 100) or "?"]


def money(paid: PayPalMoney) -> CountedAmount:
    amount_minor = counted(paid.value, EXPONENTS.get(paid.currency_code))
    return counted_amount(
        None if amount_minor is None else abs(amount_minor), paid.value, paid.currency_code
    )


def changed_at(event: PayPalEvent) -> datetime:
    """Return when the resource was last changed, or when the event was made if that is missing or
    unreadable.
    """
    return bounded_time_or_none(event.resource.update_time) or bounded_time(event.create_time)


def movement_state(
    event: PayPalEvent, movement_type: PayPalMovement
) -> tuple[MovementKind, MovementState | None, str]:
    """Return the kind, the state, and PayPal's word for it. The state is None if the word is
    unknown.
    """
    resource, word = event.resource, event.resource.status or ""
    # an update that follows the resolution has this status too
    is_resolved = movement_type.kind == "dispute" and word == "RESOLVED"
    if movement_type.state is not None and not is_resolved:
        return movement_type.kind, movement_type.state, word
    if movement_type.kind == "dispute":
        outcome = (resource.dispute_outcome and resource.dispute_outcome.outcome_code) or ""
        return "dispute", OUTCOMES.get(outcome), outcome
    # the resource of a reversal may be the capture itself
    if capture_of_refund(resource) is None and event.resource_type != "refund":
        return "capture", "undone", word
    return "refund", REFUND_STATES.get(word or "COMPLETED"), word


def detail(event: PayPalEvent) -> str:
    resource = event.resource
    outcome = resource.dispute_outcome.outcome_code if resource.dispute_outcome else None
    words = [
        event.event_type.removeprefix("PAYMENT.").removeprefix("CUSTOMER."),
        resource.status,
        resource.reason,
        outcome,
    ]
    return clean(" ".join(word for word in words if word), 200)


def capture_of_refund(resource: PayPalResource) -> str | None:
    """Return a refund's capture, which is named only by the link upwards."""
    for link in resource.links or ():
        path, _, last = (link.href or "").rstrip("/").rpartition("/")
        if link.rel == "up" and path.endswith("/captures") and REFERENCE.fullmatch(last):
            return last
    return None


def payments(resource: PayPalResource, kind: MovementKind) -> list[str]:
    """Return PayPal's names of the payment, the capture first. The shop's plugin has one of them in
    the order.
    """
    references: list[object] = []
    if kind == "dispute":
        references += [
            reference.seller_transaction_id for reference in resource.disputed_transactions or ()
        ]
    else:
        references += [
            capture_of_refund(resource),
            resource.id if kind in {"capture", "authorisation"} else None,
        ]
        related = resource.supplementary_data.related_ids if resource.supplementary_data else None
        references += [related[name] for name in sorted(related)] if related else []
    distinct = dict.fromkeys(
        reference
        for reference in references
        if isinstance(reference, str) and REFERENCE.fullmatch(reference)
    )
    return list(distinct)[:PAYMENTS_MAX]


def external_order_id(resource: PayPalResource) -> str | None:
    """Return the shop's id of the order; some plugins write a JSON object with `order_id`."""
    texts = [resource.custom_id, resource.invoice_id]
    texts += [
        text for unit in resource.purchase_units or () for text in (unit.custom_id, unit.invoice_id)
    ]
    texts += [
        text
        for transaction in (resource.disputed_transactions or ())[:1]
        for text in (transaction.custom, transaction.invoice_number)
    ]
    for text in texts:
        order = unwrapped(text) if text else None
        if order and EXTERNAL.fullmatch(order) and order.isprintable():
            return order
    return None


def unwrapped(text: str) -> str | None:
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        inner = orjson.loads(text)["order_id"]
    except (ValueError, KeyError):
        return None
    return str(inner) if isinstance(inner, (int, str)) and not isinstance(inner, bool) else None


SOURCE = Source(
    event_id=event_id,
    kind="paypal",
    type=PAYPAL,
    verify=verify,
    normalise=normalise,
    order_ids=order_ids,
    without_cards=without_cards,
    needs_orders_of=True,
    options={"roots": "a PEM file with the certificates to trust instead of the usual authorities"},
    read_options=read_options,
)
