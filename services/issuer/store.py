"""The tables of the issuer. Each method is one statement inside the lane's transaction, which it
never commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.errors import SerializationFailure

from schemas.envelope import Position
from services.issuer.rules.campaigns import Product
from services.issuer.rules.plan import LockedCampaign, PlannedTicket, TicketChange, WaitingLine
from services.runtime.postgres import statements
from services.runtime.postgres.arrays import plain, texts
from services.runtime.postgres.lane_store import Session

SQL = statements.load(__package__)
ACTOR = "stubline.issuer"
NEVER = datetime.min.replace(tzinfo=UTC)


class TransactionStart(NamedTuple):
    """The generation of the data and the time of the transaction."""

    generation: int
    now: datetime


class AuditReason(NamedTuple):
    """What the audit records: the actor, and for each order the event or command that caused it."""

    actor: str
    causes: Mapping[str, str]


class IssuerOrderRow(NamedTuple):
    """An order's row, locked. The defaults are those of an order without a row."""

    order_id: str
    sequence: int = 0
    digest: bytes | None = None
    decided_generation: int = 0
    decided_sequence: int = 0
    is_waiting: bool = False

    @property
    def decided(self) -> Position:
        """Return the position of the decision that was applied last."""
        return Position(self.decided_generation, self.decided_sequence)


class SavedOrder(NamedTuple):
    """An order's row as it is to be written. The decision is JSON text."""

    order_id: str
    sequence: int
    generation: int
    digest: bytes
    decided_generation: int
    decided_sequence: int
    buyer_email: str
    is_waiting: bool
    decision: str


class DueOrder(NamedTuple):
    """An order with waiting lines that a campaign takes now."""

    order_id: str
    actor: str
    cause: UUID


