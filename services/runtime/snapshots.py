"""Classifies snapshots by their positions in their writers' histories. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.envelope import Position
from services.runtime.records import Duplicate, Effect, Outcome, Superseded


class PositionedSnapshot(Protocol):
    """A snapshot with its writer's key and position, such as `schemas.envelope.Snapshot`."""

    @property
    def key(self) -> str: ...

    @property
    def position(self) -> Position: ...


# Outcomes without outputs and counts; they are frozen, so all records share them.
APPLIED, DUPLICATE, SUPERSEDED = Effect(), Duplicate(), Superseded()


def classify_position(position: Position, reached: Position) -> Effect | Duplicate | Superseded:
    """Return the outcome of a snapshot, if `reached` was last applied of its key and writer: a copy
    of that is a Duplicate, an older one is Superseded, and a newer one is an Effect.
    """
    if position > reached:
        return APPLIED
    return DUPLICATE if position == reached else SUPERSEDED


def classify_snapshots(
    batch: Sequence[PositionedSnapshot], reached: Mapping[str, Position]
) -> tuple[list[Outcome], dict[str, int]]:
    """Return each record's outcome, and for each key the index of its newest snapshot.

    Only the newest snapshots have to be applied. `reached` has the position that was last applied
    for every key in the batch. A snapshot that is newer, but not the newest in the batch, is an
    Effect without outputs: the newest one contains all that it holds.
    """
    last = dict(reached)
    latest: dict[str, int] = {}
    outcomes: list[Outcome] = []
    for index, snapshot in enumerate(batch):
        key, position = snapshot.key, snapshot.position
        outcome = classify_position(position, last[key])
        if outcome is APPLIED:
            last[key], latest[key] = position, index
        outcomes.append(outcome)
    return outcomes, latest
