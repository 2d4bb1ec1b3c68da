"""The tables of approval. Each method is one statement inside the lane's transaction, which it
never commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg.errors import SerializationFailure

from schemas.envelope import Position
from schemas.text import rfc3339
from services.approval.lookalikes import LookalikeKey
from services.runtime.postgres import statements
from services.runtime.postgres.arrays import blobs, plain, texts
from services.runtime.postgres.lane_store import Session

SQL = statements.load(__package__)


class ApprovalOrderRow(NamedTuple):
    """An order's row, locked. The defaults are those of an order without a row."""

    order_id: str
    sequence: int = 0
    digest: bytes | None = None
    observed_generation: int = 0
    observed_sequence: int = 0

    @property
    def observed(self) -> Position:
        """Return the position of the observation that was decided last."""
        return Position(self.observed_generation, self.observed_sequence)


class DecidedRow(NamedTuple):
    """An order's row as it is to be written, and its receipt. Documents are JSON texts."""

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
    lookalike_key: LookalikeKey | None
    duplicate_window_s: int | None


@dataclass(frozen=True, slots=True)
class ApprovalStore:
    transaction: Session

    def lock_orders(self, order_ids: Sequence[str]) -> tuple[int, dict[str, ApprovalOrderRow]]:
        """Return the generation and the rows that exist; orders without one are new."""
        rows = self.transaction.execute(
            SQL["lock_orders"], {"order_ids": texts(order_ids)}
        ).fetchall()
        return rows[0][0], {
            row[1]: ApprovalOrderRow._make(row[1:]) for row in rows if row[1] is not None
        }

    def add_orders(self, rows: Sequence[DecidedRow]) -> None:
        """Raise SerializationFailure if another lane was first with one of them: the batch is then
        decided again.
        """
        if self.transaction.execute(SQL["add_orders"], _orders(rows)).rowcount != len(rows):
            raise SerializationFailure(
                "another lane has just decided one of these orders for the first time"
            )

    def save_orders(self, rows: Sequence[DecidedRow]) -> None:
        self.transaction.execute(SQL["save_orders"], _orders(rows))

    def add_receipts(self, rows: Sequence[DecidedRow]) -> None:
        self.transaction.execute(
            SQL["add_receipts"],
            {
                "order_ids": texts([row.order_id for row in rows]),
                "observed_generations": plain([row.observed_generation for row in rows]),
                "observed_sequences": plain([row.observed_sequence for row in rows]),
                "sequences": plain([row.sequence for row in rows]),
                "inputs": texts([row.inputs for row in rows]),
                "policy_versions": texts([row.policy_version for row in rows]),
                "outcomes": texts([row.outcome for row in rows]),
            },
        )


def _orders(rows: Sequence[DecidedRow]) -> dict[str, Any]:
    keys = [row.lookalike_key for row in rows]
    return {
        "order_ids": texts([row.order_id for row in rows]),
        "sequences": plain([row.sequence for row in rows]),
        "generations": plain([row.generation for row in rows]),
        "digests": [row.digest for row in rows],
        "states": texts([row.state for row in rows]),
        "observed_generations": plain([row.observed_generation for row in rows]),
        "observed_sequences": plain([row.observed_sequence for row in rows]),
        "decisions": texts([row.decision for row in rows]),
        "fingerprints": blobs([key.fingerprint if key else None for key in keys]),
        "placed": texts([rfc3339(key.placed_at) if key else None for key in keys]),
        "duplicate_windows_s": plain([row.duplicate_window_s for row in rows]),
    }
