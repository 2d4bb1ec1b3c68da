"""An order of Ticket Evolution as its signed API returns it, after a webhook named it or a poll
found it.

The fraud gate closes here, so that no trigger of approval can open it. For an order whose buyer is
not an office:

    fraud_check_status   status               besides
    null, approved       the seller's state
    pending              fraud-pending        reached:failed
    another word         fraud-unknown        reached:failed, and drift is reported
    declined             cancelled

`failed` cancels what was reached before: an order that was accepted and is under review again is
not released because it was accepted once. If it is accepted after the review, it is released.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.callbacks import TICKETEVOLUTION_ORDER
from schemas.fraud import FraudStatus, FraudVerdict
from schemas.orders import Line, Person, Storefront
from schemas.text import rfc3339
from services.ingest.rules import facts
from services.ingest.vendors.shared.money import (
    AMOUNT_MAX,
    CURRENCY,
    EXPONENTS,
    NO_CURRENCY,
    amount_text,
    counted,
)
from services.ingest.vendors.shared.php_lists import list_from_php_or_same
from services.ingest.vendors.shared.repairs import quoted
from services.ingest.vendors.shared.source import (
    ReceivedCallback,
    Source,
    bounded_time,
    bounded_time_or_none,
    normalised_status,
    refuse_duplicate_lines,
)
from services.ingest.vendors.shared.text import clean, email

OFFICE, TICKET_EVOLUTION = "office", "6"  # buyer.type, and the office of the vendor itself
ACCEPTED, CANCELLED, FAILED = "accepted", "cancelled", "failed"
SOLD = frozenset({ACCEPTED, "completed"})
# The seller will not deliver. `cancel_proposed` waits for the other side and takes nothing back.
OVER = frozenset(
    {
        "rejected",
        "canceled",
        "canceled_open",
        "canceled_post_acceptance",
        "pending_substitution",
        "cancelled",
    }
)
STATES = OVER | SOLD | {"open", "pending", "pending_consignment", "cancel_proposed"}
FIELD_MISSING: Final = "\0"  # stands for a missing field, which is not null
FRAUD_STATUS_BY_CHECK_STATUS: dict[str | None, FraudStatus] = {
    None: "unchecked",
    "approved": "approved",
    "declined": "declined",
}
# In a tie the verdict that closes the gate wins.
FRAUD_STATUS_RANKS: dict[FraudStatus, int] = {
    "unchecked": 30,
    "approved": 40,
    "pending": 60,
    "declined": 80,
}
GATES = {"pending": "fraud-pending", "declined": CANCELLED}

Id = Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]
Text = Annotated[str | None, Field(max_length=2_000)]
Number = Annotated[str | None, Field(max_length=40)]


class TicketEvolutionModel(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class TicketEvolutionAddress(TicketEvolutionModel):
    address: Text = None


class TicketEvolutionBuyer(TicketEvolutionModel):
    type: Text = None
    id: Text = None
    name: Text = None
    email: Text = None
    primary_email_address: TicketEvolutionAddress | None = None


class TicketEvolutionEvent(TicketEvolutionModel):
    id: Text = None
    name: Text = None


class TicketGroup(TicketEvolutionModel):
    remote_id: Text = None
    section: Text = None
    row: Text = None
    event: TicketEvolutionEvent | None = None


class TicketEvolutionItem(TicketEvolutionModel):
    id: Id
    quantity: Annotated[int, Field(ge=0, le=1_000_000)]
    price: Number = None
    cost: Number = None
    eticket_delivery: bool | None = None
    ticket_group: TicketGroup | None = None


class TicketEvolutionOrder(TicketEvolutionModel):
    """An order as Orders / Show returns it: the fields that are read."""

    id: Id
    oid: Text = None
    created_at: object = None  # orders nothing, so a malformed one costs no order
    updated_at: datetime
    seller_state: Annotated[str, Field(min_length=1, max_length=40)]
    fraud_check_status: Annotated[str | None, Field(max_length=100)] = FIELD_MISSING
    currency: Annotated[str | None, Field(max_length=40)] = None
    total: Number = None
    refunded: Number = None
    buyer: TicketEvolutionBuyer
    items: Annotated[
        list[TicketEvolutionItem], BeforeValidator(list_from_php_or_same), Field(max_length=500)
    ]


def identify(received: ReceivedCallback, order: TicketEvolutionOrder) -> str:
    return f"{received.source}:{order.id} read {rfc3339(bounded_time(order.updated_at))}"


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    """Return the storefront, its status and, for an order that is checked for fraud, the
    verdict.
    """
    order = TicketEvolutionOrder.model_validate_json(received.body)
    at, word = bounded_time(order.updated_at), _word(order)
    state = normalised_status(order.seller_state)
    key, order_id = identify(received, order), f"{received.order_source}:{order.id}"
    drift = [] if state in STATES else [_drift(received, f"seller_state {ascii(state)[:100]}")]
    if word == FIELD_MISSING:  # a list may leave the field out: the order itself is fetched
        missing = facts.DriftNotice(
            received.source,
            "missing-field",
            "fraud_check_status of a client's order",
            received.body,
        )
        return facts.parsed_callback(
            f"{key} in part", None, orders_to_fetch=(order_id,), drift=(missing,)
        )
    if fraud_status_of(word) == "pending" and word != "pending":
        drift.append(_drift(received, f"fraud_check_status {ascii(word)[:100]}"))
    if any(not item.price and item.cost is None for item in order.items):
        drift.append(
            facts.DriftNotice(received.source, "missing-field", "items.price", received.body)
        )
    front = storefront(order, gated_status(state, word), at)
    drift += uncountable_amount_drift(received, front)
    order_facts: tuple[facts.Fact, ...] = facts.storefront_facts(front, at, received.position)
    if front.status.startswith("fraud-"):
        order_facts += (facts.reached_fact(FAILED, at),)
    if channel(order.buyer) == "client":
        order_facts += (_verdict(received, word, at),)
    return facts.parsed_callback(key, order_id, order_facts, drift=tuple(drift))


def channel(buyer: TicketEvolutionBuyer) -> str:
    """Return the sales channel. A buyer that is neither of the offices is a client, and its orders
    are gated.
    """
    if (buyer.type or "").strip().lower() != OFFICE:
        return "client"
    return "tevo" if buyer.id == TICKET_EVOLUTION else OFFICE


def _word(order: TicketEvolutionOrder) -> str | None:
    """Return the word of the fraud check. For an office's order the field means nothing, even
    `declined`.
    """
    if channel(order.buyer) != "client":
        return None
    word = order.fraud_check_status
    return word if word is None or word == FIELD_MISSING else word.strip().lower()


def fraud_status_of(word: str | None) -> FraudStatus:
    return FRAUD_STATUS_BY_CHECK_STATUS.get(word, "pending")


def gated_status(state: str, word: str | None) -> str:
    """Return the status that approval sees."""
    if state in OVER or state.startswith(("canceled", "cancelled")):
        return CANCELLED
    if fraud_status_of(word) in {"unchecked", "approved"}:
        return state
    return GATES.get(word or "", "fraud-unknown")


def _verdict(received: ReceivedCallback, word: str | None, at: datetime) -> facts.Fact:
    fraud_status = fraud_status_of(word)
    verdict = FraudVerdict(
        source=received.source, verdict=fraud_status, detail=clean(word or "", 100), at=at
    )
    return facts.verdict_fact(
        verdict, rank=FRAUD_STATUS_RANKS[fraud_status], record_position=received.position
    )


def _drift(received: ReceivedCallback, cause: str) -> facts.DriftNotice:
    return facts.DriftNotice(received.source, "unknown-status", cause, received.body)


def storefront(order: TicketEvolutionOrder, shown_status: str, at: datetime) -> Storefront:
    """Return the Storefront. Without a currency it is in dollars. There is no time of payment: what
    is sold counts as paid at its last change.
    """
    written = order.currency or "USD"
    digits, is_code = EXPONENTS.get(written), CURRENCY.fullmatch(written) is not None
    refuse_duplicate_lines([item.id for item in order.items])
    lines = tuple(line(item, digits) for item in order.items)
    is_added_up = order.total is None and all(
        priced_line.total_text is None for priced_line in lines
    )
    total = (
        sum(priced_line.total_minor for priced_line in lines)
        if is_added_up
        else counted(order.total, digits)
    )
    refunded = counted(order.refunded or "0", digits)
    buyer = order.buyer
    address = (
        buyer.email or (buyer.primary_email_address and buyer.primary_email_address.address) or ""
    )
    return Storefront(
        status=shown_status,
        channel=channel(buyer),
        number=clean(order.oid or "", 64) or order.id,
        currency=written if is_code else NO_CURRENCY,
        currency_text=None if is_code else amount_text(written),
        total_minor=total or 0,
        total_text=amount_text(order.total) if total is None else None,
        refunded_minor=abs(refunded or 0),
        refunded_text=amount_text(order.refunded) if refunded is None else None,
        placed_at=_created(order.created_at),
        paid_at=at if shown_status in SOLD else None,
        buyer=Person(name=clean(buyer.name or "", 200), email=email(address)),
        lines=lines,
    )


def uncountable_amount_drift(
    received: ReceivedCallback, front: Storefront
) -> list[facts.DriftNotice]:
    """Return the drift of amounts that are kept as texts."""
    if front.currency not in EXPONENTS:
        cause = f"the currency {quoted(front.currency_text or front.currency)}"
        return [facts.DriftNotice(received.source, "unknown-currency", cause, received.body)]
    kept_as_text = {
        "total": front.total_text is not None,
        "refunded": front.refunded_text is not None,
        "items.price": any(priced_line.total_text is not None for priced_line in front.lines),
    }
    names = [name for name, is_a_text in kept_as_text.items() if is_a_text]
    return [
        facts.DriftNotice(received.source, "unreadable-amount", name, received.body)
        for name in names
    ]


def _created(value: object) -> datetime | None:
    try:
        return (
            bounded_time_or_none(datetime.fromisoformat(value)) if isinstance(value, str) else None
        )
    except (ValueError, OverflowError):
        return None


def line(item: TicketEvolutionItem, digits: int | None) -> Line:
    """Return the line. `product_id` is our own key of the inventory, as it was uploaded."""
    group = item.ticket_group or TicketGroup()
    event = group.event or TicketEvolutionEvent()
    each = counted(item.price or "0", digits)
    cost = (
        counted(item.cost, digits)
        if item.cost is not None
        else None
        if each is None
        else each * item.quantity
    )
    if cost is not None and abs(cost) > AMOUNT_MAX:
        cost = None
    return Line(
        line_id=item.id,
        product_id=clean(group.remote_id or "", 64),
        sku=clean(event.id or "", 100),
        name=clean(", ".join(filter(None, (event.name, group.section, group.row))), 300),
        quantity=item.quantity,
        total_minor=cost or 0,
        total_text=amount_text(item.price if item.cost is None else item.cost)
        if cost is None
        else None,
        is_eticket=item.eticket_delivery,
    )


SOURCE = Source(
    kind="ticketevolution-order",
    type=TICKETEVOLUTION_ORDER,
    normalise=normalise,
    has_webhook=False,  # it is only polled
)
