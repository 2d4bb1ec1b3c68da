"""Classifies the snapshots of a batch by their positions in their writers' histories. Pure."""

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


def classify_snapshots(
    batch: Sequence[PositionedSnapshot], reached: Mapping[str, Position]
) -> tuple[list[Outcome], dict[str, int]]:
    """Return each record's outcome, and for each key the index of its newest snapshot.

    Only the newest snapshots have to be applied. `reached` has the position that was last applied
    for every key in the batch. A copy of it is a Duplicate, an older one is Superseded. A snapshot
    that is newer, but not the newest in the batch, is an Effect without outputs: the newest one
    contains all that it says.
    """
    last = dict(reached)
    latest: dict[str, int] = {}
    outcomes: list[Outcome] = []
    for index, snapshot in enumerate(batch):
        key, position = snapshot.key, snapshot.position
        if position > last[key]:
            last[key], latest[key] = position, index
            outcomes.append(Effect())
        else:
            outcomes.append(Duplicate() if position == last[key] else Superseded())
    return outcomes, latest
