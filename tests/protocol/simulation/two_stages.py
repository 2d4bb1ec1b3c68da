"""The two services that are simulated, as small as possible: ids count once, and snapshots have
sequences.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.envelope import Output
from services.runtime.records import Duplicate, Effect, Outcome, Record, Superseded
from services.runtime.service import Service
from services.runtime.testing import FakeSession

FIRST_TOPICS = ("a.v1", "b.v1")  # one key may come by both: two lanes, perhaps in two processes
MIDDLE, LAST = "middle.v1", "last.v1"


@dataclass(frozen=True)
class IdsSnapshot:
    """A snapshot: all ids that its writer knows of the key."""

    topic: str
    key: str
    generation: int
    sequence: int
    ids: tuple[str, ...]

    def encode(self, *, time: str, traceparent: str | None) -> Output:
        value = json.dumps([self.key, self.generation, self.sequence, self.ids]).encode()
        return Output(
            self.topic,
            self.key.encode(),
            value,
            [("ce_time", time.encode()), ("traceparent", (traceparent or "").encode())],
        )


def parse_input(record: Record) -> tuple[str, str]:
    """Parse `id key`; everything else raises."""
    identity, key = (record.value or b"").decode().split(" ")
    return identity, key


def handle_first(events: Sequence[tuple[str, str]], session: FakeSession) -> list[Outcome]:
    rows: dict[str, dict[str, Any]] = session.tables.setdefault("first", {})
    effects: dict[str, int] = session.tables.setdefault("effects", {})
    outcomes: list[Outcome] = []
    changed: dict[str, int] = {}
    for index, (identity, key) in enumerate(events):
        if identity.startswith("boom") and not session.tables.get("fixed"):
            raise RuntimeError(identity)
        row = rows.setdefault(key, {"sequence": 0, "ids": []})
        if identity in row["ids"]:
            outcomes.append(Duplicate())
            continue
        row["ids"] = sorted([*row["ids"], identity])
        effects[identity] = effects.get(identity, 0) + 1
        changed[key] = index
        outcomes.append(Effect())
    for key, index in changed.items():  # one output per key and batch: the last state, one sequence
        rows[key]["sequence"] += 1
        outcomes[index] = Effect(
            [
                IdsSnapshot(
                    MIDDLE, key, session.generation, rows[key]["sequence"], tuple(rows[key]["ids"])
                )
            ]
        )
    return outcomes


def parse_snapshot(record: Record) -> tuple[str, int, int, tuple[str, ...]]:
    key, generation, sequence, ids = json.loads(record.value or b"")
    return key, generation, sequence, tuple(ids)


def handle_second(
    events: Sequence[tuple[str, int, int, tuple[str, ...]]], session: FakeSession
) -> list[Outcome]:
    rows: dict[str, tuple[int, int, tuple[str, ...]]] = session.tables.setdefault("second", {})
    outcomes: list[Outcome] = []
    for key, generation, sequence, ids in events:
        known = rows.get(key)
        if known and known[:2] == (generation, sequence):
            outcomes.append(Duplicate())
        elif known and known[:2] > (generation, sequence):
            outcomes.append(Superseded())
        else:
            rows[key] = (generation, sequence, ids)
            outcomes.append(Effect([IdsSnapshot(LAST, key, generation, sequence, ids)]))
    return outcomes


FIRST: Service[Any, FakeSession] = Service("first", FIRST_TOPICS, parse_input, handle_first)
SECOND: Service[Any, FakeSession] = Service("second", (MIDDLE,), parse_snapshot, handle_second)
