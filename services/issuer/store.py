"""The tables of the issuer. One method, one statement; works inside the lane's transaction and never commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.issuer.rules.campaigns import Product
from services.issuer.rules.plan import Campaign, Change, Ticket, Waiting
from services.runtime import sql
from services.runtime.ledger import Session

SQL = sql.load(__package__)
ACTOR = "stubline.issuer"


class OrderRow(NamedTuple):
    """What is known of an order, locked."""

    order_id: str
    generation: int  # of the data now
    sequence: int
    digest: bytes | None
    decided_generation: int
    decided_sequence: int
    is_waiting: bool
    at: datetime  # the transaction's time


class Saved(NamedTuple):
    """An order's row as it shall be. The decision is JSON text."""

    order_id: str
    sequence: int
    generation: int
    digest: bytes
    decided_generation: int
    decided_sequence: int
    buyer_email: str
    is_waiting: bool
    decision: str


class Due(NamedTuple):
    """An order with lines that a campaign takes since it was applied."""

    order_id: str
    actor: str
    cause: UUID


@dataclass(frozen=True, slots=True)
class Store:
    transaction: Session

    def add_orders(self, emails: Mapping[str, str]) -> None:
        """By order id. Also keeps campaigns from being applied until the transaction ends."""
        arguments = {"order_ids": list(emails), "buyer_emails": list(emails.values())}
        self.transaction.execute(SQL["add_orders"], arguments)

    def lock_orders(self, order_ids: Sequence[str]) -> dict[str, OrderRow]:
        rows = self.transaction.execute(SQL["lock_orders"], {"order_ids": order_ids}).fetchall()
        return {row[0]: OrderRow._make(row) for row in rows}

    def tickets_of(self, order_ids: Sequence[str]) -> dict[str, list[Ticket]]:
        found: dict[str, list[Ticket]] = {}
        for row in self.transaction.execute(SQL["tickets_of"], {"order_ids": order_ids}):
            found.setdefault(row[1], []).append(Ticket._make(row))
        return found

    def lock_campaigns(
        self, products: Iterable[Product], campaign_ids: Sequence[str]
    ) -> tuple[dict[str, Campaign], dict[Product, str]]:
        """Campaigns by id, and which of them takes which product."""
        sources, kinds, contents = zip(*products, strict=True) if products else ((), (), ())
        arguments = {"sources": list(sources), "kinds": list(kinds), "contents": list(contents)}
        rows = self.transaction.execute(SQL["lock_campaigns"], arguments | {"campaign_ids": campaign_ids}).fetchall()
        owners = {(source, kind, name): row[0] for row in rows for source, kind, name in row[5] or ()}
        return {row[0]: Campaign(*row[:5]) for row in rows}, owners

    def issue_tickets(self, tickets: Sequence[Ticket], causes: Mapping[str, str], actor: str) -> None:
        self.transaction.execute(
            SQL["issue_tickets"],
            {
                "ticket_ids": [ticket.ticket_id for ticket in tickets],
                "order_ids": [ticket.order_id for ticket in tickets],
                "line_ids": [ticket.line_id for ticket in tickets],
                "ordinals": [ticket.ordinal for ticket in tickets],
                "campaign_ids": [ticket.campaign_id for ticket in tickets],
                "indexes": [ticket.place for ticket in tickets],
                "numbers": [ticket.number for ticket in tickets],
                "codes": [ticket.code for ticket in tickets],
                "holder_names": [ticket.holder_name for ticket in tickets],
                "holder_emails": [ticket.holder_email for ticket in tickets],
                "product_ids": [ticket.product_id for ticket in tickets],
                "causes": [causes[ticket.order_id] for ticket in tickets],
                "actor": actor,
            },
        )

    def change_tickets(self, changes: Sequence[Change], causes: Mapping[str, str], actor: str) -> None:
        tickets = [change.ticket for change in changes]
        self.transaction.execute(
            SQL["change_tickets"],
            {
                "ticket_ids": [ticket.ticket_id for ticket in tickets],
                "order_ids": [ticket.order_id for ticket in tickets],
                "befores": [change.before for change in changes],
                "statuses": [ticket.status for ticket in tickets],
                "holder_names": [ticket.holder_name for ticket in tickets],
                "holder_emails": [ticket.holder_email for ticket in tickets],
                "causes": [causes[ticket.order_id] for ticket in tickets],
                "actor": actor,
            },
        )

    def advance_campaigns(self, campaigns: Sequence[Campaign]) -> None:
        names, indexes = [it.campaign_id for it in campaigns], [it.next_index for it in campaigns]
        self.transaction.execute(SQL["advance_campaigns"], {"campaign_ids": names, "next_indexes": indexes})

    def drop_waiting(self, order_ids: Sequence[str], kept: Sequence[Waiting]) -> None:
        names = {"kept_order_ids": [line.order_id for line in kept], "kept_line_ids": [line.line_id for line in kept]}
        self.transaction.execute(SQL["drop_waiting"], {"order_ids": order_ids} | names)

    def keep_waiting(self, lines: Sequence[Waiting]) -> None:
        columns = dict(zip(_WAITING, map(list, zip(*lines, strict=True)), strict=True))
        self.transaction.execute(SQL["keep_waiting"], columns)

    def save_orders(self, rows: Sequence[Saved]) -> None:
        columns = dict(zip(_SAVED, map(list, zip(*rows, strict=True)), strict=True))
        self.transaction.execute(SQL["save_orders"], columns)

    def take_due(self, orders_max: int) -> list[Due]:
        rows = self.transaction.execute(SQL["take_due"], {"orders_max": orders_max}).fetchall()
        return [Due._make(row) for row in rows]

    def decisions_of(self, order_ids: Sequence[str]) -> dict[str, str]:
        return dict(self.transaction.execute(SQL["decisions_of"], {"order_ids": order_ids}).fetchall())

    def drop_due(self, order_ids: Sequence[str]) -> None:
        self.transaction.execute(SQL["drop_due"], {"order_ids": order_ids})


_WAITING = tuple("quantities" if name == "quantity" else f"{name}s" for name in Waiting._fields)
_SAVED = tuple(f"{name}s" for name in Saved._fields)
