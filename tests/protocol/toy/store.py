"""The toy's tables in PostgreSQL. One method, one statement; works inside the lane's
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from services.runtime.postgres import statements
from services.runtime.postgres.ledger import Session
from tests.protocol.toy.events import FirstSaid, Input
from tests.protocol.toy.rules import First, Second

SQL = statements.load("tests.protocol.toy")
R = TypeVar("R", First, Second)


def tupled(row: R) -> R:
    """An array comes as a list, and rows are compared."""
    return replace(row, children=tuple(row.children))


class Store(Protocol):
    """What the toy asks of its tables. The second implementation is in memory (memory.py)."""

    def add_firsts(self, keys: Sequence[str]) -> None: ...
    def lock_firsts(self, keys: Sequence[str]) -> dict[str, First]: ...
    def lock_due(self) -> dict[str, First]: ...
    def add_inputs(self, inputs: Sequence[Input]) -> set[str]:
        """The ids that were not known."""
        ...

    def save_firsts(self, rows: Sequence[First]) -> None: ...
    def add_snapshots(self, said: Sequence[FirstSaid]) -> None: ...
    def add_seconds(self, keys: Sequence[str]) -> None: ...
    def lock_seconds(self, keys: Sequence[str]) -> dict[str, Second]: ...
    def save_seconds(self, rows: Sequence[Second]) -> None: ...
    def set_children(self, children: Sequence[tuple[str, str, bool]]) -> None: ...


@dataclass(frozen=True, slots=True)
class PostgresStore:
    session: Session

    def add_firsts(self, keys: Sequence[str]) -> None:
        self.session.execute(SQL["add_firsts"], {"keys": keys})

    def lock_firsts(self, keys: Sequence[str]) -> dict[str, First]:
        rows = (
            self.session.cursor(row_factory=class_row(First))
            .execute(SQL["lock_firsts"], {"keys": keys})
            .fetchall()
        )
        return {row.key: tupled(row) for row in rows}

    def lock_due(self) -> dict[str, First]:
        rows = self.session.cursor(row_factory=class_row(First)).execute(SQL["lock_due"]).fetchall()
        return {row.key: tupled(row) for row in rows}

    def add_inputs(self, inputs: Sequence[Input]) -> set[str]:
        names = {"ids": "id", "keys": "key", "whats": "what", "amounts": "amount", "notes": "note"}
        batch = {column: [getattr(told, name) for told in inputs] for column, name in names.items()}
        return {row[0] for row in self.session.execute(SQL["add_inputs"], batch)}

    def save_firsts(self, rows: Sequence[First]) -> None:
        self.session.execute(
            SQL["save_firsts"],
            {
                "keys": [row.key for row in rows],
                "states": [row.state for row in rows],
                "children": [Jsonb(row.children) for row in rows],
                "totals": [row.total for row in rows],
                "dues": [row.is_due for row in rows],
                "confirmeds": [row.confirmed for row in rows],
                "answer_generations": [row.answer_generation for row in rows],
                "answer_sequences": [row.answer_sequence for row in rows],
                "sequences": [row.sequence for row in rows],
                "digests": [row.digest for row in rows],
            },
        )

    def add_snapshots(self, said: Sequence[FirstSaid]) -> None:
        self.session.execute(
            SQL["add_snapshots"],
            {
                "keys": [it.key for it in said],
                "generations": [it.generation for it in said],
                "sequences": [it.sequence for it in said],
                "states": [it.state for it in said],
                "children": [Jsonb(it.children) for it in said],
                "totals": [it.total for it in said],
                "confirmeds": [it.confirmed for it in said],
            },
        )

    def add_seconds(self, keys: Sequence[str]) -> None:
        self.session.execute(SQL["add_seconds"], {"keys": keys})

    def lock_seconds(self, keys: Sequence[str]) -> dict[str, Second]:
        cursor = self.session.cursor(row_factory=class_row(Second))
        rows = cursor.execute(SQL["lock_seconds"], {"keys": keys}).fetchall()
        return {row.key: tupled(row) for row in rows}

    def save_seconds(self, rows: Sequence[Second]) -> None:
        self.session.execute(
            SQL["save_seconds"],
            {
                "keys": [row.key for row in rows],
                "states": [row.state for row in rows],
                "actives": [row.active for row in rows],
                "first_generations": [row.first_generation for row in rows],
                "first_sequences": [row.first_sequence for row in rows],
                "sequences": [row.sequence for row in rows],
                "digests": [row.digest for row in rows],
            },
        )

    def set_children(self, children: Sequence[tuple[str, str, bool]]) -> None:
        keys, names, active = zip(*children, strict=True)
        columns = {"keys": list(keys), "children": list(names), "actives": list(active)}
        self.session.execute(SQL["set_children"], columns)