@dataclass(frozen=True, slots=True)
class IssuerStore:
    transaction: Session

    def begin_batch(self) -> TransactionStart:
        """Keep campaigns from being applied until the transaction ends."""
        row = self.transaction.execute(SQL["begin_batch"]).fetchone()
        _, generation, now = row or (None, 0, NEVER)
        return TransactionStart(generation, now)

    def lock_orders(self, order_ids: Sequence[str]) -> dict[str, IssuerOrderRow]:
        """Return the rows that exist; orders without one are new."""
        rows = self.transaction.execute(
            SQL["lock_orders"], {"order_ids": texts(order_ids)}
        ).fetchall()
        return {row[0]: IssuerOrderRow._make(row) for row in rows}

    def find_tickets(self, order_ids: Sequence[str]) -> dict[str, list[PlannedTicket]]:
        by_order: dict[str, list[PlannedTicket]] = {}
        for row in self.transaction.execute(SQL["find_tickets"], {"order_ids": texts(order_ids)}):
            by_order.setdefault(row[1], []).append(PlannedTicket._make(row))
        return by_order

    def lock_campaigns(
        self, products: Iterable[Product], campaign_ids: Sequence[str]
    ) -> tuple[dict[str, LockedCampaign], dict[Product, str]]:
        """Return the campaigns by id, and which of them takes which product."""
        sources, kinds, contents = zip(*products, strict=True) if products else ((), (), ())
        arguments = {"sources": texts(sources), "kinds": texts(kinds), "contents": texts(contents)}
        names = {"campaign_ids": texts(campaign_ids)}
        rows = self.transaction.execute(SQL["lock_campaigns"], arguments | names).fetchall()
        owners = {
            (source, kind, name): row[0] for row in rows for source, kind, name in row[5] or ()
        }
        return {row[0]: LockedCampaign(*row[:5]) for row in rows}, owners

    def issue_tickets(self, tickets: Sequence[PlannedTicket], reason: AuditReason) -> None:
        self.transaction.execute(
            SQL["issue_tickets"],
            {
                "ticket_ids": plain([ticket.ticket_id for ticket in tickets]),
                "order_ids": texts([ticket.order_id for ticket in tickets]),
                "line_ids": texts([ticket.line_id for ticket in tickets]),
                "ordinals": plain([ticket.ordinal for ticket in tickets]),
                "campaign_ids": texts([ticket.campaign_id for ticket in tickets]),
                "places": plain([ticket.place for ticket in tickets]),
                "numbers": texts([ticket.number for ticket in tickets]),
                "codes": plain([ticket.code for ticket in tickets]),
                "statuses": plain([ticket.status for ticket in tickets]),
                "reasons": plain([ticket.reason for ticket in tickets]),
                "holder_names": texts([ticket.holder_name for ticket in tickets]),
                "holder_emails": texts([ticket.holder_email for ticket in tickets]),
                "recipient_emails": texts([ticket.recipient_email for ticket in tickets]),
                "product_ids": texts([ticket.product_id for ticket in tickets]),
                "causes": plain([reason.causes[ticket.order_id] for ticket in tickets]),
                "actor": reason.actor,
            },
        )

    def change_tickets(self, changes: Sequence[TicketChange], reason: AuditReason) -> None:
        tickets = [change.ticket for change in changes]
        self.transaction.execute(
            SQL["change_tickets"],
            {
                "ticket_ids": plain([ticket.ticket_id for ticket in tickets]),
                "order_ids": texts([ticket.order_id for ticket in tickets]),
                "befores": texts([change.before for change in changes]),
                "statuses": texts([ticket.status for ticket in tickets]),
                "holder_names": texts([ticket.holder_name for ticket in tickets]),
                "holder_emails": texts([ticket.holder_email for ticket in tickets]),
                "recipient_emails": texts([ticket.recipient_email for ticket in tickets]),
                "causes": plain([reason.causes[ticket.order_id] for ticket in tickets]),
                "actor": reason.actor,
            },
        )

    def advance_campaigns(self, campaigns: Sequence[LockedCampaign]) -> None:
        self.transaction.execute(
            SQL["advance_campaigns"],
            {
                "campaign_ids": texts([campaign.campaign_id for campaign in campaigns]),
                "next_places": plain([campaign.next_place for campaign in campaigns]),
            },
        )

    def drop_waiting(self, order_ids: Sequence[str], kept: Sequence[WaitingLine]) -> None:
        names = {
            "kept_order_ids": [line.order_id for line in kept],
            "kept_line_ids": [line.line_id for line in kept],
        }
        self.transaction.execute(SQL["drop_waiting"], {"order_ids": texts(order_ids)} | names)

    def keep_waiting(self, lines: Sequence[WaitingLine]) -> None:
        self.transaction.execute(SQL["keep_waiting"], _columns(lines))

    def add_orders(self, rows: Sequence[SavedOrder]) -> None:
        """Raise SerializationFailure if another lane was first with one of them: the batch is then
        decided again.
        """
        if self.transaction.execute(SQL["add_orders"], _columns(rows)).rowcount != len(rows):
            raise SerializationFailure(
                "another lane has just worked one of these orders for the first time"
            )

    def save_orders(self, rows: Sequence[SavedOrder]) -> None:
        self.transaction.execute(SQL["save_orders"], _columns(rows))

    def has_due(self) -> bool:
        row = self.transaction.execute(SQL["has_due"]).fetchone()
        return bool(row and row[0])

    def find_due(self, orders_max: int, tickets_max: int) -> list[DueOrder]:
        bounds = {"orders_max": orders_max, "tickets_max": tickets_max}
        rows = self.transaction.execute(SQL["find_due"], bounds).fetchall()
        return [DueOrder._make(row) for row in rows]

    def find_decisions(self, order_ids: Sequence[str]) -> dict[str, str]:
        return dict(
            self.transaction.execute(
                SQL["find_decisions"], {"order_ids": texts(order_ids)}
            ).fetchall()
        )

    def drop_due(self, order_ids: Sequence[str]) -> None:
        self.transaction.execute(SQL["drop_due"], {"order_ids": texts(order_ids)})


# Columns whose arrays need no escaping: services/runtime/postgres/arrays.py.
PLAIN = frozenset(
    {"sequence", "generation", "decided_generation", "decided_sequence", "is_waiting", "quantity"}
)


def _columns(rows: Sequence[SavedOrder] | Sequence[WaitingLine]) -> dict[str, Any]:
    """Return one array per field, named in the plural."""
    columns: dict[str, Any] = {}
    for name, content in zip(rows[0]._fields, zip(*rows, strict=True), strict=True):
        plural = "quantities" if name == "quantity" else f"{name}s"
        columns[plural] = (
            list(content)
            if name == "digest"
            else plain(content)
            if name in PLAIN
            else texts(content)
        )
    return columns
