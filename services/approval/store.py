"""The tables of approval. One method, one statement; works inside the lane's transaction and never commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.runtime import sql
from services.runtime.ledger import Session

SQL = sql.load(__package__)


class OrderRow(NamedTuple):
    """What is known of an order, locked."""

    order_id: str
    generation: int  # of the data now
    sequence: int
    digest: bytes | None
    observed_generation: int
    observed_sequence: int


class Decided(NamedTuple):
    """A row as it shall be, and its receipt. Documents are JSON texts."""

    order_id: str
    generation: int
    sequence: int
    digest: bytes
    state: str
    observed_generation: int
    observed_sequence: int
    decision: str
    inputs: str
    policy_version: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Store:
    transaction: Session

    def add_orders(self, order_ids: Sequence[str]) -> None:
        self.transaction.execute(SQL["add_orders"], {"order_ids": order_ids})

    def lock_orders(self, order_ids: Sequence[str]) -> dict[str, OrderRow]:
        rows = self.transaction.execute(SQL["lock_orders"], {"order_ids": order_ids}).fetchall()
        return {row[0]: OrderRow._make(row) for row in rows}

    def save_orders(self, rows: Sequence[Decided]) -> None:
        self.transaction.execute(
            SQL["save_orders"],
            {
                "order_ids": [row.order_id for row in rows],
                "sequences": [row.sequence for row in rows],
                "generations": [row.generation for row in rows],
                "digests": [row.digest for row in rows],
                "states": [row.state for row in rows],
                "observed_generations": [row.observed_generation for row in rows],
                "observed_sequences": [row.observed_sequence for row in rows],
                "decisions": [row.decision for row in rows],
            },
        )

    def add_receipts(self, rows: Sequence[Decided]) -> None:
        self.transaction.execute(
            SQL["add_receipts"],
            {
                "order_ids": [row.order_id for row in rows],
                "observed_generations": [row.observed_generation for row in rows],
                "observed_sequences": [row.observed_sequence for row in rows],
                "sequences": [row.sequence for row in rows],
                "inputs": [row.inputs for row in rows],
                "policy_versions": [row.policy_version for row in rows],
                "outcomes": [row.outcome for row in rows],
            },
        )
