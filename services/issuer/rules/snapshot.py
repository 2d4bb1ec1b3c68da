"""The snapshot of an order's tickets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast
from uuid import UUID

from schemas import structs
from schemas.envelope import Position
from schemas.orders import (
    CampaignSnapshot,
    OrderDecided,
    Person,
    Ticket,
    TicketsChanged,
    TicketStatus,
    Unissued,
)
from services.issuer.rules.plan import IssuePlan, LockedCampaign, PlannedTicket, WaitingLine

WRITER = "issuer"


def tickets_changed(
    decision: OrderDecided,
    planned: IssuePlan,
    campaigns: Mapping[str, LockedCampaign],
    position: Position,
) -> TicketsChanged:
    """Return the order's event at that position, with all tickets of the order as planned."""
    rows, waiting = planned.tickets[decision.key], planned.waiting[decision.key]
    numbered = [row for row in rows if row.place is not None]
    campaign_ids = sorted({row.campaign_id for row in numbered})
    return TicketsChanged(
        writer=WRITER,
        key=decision.key,
        generation=position.generation,
        sequence=position.sequence,
        source=decision.source,
        external_id=decision.external_id,
        number=decision.number,
        buyer=decision.buyer,
        campaigns=tuple(
            [structs.raw(CampaignSnapshot, campaigns[name].snapshot) for name in campaign_ids]
        ),
        tickets=tuple([ticket(row) for row in numbered]),
        unissued=tuple(unissued(decision, rows, waiting))
        if waiting or len(numbered) < len(rows)
        else (),
        refund_due_tickets=decision.refund_due_tickets,
    )


def ticket(row: PlannedTicket) -> Ticket:
    """Return a planned ticket that has a number, as it is published."""
    return Ticket(
        ticket_id=structs.raw(UUID, b'"%b"' % row.ticket_id.encode()),
        line_id=row.line_id,
        ordinal=row.ordinal,
        campaign_id=row.campaign_id,
        number=row.number or "",
        code=row.code or "",
        status=cast("TicketStatus", row.status),
        holder=Person(name=row.holder_name, email=row.holder_email),
        recipient_email=row.recipient_email,
        product_id=row.product_id,
        issued_at=row.issued_at,
    )


def unissued(
    decision: OrderDecided, rows: Sequence[PlannedTicket], waiting: Sequence[WaitingLine]
) -> Iterator[Unissued]:
    """Yield what is paid now and has no ticket, each with its reason: ordinals without a place,
    within the quantity of their line, and lines that wait.
    """
    quantities: Counter[str] = Counter()
    for line in decision.lines:
        quantities[line.line_id] += line.quantity
    without_place = Counter(
        (row.line_id, row.product_id, row.reason)
        for row in rows
        if row.reason is not None and row.ordinal <= quantities[row.line_id]
    )
    entries = [
        (line_id, product_id, quantity, reason)
        for (line_id, product_id, reason), quantity in without_place.items()
    ]
    entries += [(line.line_id, line.product_id, line.quantity, line.reason) for line in waiting]
    for line_id, product_id, quantity, reason in sorted(entries):
        yield Unissued(line_id=line_id, product_id=product_id, quantity=quantity, reason=reason)
