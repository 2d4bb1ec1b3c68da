"""The tickets that a batch of decisions gets. Pure: orders, tickets and campaigns as they are, and
codes that were drawn beforehand, go in; tickets come out.

Tickets are keyed by order, line and ordinal. An ordinal that was issued once is never issued again,
whatever happens to its order: its ticket is cancelled and made active again, and keeps its number.
Orders are served in the order of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from schemas import structs
from schemas.orders import CampaignSnapshot, DecidedLine, OrderDecided, UnissuedReason
from schemas.uuids import uuid5_text
from services.issuer.rules.campaigns import Product
from services.issuer.rules.numbers import format_number, permute

# The namespace of every ticket's id; it never changes.
TICKET_IDS = bytes.fromhex("2c2f7f4be1b55cf0a2d75e0cf6f2c6aa")
ACTIVE, WON, CANCELLED = "Active", "Won", "Cancelled"
SOLD_OUT: Final = "sold_out"
NO_CAMPAIGN: Final = "no_campaign"
CAMPAIGN_CLOSED: Final = "campaign_closed"


class PlannedTicket(NamedTuple):
    """A paid ordinal. Without a place it has a reason instead, and a refund is due."""

    ticket_id: str
    order_id: str
    line_id: str
    ordinal: int
    campaign_id: str
    place: int | None
    number: str | None
    code: str | None
    status: str | None
    reason: UnissuedReason | None
    holder_name: str
    holder_email: str
    recipient_email: str | None  # of a gift
    product_id: str
    issued_at: datetime


@dataclass(slots=True)
class LockedCampaign:
    """A campaign's row, locked. `next_place` advances while a batch is planned."""

    campaign_id: str
    version: int
    content: Mapping[str, Any]
    key: bytes
    next_place: int
    first_place: int = field(init=False)  # next_place before the batch
    snapshot: bytes = field(init=False)  # JSON, as every order with a ticket of it publishes it

    def __post_init__(self) -> None:
        self.first_place = self.next_place
        content = self.content
        fields = {
            "campaign_id": self.campaign_id,
            "version": self.version,
            "name": content["name"],
            "starts_on": content["date"],
            "starts_at": content["time"],
            "zone": content["zone"],
            "venue": content["venue"],
            "design": content["design"],
            "language": content.get("language", ""),
        }
        self.snapshot = structs.encode(structs.convert(CampaignSnapshot, fields))

    def take(self) -> tuple[int, str] | None:
        """Return the next place and its number, or None if the campaign is sold out."""
        capacity, start = self.content["capacity"], self.content["start"]
        place = self.next_place
        if capacity is not None and place >= capacity:
            return None
        self.next_place = place + 1
        shuffled = (
            permute(place, capacity, self.key) if self.content["mode"] == "shuffled" else place
        )
        return place, format_number(
            self.content["prefix"], self.content["padding"], start + shuffled
        )


class WaitingLine(NamedTuple):
    """A paid line that no campaign takes now."""

    order_id: str
    line_id: str
    source: str
    sku: str
    product_id: str
    variation_id: str
    quantity: int
    reason: UnissuedReason


class TicketChange(NamedTuple):
    """A change of a ticket's row. `before` is its status, or None if only its holder changes."""

    ticket: PlannedTicket
    before: str | None


@dataclass(slots=True)
class IssuePlan:
    """What a batch does. `tickets` has all rows of each order afterwards, by line and ordinal."""

    tickets: dict[str, list[PlannedTicket]] = field(default_factory=dict)
    waiting: dict[str, list[WaitingLine]] = field(default_factory=dict)
    issued: list[PlannedTicket] = field(default_factory=list)
    changes: list[TicketChange] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan depends on besides the decisions and the orders' tickets."""

    campaigns: Mapping[str, LockedCampaign]
    products: Mapping[Product, str]  # to the id of the campaign that takes it
    codes: Iterator[str]
    now: datetime


def ticket_id(order_id: str, line_id: str, ordinal: int) -> str:
    """Return the ticket's UUIDv5. Lengths are part of its name, so two ordinals never share one."""
    return uuid5_text(TICKET_IDS, f"{len(order_id)}:{order_id}/{len(line_id)}:{line_id}/{ordinal}")


def products_of(decisions: Iterable[OrderDecided]) -> set[Product]:
    """Return everything by which a campaign may take a line of these orders."""
    products = set()
    for decision in decisions:
        for line in decision.lines:
            if line.sku:
                products.add((decision.source, "sku", line.sku))
            if line.product_id:
                products.add((decision.source, "product_id", line.product_id))
            if line.variation_id:
                products.add((decision.source, "variation_id", line.variation_id))
    return products


def tickets_max(decisions: Iterable[OrderDecided]) -> int:
    """Return how many codes a plan may need."""
    return sum(line.quantity for decision in decisions for line in decision.lines)


