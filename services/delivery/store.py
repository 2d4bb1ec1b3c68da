"""Delivery's tables in SQL. Each method is one statement and one round trip, however large the
batch is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row, dict_row

from schemas import structs
from schemas.envelope import Position
from schemas.orders import JobSnapshot, State, TicketsChanged
from services.delivery.rules import DeliveryOrder, Job
from services.runtime.postgres import statements
from services.runtime.postgres.lane_store import Session

SQL = statements.load(__package__)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeliveryOrderRow:
    order_id: str
    tickets_generation: int
    tickets_sequence: int
    decision_generation: int
    decision_sequence: int
    decision: State | None
    active: list[UUID]


@dataclass(frozen=True, slots=True)
class PublishedSnapshot:
    """What was last published of an order, and the generation that the next snapshot would have."""

    order_id: str
    generation: int
    sequence: int
    digest: bytes | None


class JobDeadLetter(NamedTuple):
    """A job's dead letter."""

    id: UUID
    topic: str
    topic_id: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    code: str
    text: str
    attempts: int


@dataclass(frozen=True, slots=True)
class DeliveryStore:
    """Works inside the lane's transaction and never commits."""

    session: Session

    def add_orders(self, order_ids: Sequence[str]) -> None:
        self.session.execute(SQL["add_orders"], {"order_ids": order_ids})

    def lock_orders(self, order_ids: Sequence[str]) -> list[DeliveryOrderRow]:
        cursor = self.session.cursor(row_factory=class_row(DeliveryOrderRow))
        return cursor.execute(SQL["lock_orders"], {"order_ids": order_ids}).fetchall()

    def find_jobs(self, order_ids: Sequence[str]) -> list[Job]:
        rows = self.session.execute(SQL["find_jobs"], {"order_ids": order_ids}).fetchall()
        return [
            Job(job_id, order_id, kind, state, is_held, frozenset(ticket_ids))
            for job_id, order_id, kind, state, is_held, ticket_ids in rows
        ]

    def load(self, order_ids: Sequence[str]) -> dict[str, DeliveryOrder]:
        """Return the orders, locked. Three statements."""
        self.add_orders(order_ids)
        rows = self.lock_orders(order_ids)
        jobs: dict[str, list[Job]] = {}
        for job in self.find_jobs(order_ids):
            jobs.setdefault(job.order_id, []).append(job)
        return {
            row.order_id: DeliveryOrder(
                row.order_id,
                Position(row.tickets_generation, row.tickets_sequence),
                frozenset(row.active),
                Position(row.decision_generation, row.decision_sequence),
                row.decision,
                tuple(jobs.get(row.order_id, ())),
            )
            for row in rows
        }

    def save_orders(
        self,
        orders: Sequence[DeliveryOrder],
        snapshots: Mapping[str, TicketsChanged],
        dirty: Iterable[str],
    ) -> None:
        changed = set(dirty)
        self.session.execute(
            SQL["save_orders"],
            {
                "order_ids": [order.order_id for order in orders],
                "tickets_generations": [order.tickets.generation for order in orders],
                "tickets_sequences": [order.tickets.sequence for order in orders],
                "snapshots": [
                    structs.encode(snapshots[order.order_id]).decode()
                    if order.order_id in snapshots
                    else None
                    for order in orders
                ],
                "decision_generations": [order.decided.generation for order in orders],
                "decision_sequences": [order.decided.sequence for order in orders],
                "decisions": [order.decision for order in orders],
                "are_dirty": [order.order_id in changed for order in orders],
            },
        )

    def save_jobs(self, jobs: Sequence[Job]) -> None:
        columns = {
            "job_ids": [job.job_id for job in jobs],
            "order_ids": [job.order_id for job in jobs],
            "kinds": [job.kind for job in jobs],
            "states": [job.state for job in jobs],
            "are_held": [job.is_held for job in jobs],
        }
        self.session.execute(SQL["save_jobs"], columns)

    def add_job_tickets(self, jobs: Sequence[Job]) -> None:
        members = [(job, ticket_id) for job in jobs for ticket_id in job.ticket_ids]
        columns = {
            "job_ids": [job.job_id for job, _ in members],
            "kinds": [job.kind for job, _ in members],
            "ticket_ids": [ticket_id for _, ticket_id in members],
        }
        self.session.execute(SQL["add_job_tickets"], columns)

    def has_dirty(self, delay_s: float) -> bool:
        """Return whether an order's deliveries changed so long ago, and are not published yet."""
        row = self.session.execute(SQL["has_dirty"], {"delay_s": delay_s}).fetchone()
        return bool(row and row[0])

    def lock_dirty(self, orders_max: int, delay_s: float) -> list[PublishedSnapshot]:
        cursor = self.session.cursor(row_factory=class_row(PublishedSnapshot))
        parameters = {"orders_max": orders_max, "delay_s": delay_s}
        return cursor.execute(SQL["lock_dirty"], parameters).fetchall()

    def find_job_snapshots(self, order_ids: Sequence[str]) -> dict[str, list[JobSnapshot]]:
        cursor = self.session.cursor(row_factory=dict_row)
        snapshots: dict[str, list[JobSnapshot]] = {}
        for row in cursor.execute(SQL["find_job_snapshots"], {"order_ids": order_ids}):
            order_id = row.pop("order_id")
            snapshots.setdefault(order_id, []).append(structs.convert(JobSnapshot, row))
        return snapshots

    def take_new_dead_letters(self, order_ids: Sequence[str]) -> list[JobDeadLetter]:
        rows = self.session.execute(
            SQL["take_new_dead_letters"], {"order_ids": order_ids}
        ).fetchall()
        return [JobDeadLetter(*row) for row in rows]

    def save_published(self, published: Sequence[PublishedSnapshot]) -> None:
        columns = {
            "order_ids": [snapshot.order_id for snapshot in published],
            "generations": [snapshot.generation for snapshot in published],
            "sequences": [snapshot.sequence for snapshot in published],
            "digests": [snapshot.digest for snapshot in published],
        }
        self.session.execute(SQL["save_published"], columns)

    def count_open_jobs(self, jobs_max: int) -> int:
        row = self.session.execute(SQL["count_open_jobs"], {"jobs_max": jobs_max}).fetchone()
        return int(row[0]) if row else 0


