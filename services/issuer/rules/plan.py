"""What does a batch of decisions get? Pure: orders, tickets and campaigns as they are, codes drawn
beforehand; tickets out.

Tickets are keyed by order, line and ordinal: an ordinal that was issued once is never issued again,
whatever happens to its order. It is cancelled and made active again, and keeps its number. Orders
are served as they stand in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from schemas.orders import DecidedLine, OrderDecided
from schemas.serialized import uuid5_text
from services.issuer.rules.campaigns import Product
from services.issuer.rules.numbers import format_number, permute

TICKET_IDS = bytes.fromhex(
    "2c2f7f4be1b55cf0a2d75e0cf6f2c6aa"
)  # the namespace of every ticket's id; never changes
ACTIVE, WON, CANCELLED = "Active", "Won", "Cancelled"
SOLD_OUT, NO_CAMPAIGN, CLOSED = "sold_out", "no_campaign", "campaign_closed"


class PlannedTicket(NamedTuple):
    """A paid ordinal. Without an index it is sold out: its refund is due."""

    ticket_id: str
    order_id: str
    line_id: str
    ordinal: int
    campaign_id: str
    place: int | None  # its index in the campaign
    number: str | None
    code: str | None
    status: str | None
    reason: str | None
    holder_name: str
    holder_email: str
    recipient_email: str | None  # of a gift
    product_id: str
    issued_at: datetime


@dataclass(slots=True)
class LockedCampaign:
    """As its locked row has it. `next_index` goes on while a batch is planned."""

    campaign_id: str
    version: int
    content: Mapping[str, Any]
    key: bytes
    next_index: int
    first_index: int = field(init=False)  # as it was before the batch
    said: orjson.Fragment = field(init=False)  # as every order with a ticket of it says it

    def __post_init__(self) -> None:
        self.first_index = self.next_index
        content = self.content
        told = {
            "campaign_id": self.campaign_id,
            "version": self.version,
            "name": content["name"],
            "starts_on": content["date"],
            "starts_at": content["time"],
            "zone": content["zone"],
            "venue": content["venue"],
            "design": content["design"],
        }
        if language := content.get(
            "language"
        ):  # unsaid, orders say the same as before there were any: no news
            told["language"] = language
        self.said = orjson.Fragment(orjson.dumps(told))

    def take(self) -> tuple[int, str] | None:
        """The next place and its number; None: sold out."""
        capacity, start = self.content["capacity"], self.content["start"]
        index = self.next_index
        if capacity is not None and index >= capacity:
            return None
        self.next_index = index + 1
        place = permute(index, capacity, self.key) if self.content["mode"] == "shuffled" else index
        return index, format_number(self.content["prefix"], self.content["padding"], start + place)


class WaitingLine(NamedTuple):
    """A paid line that no campaign takes now."""

    order_id: str
    line_id: str
    source: str
    sku: str
    product_id: str
    variation_id: str
    quantity: int
    reason: str


class TicketChange(NamedTuple):
    """Of a ticket's row. `before` is None when only its holder changes."""

    ticket: PlannedTicket
    before: str | None


