"""Orders as the issuer and approval publish them, and a delivery service in parts: its lane's
handler, its senders as processes.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg
from psycopg.rows import dict_row

from deploy.local.mail import Mail
from deploy.local.roles import as_role
from deploy.local.stack import STATE
from schemas import structs
from schemas.orders import CampaignSnapshot, OrderDecided, Person, Ticket, TicketsChanged
from services.delivery.rules import DeliveryInput
from services.delivery.worker import handle, tick
from services.runtime.records import Event, Outcome
from tests.support.processes import module_command

ROOT = Path(__file__).resolve().parents[2]
TICKETS = UUID("11111111-2222-5333-8444-555555555555")
ADA = Person(name="Ada Lovelace", email="ada@example.org")
DRAW = CampaignSnapshot(
    campaign_id="spring",
    version=1,
    name="Spring Draw",
    starts_on=date(2027, 3, 6),
    starts_at="19:30",
    zone="Europe/Dublin",
    venue="Example Hall, Dublin",
)
ISSUED = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
QUICK = {
    "idle_wait_ms": 50,
    "retry_min_ms": 200,
    "retry_max_ms": 400,
    "breaker_min_ms": 100,
    "breaker_max_ms": 300,
    "lease_ms": 1_500,
    "mail_deadline_ms": 1_000,
    "smtp_timeout_ms": 700,
}


def ticket_id(order_id: str, ordinal: int) -> UUID:
    return uuid5(TICKETS, f"{order_id}/{ordinal}")


def ticket(order_id: str, ordinal: int, status: str = "Active", holder: Person = ADA) -> Ticket:
    return structs.convert(
        Ticket,
        {
            "ticket_id": ticket_id(order_id, ordinal),
            "line_id": "1",
            "ordinal": ordinal,
            "campaign_id": "spring",
            "number": f"RFL-{ordinal:04}",
            "code": f"{ordinal:0>26}".replace("0", "A")
            .replace("1", "B")
            .replace("8", "C")
            .replace("9", "D"),
            "status": status,
            "holder": holder,
            "issued_at": ISSUED,
        },
    )


def issued(
    order_id: str,
    sequence: int,
    *statuses: str,
    buyer: Person = ADA,
    holder: Person | None = None,
    generation: int = 1,
) -> TicketsChanged:
    """Return the issuer's snapshot: one status a ticket, by ordinal; `-` for one that was never
    issued.
    """
    source, _, external = order_id.partition(":")
    numbered = enumerate(statuses, 1)
    return TicketsChanged(
        key=order_id,
        generation=generation,
        sequence=sequence,
        source=source,
        external_id=external,
        number=external,
        buyer=buyer,
        campaigns=(DRAW,),
        tickets=tuple(
            ticket(order_id, n, status, holder or buyer) for n, status in numbered if status != "-"
        ),
    )


def decided(
    order_id: str, sequence: int, state: str = "released", generation: int = 1
) -> OrderDecided:
    source, _, external = order_id.partition(":")
    return structs.convert(
        OrderDecided,
        {
            "key": order_id,
            "generation": generation,
            "sequence": sequence,
            "source": source,
            "external_id": external,
            "state": state,
            "buyer": ADA,
        },
    )


class SenderProcess:
    """One sender. It dies with its test."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log_file = log
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                module_command("tests.support.sender_process"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                cwd=ROOT,
            )

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> None:
        if self.is_alive:
            self._child.kill()
        self._child.wait(60)

    def stop(self) -> int:
        self._child.terminate()
        return self._child.wait(120)

    def wait(self, seconds: float) -> int:
        return self._child.wait(seconds)

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")


