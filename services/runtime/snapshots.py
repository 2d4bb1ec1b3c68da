"""Which snapshots of a batch are news, by their places in their writer's history. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.envelope import Position
from services.runtime.records import Duplicate, Effect, Outcome, Superseded


class PositionedSnapshot(Protocol):
    """A snapshot of one writer, as `schemas.envelope.Snapshot` is."""

    @property
    def key(self) -> str: ...

    @property
    def position(self) -> Position: ...


def classify_snapshots(
    batch: Sequence[PositionedSnapshot], reached: Mapping[str, Position]
) -> tuple[list[Outcome], dict[str, int]]:
    """Each record's outcome, and where in the batch the newest of each key stands: all that must be
    worked.

    `reached`: of every key in the batch the position that was last applied. A copy of it is a
    Duplicate, an older one is Superseded; one that is newer but not the newest of the batch is an
    Effect without outputs, for the newest says more.
    """
    last = dict(reached)
    latest: dict[str, int] = {}
    outcomes: list[Outcome] = []
    for place, told in enumerate(batch):
        key, position = told.key, told.position
        if position > last[key]:
            last[key], latest[key] = position, place
            outcomes.append(Effect())
        else:
            outcomes.append(Duplicate() if position == last[key] else Superseded())
    return outcomes, latest
