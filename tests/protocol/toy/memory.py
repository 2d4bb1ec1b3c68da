"""The toy's tables in memory: the same constraints, raised by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.runtime.testing import FakeSession
from tests.protocol.toy.events import FirstSnapshot, ToyInput
from tests.protocol.toy.rules import First, Second


class ViolationError(Exception):
    """A violated constraint: the record can never succeed."""


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """See store.Store. The session's tables are copied at the begin of a transaction and put back
    at its commit.
    """

    session: FakeSession

    def _table(self, name: str) -> dict[Any, Any]:
        table: dict[Any, Any] = self.session.tables.setdefault(name, {})
        return table

    def add_firsts(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._table("firsts").setdefault(key, First(key))

    def lock_firsts(self, keys: Sequence[str]) -> dict[str, First]:
        return {
            key: replace(self._table("firsts")[key], generation=self.session.generation)
            for key in keys
        }

    def lock_due(self) -> dict[str, First]:
        return self.lock_firsts(
            sorted(key for key, row in self._table("firsts").items() if row.is_due)
        )

    def add_inputs(self, inputs: Sequence[ToyInput]) -> set[str]:
        known, new = self._table("inputs"), set[str]()
        for input_ in inputs:
            if input_.amount < 0 or "\0" in input_.note:
                raise ViolationError(f"{input_.id}: amount {input_.amount}, note {input_.note!r}")
            if input_.id not in known:
                known[input_.id] = input_.amount
                new.add(input_.id)
        return new

    def save_firsts(self, rows: Sequence[First]) -> None:
        self._table("firsts").update({row.key: row for row in rows})

    def add_snapshots(self, snapshots: Sequence[FirstSnapshot]) -> None:
        table = self._table("snapshots")
        for snapshot in snapshots:
            place = (snapshot.key, snapshot.generation, snapshot.sequence)
            if place in table:
                raise ViolationError(f"{place} is added twice")
            table[place] = (
                *place,
                snapshot.state,
                snapshot.children,
                snapshot.total,
                snapshot.confirmed,
            )

    def add_seconds(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._table("seconds").setdefault(key, Second(key))

    def lock_seconds(self, keys: Sequence[str]) -> dict[str, Second]:
        return {
            key: replace(self._table("seconds")[key], generation=self.session.generation)
            for key in keys
        }

    def save_seconds(self, rows: Sequence[Second]) -> None:
        for row in rows:
            children = self._table("seconds")[row.key].children  # set_children's business
            self._table("seconds")[row.key] = replace(row, children=children)

    def set_children(self, children: Sequence[tuple[str, str, bool]]) -> None:
        table = self._table("seconds")
        for key, child, active in children:
            before = {*table[key].children}
            table[key] = replace(
                table[key], children=tuple(sorted(before | {child} if active else before - {child}))
            )