@dataclass(slots=True)
class IssuePlan:
    """What a batch does. `held`: all rows of each order afterwards, by line and ordinal."""

    held: dict[str, list[PlannedTicket]] = field(default_factory=dict)
    waiting: dict[str, list[WaitingLine]] = field(default_factory=dict)
    issued: list[PlannedTicket] = field(default_factory=list)
    changes: list[TicketChange] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan goes by besides the decisions."""

    campaigns: Mapping[str, LockedCampaign]
    products: Mapping[Product, str]  # to the campaign
    codes: Iterator[str]
    now: datetime


def ticket_id(order_id: str, line_id: str, ordinal: int) -> str:
    """A UUIDv5, said as text. Lengths are said too, so that no two ordinals spell the same name."""
    return uuid5_text(TICKET_IDS, f"{len(order_id)}:{order_id}/{len(line_id)}:{line_id}/{ordinal}")


def products_of(decisions: Iterable[OrderDecided]) -> set[Product]:
    """Everything by which a campaign may take a line of these orders."""
    found = set()
    for decision in decisions:
        for line in decision.lines:
            if line.sku:
                found.add((decision.source, "sku", line.sku))
            if line.product_id:
                found.add((decision.source, "product_id", line.product_id))
            if line.variation_id:
                found.add((decision.source, "variation_id", line.variation_id))
    return found


def tickets_max(decisions: Iterable[OrderDecided]) -> int:
    """How many codes a plan may need."""
    return sum(line.quantity for decision in decisions for line in decision.lines)


def plan(
    decisions: Sequence[OrderDecided],
    held: Mapping[str, Sequence[PlannedTicket]],
    given: PlanInputs,
) -> IssuePlan:
    """`held`: the rows that orders have already. Each order stands in the batch once."""
    made = IssuePlan()
    for decision in decisions:
        _plan_order(decision, held.get(decision.key, ()), given, made)
    return made


def _plan_order(
    decision: OrderDecided, before: Sequence[PlannedTicket], given: PlanInputs, made: IssuePlan
) -> None:
    rows: dict[str, dict[int, PlannedTicket]] = {}
    for ticket in before:
        rows.setdefault(ticket.line_id, {})[ticket.ordinal] = ticket
    after: list[PlannedTicket] = []
    waiting: list[WaitingLine] = []
    lines = _by_id(decision.lines)
    for line in lines.values():
        of_line = rows.pop(line.line_id, {})
        after.extend(_updated(ticket, line, made) for ticket in of_line.values())
        missing = [ordinal for ordinal in range(1, line.quantity + 1) if ordinal not in of_line]
        if missing:
            _issue_line(decision, line, missing, given, (made, after, waiting))
    for of_line in rows.values():  # lines that the order no longer has
        after.extend(_updated(ticket, None, made) for ticket in of_line.values())
    after.sort(key=_by_line)
    made.held[decision.key], made.waiting[decision.key] = after, waiting


def _by_line(ticket: PlannedTicket) -> tuple[str, int]:
    return ticket.line_id, ticket.ordinal


def _by_id(lines: Sequence[DecidedLine]) -> dict[str, DecidedLine]:
    """A line that is told twice under one id counts with both quantities."""
    found: dict[str, DecidedLine] = {}
    for line in lines:
        known = found.get(line.line_id)
        found[line.line_id] = (
            line
            if known is None
            else line.model_copy(update={"quantity": known.quantity + line.quantity})
        )
    return found


def _updated(ticket: PlannedTicket, line: DecidedLine | None, made: IssuePlan) -> PlannedTicket:
    """Highest ordinals go first, and come back last. A won ticket stays in its draw's record."""
    wanted = ticket.status
    if ticket.status in (ACTIVE, CANCELLED):
        wanted = ACTIVE if line is not None and ticket.ordinal <= line.quantity else CANCELLED
    held = ticket.holder_name, ticket.holder_email, ticket.recipient_email
    holds = held if line is None else (line.holder.name, line.holder.email, line.recipient_email)
    if wanted == ticket.status and holds == held:
        return ticket
    name, email, recipient_email = holds
    after = ticket._replace(
        status=wanted, holder_name=name, holder_email=email, recipient_email=recipient_email
    )
    made.changes.append(TicketChange(after, ticket.status if wanted != ticket.status else None))
    return after


def _issue_line(
    decision: OrderDecided,
    line: DecidedLine,
    missing: Sequence[int],
    given: PlanInputs,
    into: tuple[IssuePlan, list[PlannedTicket], list[WaitingLine]],
) -> None:
    """Ordinals that were never issued: each gets a place while there is one, else its row says that
    it is sold out.
    """
    made, after, waiting = into
    campaign = campaign_of(decision.source, line, given)
    if campaign is None or campaign.content["status"] == "closed":
        reason = NO_CAMPAIGN if campaign is None else CLOSED
        names = (
            decision.key,
            line.line_id,
            decision.source,
            line.sku,
            line.product_id,
            line.variation_id,
        )
        waiting.append(WaitingLine(*names, len(missing), reason))
        return
    for ordinal in missing:
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
            next(given.codes) if taken else None,
            ACTIVE if taken else None,
            None if taken else SOLD_OUT,
            line.holder.name,
            line.holder.email,
            line.recipient_email,
            line.product_id,
            given.now,
        )
        after.append(ticket)
        made.issued.append(ticket)


def campaign_of(source: str, line: DecidedLine, given: PlanInputs) -> LockedCampaign | None:
    """By the variation's id, the product's, then the SKU: an id is the shop's own name for one
    thing, a SKU may be shared.
    """
    named = (
        ("variation_id", line.variation_id),
        ("product_id", line.product_id),
        ("sku", line.sku),
    )
    found = (given.products.get((source, kind, name)) for kind, name in named if name)
    owner = next(filter(None, found), None)
    return given.campaigns[owner] if owner else None