def plan(
    decisions: Sequence[OrderDecided],
    tickets: Mapping[str, Sequence[PlannedTicket]],
    inputs: PlanInputs,
) -> IssuePlan:
    """Plan a batch in which each order stands once. `tickets`: the orders' rows so far."""
    planned = IssuePlan()
    for decision in decisions:
        _plan_order(decision, tickets.get(decision.key, ()), inputs, planned)
    return planned


def _plan_order(
    decision: OrderDecided,
    before: Sequence[PlannedTicket],
    inputs: PlanInputs,
    planned: IssuePlan,
) -> None:
    rows: dict[str, dict[int, PlannedTicket]] = {}
    for ticket in before:
        rows.setdefault(ticket.line_id, {})[ticket.ordinal] = ticket
    after: list[PlannedTicket] = []
    waiting: list[WaitingLine] = []
    for line in _lines_by_id(decision.lines).values():
        of_line = rows.pop(line.line_id, {})
        after.extend(_updated(ticket, line, planned) for ticket in of_line.values())
        missing = [ordinal for ordinal in range(1, line.quantity + 1) if ordinal not in of_line]
        if not missing:
            continue
        campaign = campaign_of(decision.source, line, inputs)
        if campaign is None:
            waiting.append(_waiting_line(decision, line, len(missing), NO_CAMPAIGN))
        elif campaign.content["status"] == "closed":
            waiting.append(_waiting_line(decision, line, len(missing), CAMPAIGN_CLOSED))
        else:
            issued = _issued(decision, line, missing, campaign, inputs)
            after += issued
            planned.issued += issued
    for of_line in rows.values():  # lines that the order no longer has
        after.extend(_updated(ticket, None, planned) for ticket in of_line.values())
    after.sort(key=_line_and_ordinal)
    planned.tickets[decision.key], planned.waiting[decision.key] = after, waiting


def _line_and_ordinal(ticket: PlannedTicket) -> tuple[str, int]:
    return ticket.line_id, ticket.ordinal


def _lines_by_id(lines: Sequence[DecidedLine]) -> dict[str, DecidedLine]:
    """Return the lines by id. A line that stands twice counts with both quantities."""
    by_id: dict[str, DecidedLine] = {}
    for line in lines:
        known = by_id.get(line.line_id)
        by_id[line.line_id] = (
            line
            if known is None
            else msgspec.structs.replace(line, quantity=known.quantity + line.quantity)
        )
    return by_id


def _updated(ticket: PlannedTicket, line: DecidedLine | None, planned: IssuePlan) -> PlannedTicket:
    """Return the ticket as its line wants it, and note the change.

    The highest ordinals are cancelled first and become active again last. A ticket that has won
    keeps its status: it stands in the record of its draw.
    """
    status = ticket.status
    if ticket.status in (ACTIVE, CANCELLED):
        status = ACTIVE if line is not None and ticket.ordinal <= line.quantity else CANCELLED
    before = ticket.holder_name, ticket.holder_email, ticket.recipient_email
    holder = before if line is None else (line.holder.name, line.holder.email, line.recipient_email)
    if status == ticket.status and holder == before:
        return ticket
    name, email, recipient_email = holder
    after = ticket._replace(
        status=status, holder_name=name, holder_email=email, recipient_email=recipient_email
    )
    planned.changes.append(TicketChange(after, ticket.status if status != ticket.status else None))
    return after


def _waiting_line(
    decision: OrderDecided, line: DecidedLine, quantity: int, reason: UnissuedReason
) -> WaitingLine:
    return WaitingLine(
        decision.key,
        line.line_id,
        decision.source,
        line.sku,
        line.product_id,
        line.variation_id,
        quantity,
        reason,
    )


def _issued(
    decision: OrderDecided,
    line: DecidedLine,
    ordinals: Sequence[int],
    campaign: LockedCampaign,
    inputs: PlanInputs,
) -> list[PlannedTicket]:
    """Issue ordinals that were never issued: each gets a place, or SOLD_OUT when there is none."""
    tickets = []
    for ordinal in ordinals:
        taken = campaign.take()
        place, number = taken or (None, None)
        ticket = PlannedTicket(
            ticket_id(decision.key, line.line_id, ordinal),
            decision.key,
            line.line_id,
            ordinal,
            campaign.campaign_id,
            place,
            number,
            next(inputs.codes) if taken else None,
            ACTIVE if taken else None,
            None if taken else SOLD_OUT,
            line.holder.name,
            line.holder.email,
            line.recipient_email,
            line.product_id,
            inputs.now,
        )
        tickets.append(ticket)
    return tickets


def campaign_of(source: str, line: DecidedLine, inputs: PlanInputs) -> LockedCampaign | None:
    """Return the campaign that takes a line.

    It is found by the variation's id, the product's id, then the SKU: an id is the shop's own name
    for one thing, while a SKU may be shared.
    """
    names = (
        ("variation_id", line.variation_id),
        ("product_id", line.product_id),
        ("sku", line.sku),
    )
    owners = (inputs.products.get((source, kind, name)) for kind, name in names if name)
    owner = next(filter(None, owners), None)
    return inputs.campaigns[owner] if owner else None
