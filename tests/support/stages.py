"""Approval and issuer without processes: their handlers in transactions of a real database, on
records that the models write.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from schemas import structs
from schemas.envelope import Output, Snapshot
from schemas.orders import (
    DecidedLine,
    Line,
    OrderDecided,
    OrderObserved,
    Person,
    Storefront,
    TicketsChanged,
)
from services.approval import worker as approval
from services.approval.settings import ApprovalSettings, Policies, policies
from services.issuer import worker as issuer
from services.issuer.commands import CampaignCommands
from services.issuer.rules.campaigns import CampaignDefinition
from services.runtime.admin.commands import CommandResult, OperatorCommand
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Effect, Outcome, Record

DAWN = datetime(2027, 3, 20, 8, 0, tzinfo=UTC)
TIME = "2027-03-20T08:00:00Z"


def record(output: Output, offset: int = 0) -> Record:
    return Record(output.topic, 0, offset, 0, output.key, output.value, output.headers)


def outputs_of(outcomes: Sequence[Outcome]) -> list[Output]:
    return [
        event.encode(time=TIME, traceparent=None)
        for outcome in outcomes
        if isinstance(outcome, Effect)
        for event in outcome.outputs
    ]


def observed(
    order: str,
    *history: str,
    sequence: int = 1,
    quantity: int = 1,
    is_deleted: bool = False,
    **more: Any,
) -> OrderObserved:
    """Return ingest's event of an order that had these statuses, a minute apart. Without any, only
    a deletion is known.
    """
    at = {status: DAWN + timedelta(minutes=place) for place, status in enumerate(history)}
    buyer = Person(name="Ada Example", email=f"{order}@example.org")
    line = Line(line_id="1", product_id="7", sku="RFL", name="Raffle", quantity=quantity)
    front = None
    if history:
        content = {"currency": "EUR", "total_minor": 100, "buyer": buyer, "lines": (line,), **more}
        front = structs.convert(Storefront, {"status": history[-1], **content})
    return OrderObserved(
        key=f"shop:{order}",
        generation=1,
        sequence=sequence,
        source="shop",
        external_id=order,
        storefront=front,
        reached=at,
        is_deleted=is_deleted,
    )


def decided(order: str, quantity: int, *, sequence: int = 1, sku: str = "RFL") -> OrderDecided:
    buyer = Person(name="Ada Example", email=f"{order}@example.org")
    line = DecidedLine(
        line_id="1", product_id="7", sku=sku, name="Raffle", quantity=quantity, holder=buyer
    )
    return OrderDecided(
        key=f"shop:{order}",
        generation=1,
        sequence=sequence,
        source="shop",
        external_id=order,
        state="released" if quantity else "cancelled",
        buyer=buyer,
        lines=(line,),
    )


def raffle(**changed: Any) -> CampaignDefinition:
    content = {
        "id": "raffle",
        "name": "Raffle",
        "sources": ["shop"],
        "skus": ["RFL"],
        "prefix": "R-",
        "padding": 4,
    }
    return CampaignDefinition.model_validate(content | changed)


class Stages:
    """One session, as one process has it."""

    def __init__(self, session: Session, approval_policies: Policies | None = None) -> None:
        self.session = session
        self.policies = approval_policies or policies(ApprovalSettings())

    def approve(self, *events: OrderObserved) -> list[Outcome]:
        batch = [approval.parse(record(self._written(event))) for event in events]
        with self.session.transaction():
            return approval.handle(batch, self.session, self.policies)

    def issue(self, *events: OrderDecided) -> list[Outcome]:
        batch = [issuer.parse(record(self._written(event))) for event in events]
        with self.session.transaction():
            return issuer.handle(batch, self.session)

    def work(self, *events: OrderObserved) -> list[TicketsChanged]:
        """Work observations through both stages. Return the issuer's events."""
        outputs = outputs_of(self.approve(*events))
        decisions = [OrderDecided.read(output.headers, output.value) for output in outputs]
        return self.tickets_changed(self.issue(*decisions)) if decisions else []

    def tick(self, orders_max: int = 500) -> list[TicketsChanged]:
        with self.session.transaction():
            events = issuer.tick(DAWN, self.session, orders_max=orders_max)
        return self.tickets_changed([Effect(events)])

    def apply(self, *definitions: CampaignDefinition) -> CommandResult:
        return CampaignCommands(self.session, OperatorCommand("tester", uuid4())).apply(definitions)

    def rows(
        self, statement: str, arguments: Mapping[str, object] | None = None
    ) -> list[dict[str, Any]]:
        return (
            self.session.cursor(row_factory=dict_row)
            .execute(statement.encode(), arguments)
            .fetchall()
        )

    def tickets(self, order: str | None = None, status: str = "Active") -> list[str]:
        """Return the numbers, by order, line and ordinal."""
        rows = self.rows(
            "select number from issuer.tickets where status = %(status)s "
            "and (%(order)s::text is null or order_id = 'shop:' || %(order)s) order by order_id, "
            "line_id, ordinal",
            {"order": order, "status": status},
        )
        return [row["number"] for row in rows]

    def await_waiting(self, sessions: int) -> None:
        """Return once so many sessions of this database wait for a lock."""
        statement = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname "
            "= current_database()"
        )
        until = time.monotonic() + 60
        while self.rows(statement)[0]["count"] < sessions:
            assert time.monotonic() < until, "no session waits"
            time.sleep(0.01)

    @staticmethod
    def tickets_changed(outcomes: Sequence[Outcome]) -> list[TicketsChanged]:
        return [
            TicketsChanged.read(output.headers, output.value) for output in outputs_of(outcomes)
        ]

    @staticmethod
    def _written(event: Snapshot) -> Output:
        return event.encode(time=TIME, traceparent=None)


@contextmanager
def opened(url: str, approval_policies: Policies | None = None) -> Iterator[Stages]:
    with connection.connect(url, name="stages") as session:
        yield Stages(session, approval_policies)


def sqlstate_of(stages: Stages, statement: str) -> str:
    """Return the SQLSTATE with which the database refuses a statement."""
    try:
        stages.session.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate or ""
    return "00000"
