"""The two stages as services: parsed alone, decided together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from services.runtime.records import Duplicate, Effect, Outcome, Record, Superseded
from services.runtime.service import Service
from tests.protocol.toy.events import (
    FirstSnapshot,
    FirstSnapshotOfRelease1,
    Input,
    SecondSnapshot,
    read_input,
)
from tests.protocol.toy.names import NAMES
from tests.protocol.toy.rules import (
    BatchResult,
    Classification,
    add_first_snapshots,
    apply_timer,
    decide_first,
    decide_second,
)
from tests.protocol.toy.store import Store

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Release:
    """What a deployment may change: words that are known, and whether poison that raises has been
    mended.
    """

    number: int = 1
    is_mended: bool = False
    ticks: bool = False


def parse_first(record: Record, release: Release) -> Input | SecondSnapshot:
    if record.topic == SecondSnapshot.topic:
        return SecondSnapshot.read(record.headers, record.value)
    told = read_input(record)
    if told.poison == "parse" and not release.is_mended:
        raise RuntimeError(f"parse meets {told.id}")
    return told


def parse_second(record: Record, release: Release) -> FirstSnapshot:
    known = FirstSnapshotOfRelease1 if release.number == 1 else FirstSnapshot
    return known.read(record.headers, record.value)


def handle_first(
    batch: Sequence[Input | SecondSnapshot], store: Store, release: Release
) -> list[Outcome]:
    keys, inputs = (
        sorted({told.key for told in batch}),
        [told for told in batch if isinstance(told, Input)],
    )
    store.add_firsts(keys)
    before = store.lock_firsts(keys)
    new_ids = store.add_inputs(inputs) if inputs else set[str]()
    for told in inputs:
        if told.poison == "handle" and not release.is_mended:
            raise RuntimeError(f"handle meets {told.id}")
    if sum(told.poison == "together" for told in inputs) > 1:
        raise RuntimeError("these two never go together")
    if any(told.poison == "uncounted" for told in inputs):
        return []
    found = decide_first(batch, before, new_ids)
    if changed := [row for row in found.firsts.values() if row != before[row.key]]:
        store.save_firsts(changed)
    if said := [
        it for events in found.said.values() for it in events if isinstance(it, FirstSnapshot)
    ]:
        store.add_snapshots(said)
    return outcomes(found)


def tick_first(_now: datetime, store: Store) -> list[FirstSnapshot]:
    """Work that is due without any record."""
    before = store.lock_due()
    if not before:
        return []
    after = {key: apply_timer(row) for key, row in before.items()}
    found = add_first_snapshots(BatchResult([], after), before, dict.fromkeys(after, 0), {})
    store.save_firsts(list(found.firsts.values()))
    said = [it for it in found.said.get(0, []) if isinstance(it, FirstSnapshot)]
    if said:
        store.add_snapshots(said)
    return said


def handle_second(batch: Sequence[FirstSnapshot], store: Store) -> list[Outcome]:
    keys = sorted({told.key for told in batch})
    store.add_seconds(keys)
    before = store.lock_seconds(keys)
    found = decide_second(batch, before)
    if changed := [row for row in found.seconds.values() if row != before[row.key]]:
        store.save_seconds(changed)
    if found.children:
        store.set_children(found.children)
    return outcomes(found)


def outcomes(found: BatchResult) -> list[Outcome]:
    return [
        outcome(verdict, found.said.get(place, ())) for place, verdict in enumerate(found.verdicts)
    ]


def outcome(verdict: Classification, said: Sequence[FirstSnapshot | SecondSnapshot]) -> Outcome:
    match verdict:
        case Classification.NEWS:
            return Effect(said)
        case Classification.KNOWN:
            return Duplicate()
        case Classification.OLDER:
            return Superseded()


def first(store: Callable[[S], Store], release: Release) -> Service[Any, S]:
    """`store` opens the tables in a session."""
    return Service(
        group=NAMES.groups["first"],
        topics=NAMES.own_inputs["first"],
        parse=lambda record: parse_first(record, release),
        handle=lambda batch, session: handle_first(batch, store(session), release),
        tick=(lambda now, session: tick_first(now, store(session))) if release.ticks else None,
    )


def second(store: Callable[[S], Store], release: Release) -> Service[Any, S]:
    return Service(
        group=NAMES.groups["second"],
        topics=NAMES.own_inputs["second"],
        parse=lambda record: parse_second(record, release),
        handle=lambda batch, session: handle_second(batch, store(session)),
    )


STAGES = {"first": first, "second": second}