@dataclass
class Deliveries:
    """The service on a database of its own and a mail server of its own."""

    database_url: str
    mail: Mail
    folder: Path
    senders: list[SenderProcess] = field(default_factory=list)
    _connection: psycopg.Connection[Any] | None = None

    @property
    def design(self) -> Path:
        """The design of an "undesigned" buyer: while it is missing, the buyer's orders cannot be
        printed.
        """
        return self.folder / "design"

    def rendered(self) -> list[str]:
        """Return a line per rendering by any sender: its order and its document's key."""
        file = self.folder / "rendered"
        return file.read_text("utf-8").splitlines() if file.exists() else []

    @property
    def files(self) -> Path:
        """Where its senders store what they rendered."""
        return self.folder / "files"

    @property
    def connection(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self.database_url, autocommit=True, connect_timeout=5
            )
        return self._connection

    def close(self) -> None:
        for sender in self.senders:
            sender.kill()
        if self._connection is not None:
            self._connection.close()

    def receive(self, *inputs: DeliveryInput) -> list[Outcome]:
        """Handle one batch of the lane, in one transaction."""
        with self.connection.transaction():
            return handle(inputs, self.connection)

    def tick(self, orders_max: int = 1_000) -> Sequence[Event]:
        with self.connection.transaction():
            return tick(datetime.now(UTC), self.connection, orders_max)

    def paid(self, order_id: str, tickets: int = 2, buyer: Person = ADA) -> None:
        """Receive a released order with its tickets."""
        self.receive(decided(order_id, 1), issued(order_id, 1, *["Active"] * tickets, buyer=buyer))

    def start(
        self, *, at: str = "", render_ms: int = 0, stamps: bool = False, **settings: object
    ) -> SenderProcess:
        """Start a sender. `at`: a switch of tests/protocol/toy/sabotage.py, at a point of the
        sender's telemetry. Unless it `stamps`, each document is rendered and stored.
        """
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",  # a sender never connects to it
            "DATABASE_URL": as_role(self.database_url, "delivery"),
            "STUBLINE_DELIVERY_SMTP_URL": self.mail.url,
            "STUBLINE_DELIVERY_FILES_URL": str(self.files),
            "STUBLINE_DELIVERY_PLATES_FOLDER": str(
                STATE / "plates"
            ),  # compiled once, and not by each test
            "SENDER_AT": at,
            "SENDER_RENDER_MS": str(render_ms),
            **({"SENDER_STAMPS": "1"} if stamps else {}),
            "SENDER_RENDERED": str(self.folder / "rendered"),
            "SENDER_DESIGN": str(self.design),
            **{
                f"STUBLINE_DELIVERY_{name.upper()}": str(value)
                for name, value in {**QUICK, **settings}.items()
            },
        }
        sender = SenderProcess(environment, self.folder / f"sender-{len(self.senders)}.log")
        self.senders.append(sender)
        return sender

    def rows(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        return (
            self.connection.cursor(row_factory=dict_row)
            .execute(statement.encode(), arguments)
            .fetchall()
        )

    def jobs(self, order_id: str | None = None) -> list[dict[str, Any]]:
        return self.rows(
            "select *, array(select ticket_id from delivery.job_tickets as member where "
            "member.job_id = jobs.job_id"
            " order by ticket_id) as ticket_ids from delivery.jobs"
            " where %s::text is null or order_id = %s order by filed_at, job_id",
            order_id,
            order_id,
        )

    def states(self) -> list[str]:
        return [job["state"] for job in self.jobs()]

    def without_job(self) -> list[dict[str, Any]]:
        """Return active tickets that stand in no initial job. The law: there are none."""
        return self.rows(
            "select order_id, ticket ->> 'ticket_id' as ticket_id"
            " from delivery.orders, jsonb_array_elements(tickets -> 'tickets') as ticket"
            " where ticket ->> 'status' <> 'Cancelled' and not exists (select from "
            "delivery.job_tickets as member"
            " where member.ticket_id = (ticket ->> 'ticket_id')::uuid and member.kind = 'initial')"
        )

    def until(self, what: str, done: Callable[[], bool], seconds: float = 300.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                logs = "\n".join(sender.log() for sender in self.senders)
                raise AssertionError(f"after {seconds:g} s: {what}\n{self.jobs()}\n{logs}")
            time.sleep(0.03)

    def until_sent(self, seconds: float = 300.0) -> None:
        self.until("all jobs are sent", lambda: set(self.states()) == {"sent"}, seconds)

    def message_ids(self) -> list[str]:
        return sorted(mail["Message-ID"] for mail in self.mail.mails())


@contextmanager
def deliveries(database_url: str, mail: Mail, folder: Path) -> Iterator[Deliveries]:
    site = Deliveries(database_url, mail, folder)
    try:
        yield site
    finally:
        site.close()
