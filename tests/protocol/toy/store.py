"""The toy's tables in PostgreSQL. Each method executes one statement in the lanes' transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from services.runtime.postgres import statements
from services.runtime.postgres.lane_store import Session
from tests.protocol.toy.events import FirstSnapshot, ToyInput
from tests.protocol.toy.rules import First, Second

SQL = statements.load("tests.protocol.toy")
R = TypeVar("R", First, Second)


def tupled(row: R) -> R:
    """Return a row with tuples for arrays, so that rows can be compared."""
    return replace(row, children=tuple(row.children))


class ToyStore(Protocol):
    """What the toy needs of its tables. A second implementation is in memory (memory.py)."""

    def add_firsts(self, keys: Sequence[str]) -> None: ...
    def lock_firsts(self, keys: Sequence[str]) -> dict[str, First]: ...
    def lock_due(self) -> dict[str, First]: ...
    def add_inputs(self, inputs: Sequence[ToyInput]) -> set[str]:
        """Add inputs and return the ids that are new."""
        ...

    def save_firsts(self, rows: Sequence[First]) -> None: ...
    def add_snapshots(self, snapshots: Sequence[FirstSnapshot]) -> None: ...
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

    def add_inputs(self, inputs: Sequence[ToyInput]) -> set[str]:
        names = {"ids": "id", "keys": "key", "whats": "what", "amounts": "amount", "notes": "note"}
        batch = {
            column: [getattr(input_, name) for input_ in inputs] for column, name in names.items()
        }
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

    def add_snapshots(self, snapshots: Sequence[FirstSnapshot]) -> None:
        self.session.execute(
            SQL["add_snapshots"],
            {
                "keys": [snapshot.key for snapshot in snapshots],
                "generations": [snapshot.generation for snapshot in snapshots],
                "sequences": [snapshot.sequence for snapshot in snapshots],
                "states": [snapshot.state for snapshot in snapshots],
                "children": [Jsonb(snapshot.children) for snapshot in snapshots],
                "totals": [snapshot.total for snapshot in snapshots],
                "confirmeds": [snapshot.confirmed for snapshot in snapshots],
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