class IndexedFile(NamedTuple):
    """A document and its file."""

    document_key: bytes
    sha256: bytes
    size: int  # bytes
    pages: int


class UnusedFile(NamedTuple):
    """A file that has not been used for long."""

    document_key: bytes
    sha256: bytes
    used_at: datetime
    is_last: bool  # no other document has used its content lately


@dataclass(frozen=True, slots=True)
class FileIndex:
    """The file of each document. Each method is one statement and, outside a transaction, one
    transaction.
    """

    session: Session

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the SHA-256 of each document that was rendered before, by its key."""
        return dict(
            self.session.execute(SQL["find_files"], {"document_keys": list(keys)}).fetchall()
        )

    def record(
        self, order_id: str, files: Sequence[IndexedFile], lost: Iterable[bytes]
    ) -> dict[bytes, bytes]:
        """Record the files, and return the SHA-256 of each document. A file that another sender
        recorded first stays, unless its content is lost.
        """
        columns = {
            "order_id": order_id,
            "document_keys": [file.document_key for file in files],
            "sha256s": [file.sha256 for file in files],
            "sizes": [file.size for file in files],
            "pages": [file.pages for file in files],
            "lost": list(lost),
        }
        return dict(self.session.execute(SQL["index_files"], columns).fetchall())

    @contextmanager
    def removal(self) -> Iterator[bool]:
        """Yield whether this sender may remove unused files: one at a time."""
        row = self.session.execute(SQL["lock_removal"]).fetchone()
        is_ours = bool(row and row[0])
        try:
            yield is_ours
        finally:
            if is_ours and not self.session.closed:  # a closed session has no lock
                self.session.execute(SQL["unlock_removal"])

    def unused(self, keep_days: int, files_max: int) -> list[UnusedFile]:
        parameters = {"keep_days": keep_days, "files_max": files_max}
        return [
            UnusedFile(*row)
            for row in self.session.execute(SQL["find_unused"], parameters).fetchall()
        ]

    def forget(self, files: Sequence[UnusedFile]) -> None:
        columns = {
            "document_keys": [file.document_key for file in files],
            "used": [file.used_at for file in files],
        }
        self.session.execute(SQL["delete_files"], columns)


@dataclass(frozen=True, slots=True)
class DeliveryQueries:
    """The queries of operators. They change nothing."""

    session: Session

    def jobs(
        self,
        *,
        order_id: str | None = None,
        states: Sequence[str] | None = None,
        jobs_max: int = 50,
    ) -> list[Row]:
        parameters = {"order_id": order_id, "states": states, "jobs_max": jobs_max}
        return (
            self.session.cursor(row_factory=dict_row)
            .execute(SQL["list_jobs"], parameters)
            .fetchall()
        )

    def order(self, order_id: str) -> Row | None:
        cursor = self.session.cursor(row_factory=dict_row)
        return cursor.execute(SQL["find_order"], {"order_id": order_id}).fetchone()
