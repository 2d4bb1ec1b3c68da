"""The order's tickets as they are said: written by hand, for the hot path; tests read them back
with the model. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from schemas.orders import OrderDecided
from services.issuer.rules.plan import SOLD_OUT, LockedCampaign, PlannedTicket, WaitingLine


def body_of(
    decision: OrderDecided,
    held: Sequence[PlannedTicket],
    waiting: Sequence[WaitingLine],
    campaigns: Mapping[str, LockedCampaign],
) -> bytes:
    """TicketsChanged without writer, key, generation and sequence."""
    tickets = [ticket for ticket in held if ticket.place is not None]
    buyer = decision.buyer
    return orjson.dumps(
        {
            "source": decision.source,
            "external_id": decision.external_id,
            "number": decision.number,
            "buyer": {"name": buyer.name, "email": buyer.email},
            "campaigns": [
                campaigns[name].said for name in sorted({ticket.campaign_id for ticket in tickets})
            ],
            "tickets": [_ticket(ticket) for ticket in tickets],
            "unissued": _unissued(decision, held, waiting)
            if waiting or len(tickets) < len(held)
            else [],
            "refund_due_tickets": decision.refund_due_tickets,
        }
    )


def _ticket(ticket: PlannedTicket) -> dict[str, Any]:
    told = {
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
    if (
        ticket.recipient_email is not None
    ):  # unsaid, other orders say the same as before there were gifts: no news
        told["recipient_email"] = ticket.recipient_email
    return told


def _unissued(
    decision: OrderDecided, held: Sequence[PlannedTicket], waiting: Sequence[WaitingLine]
) -> list[dict[str, Any]]:
    """What is paid now and has no ticket: sold out ordinals within the line's quantity, and lines
    that wait.
    """
    quantities: Counter[str] = Counter()
    for line in decision.lines:
        quantities[line.line_id] += line.quantity
    sold_out = Counter(
        (ticket.line_id, ticket.product_id)
        for ticket in held
        if ticket.reason == SOLD_OUT and ticket.ordinal <= quantities[ticket.line_id]
    )
    lacking = [(line, product, count, SOLD_OUT) for (line, product), count in sold_out.items()]
    lacking += [(line.line_id, line.product_id, line.quantity, line.reason) for line in waiting]
    names = ("line_id", "product_id", "quantity", "reason")
    return [dict(zip(names, it, strict=True)) for it in sorted(lacking)]
