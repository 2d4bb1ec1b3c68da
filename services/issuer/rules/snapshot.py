"""The snapshot of an order's tickets. Pure. It is written by hand because it is on the hot path;
tests read it back with the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from schemas.orders import OrderDecided
from services.issuer.rules.plan import LockedCampaign, PlannedTicket, WaitingLine


def body_of(
    decision: OrderDecided,
    rows: Sequence[PlannedTicket],
    waiting: Sequence[WaitingLine],
    campaigns: Mapping[str, LockedCampaign],
) -> bytes:
    """Return TicketsChanged as JSON, without writer, key, generation and sequence."""
    tickets = [row for row in rows if row.place is not None]
    buyer = decision.buyer
    return orjson.dumps(
        {
            "source": decision.source,
            "external_id": decision.external_id,
            "number": decision.number,
            "buyer": {"name": buyer.name, "email": buyer.email},
            "campaigns": [
                campaigns[name].snapshot
                for name in sorted({ticket.campaign_id for ticket in tickets})
            ],
            "tickets": [_ticket(ticket) for ticket in tickets],
            "unissued": _unissued(decision, rows, waiting)
            if waiting or len(tickets) < len(rows)
            else [],
            "refund_due_tickets": decision.refund_due_tickets,
        }
    )


def _ticket(ticket: PlannedTicket) -> dict[str, Any]:
    fields = {
        "ticket_id": ticket.ticket_id,
        "line_id": ticket.line_id,
        "ordinal": ticket.ordinal,
        "campaign_id": ticket.campaign_id,
        "number": ticket.number,
        "code": ticket.code,
        "status": ticket.status,
        "holder": {"name": ticket.holder_name, "email": ticket.holder_email},
        "product_id": ticket.product_id,
        "issued_at": ticket.issued_at,
    }
    # Left out of tickets that are no gift: the snapshots of earlier releases have no such field,
    # and theirs must keep their digest.
    if ticket.recipient_email is not None:
        fields["recipient_email"] = ticket.recipient_email
    return fields


def _unissued(
    decision: OrderDecided, rows: Sequence[PlannedTicket], waiting: Sequence[WaitingLine]
) -> list[dict[str, Any]]:
    """Return what is paid now and has no ticket, each with its reason: ordinals without a place,
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
    unissued = [
        (line_id, product_id, quantity, reason)
        for (line_id, product_id, reason), quantity in without_place.items()
    ]
    unissued += [(line.line_id, line.product_id, line.quantity, line.reason) for line in waiting]
    names = ("line_id", "product_id", "quantity", "reason")
    return [dict(zip(names, values, strict=True)) for values in sorted(unissued)]
