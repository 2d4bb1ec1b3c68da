"""The two stages as services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from services.runtime.records import Duplicate, Effect, Outcome, Record, Superseded
from services.runtime.service import Service
from tests.protocol.toy import rules
from tests.protocol.toy.events import (
    FirstSnapshot,
    FirstSnapshotOfRelease1,
    SecondSnapshot,
    ToyInput,
    read_input,
)
from tests.protocol.toy.names import NAMES
from tests.protocol.toy.rules import BatchResult, Classification
from tests.protocol.toy.store import ToyStore

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Release:
    """What a deployment may change: the known states, and whether poison that raises is fixed."""

    number: int = 1
    is_fixed: bool = False
    ticks: bool = False


def parse_first(record: Record, release: Release) -> ToyInput | SecondSnapshot:
    if record.topic == SecondSnapshot.topic:
        return SecondSnapshot.read(record.headers, record.value)
    event = read_input(record)
    if event.poison == "parse" and not release.is_fixed:
        raise RuntimeError(f"parse meets {event.id}")
    return event


def parse_second(record: Record, release: Release) -> FirstSnapshot:
    known = FirstSnapshotOfRelease1 if release.number == 1 else FirstSnapshot
    return known.read(record.headers, record.value)


def handle_first(
    batch: Sequence[ToyInput | SecondSnapshot], store: ToyStore, release: Release
) -> list[Outcome]:
    keys, inputs = (
        sorted({event.key for event in batch}),
        [event for event in batch if isinstance(event, ToyInput)],
    )
    store.add_firsts(keys)
    before = store.lock_firsts(keys)
    new_ids = store.add_inputs(inputs) if inputs else set[str]()
    for event in inputs:
        if event.poison == "handle" and not release.is_fixed:
            raise RuntimeError(f"handle meets {event.id}")
    if sum(event.poison == "together" for event in inputs) > 1:
        raise RuntimeError("these two always fail together")
    if any(event.poison == "uncounted" for event in inputs):
        return []
    result = rules.decide_first(batch, before, new_ids)
    if changed := [row for row in result.firsts.values() if row != before[row.key]]:
        store.save_firsts(changed)
    if snapshots := [
        event
        for events in result.snapshots.values()
        for event in events
        if isinstance(event, FirstSnapshot)
    ]:
        store.add_snapshots(snapshots)
    return outcomes(result)


def tick_first(_now: datetime, store: ToyStore) -> list[FirstSnapshot]:
    """Do the work that is due, without any record."""
    before = store.lock_due()
    if not before:
        return []
    after = {key: rules.apply_timer(row) for key, row in before.items()}
    result = rules.add_first_snapshots(BatchResult([], after), before, dict.fromkeys(after, 0), {})
    store.save_firsts(list(result.firsts.values()))
    snapshots = [event for event in result.snapshots.get(0, []) if isinstance(event, FirstSnapshot)]
    if snapshots:
        store.add_snapshots(snapshots)
    return snapshots


def handle_second(batch: Sequence[FirstSnapshot], store: ToyStore) -> list[Outcome]:
    keys = sorted({event.key for event in batch})
    store.add_seconds(keys)
    before = store.lock_seconds(keys)
    result = rules.decide_second(batch, before)
    if changed := [row for row in result.seconds.values() if row != before[row.key]]:
        store.save_seconds(changed)
    if result.children:
        store.set_children(result.children)
    return outcomes(result)


def outcomes(result: BatchResult) -> list[Outcome]:
    return [
        outcome(classification, result.snapshots.get(index, ()))
        for index, classification in enumerate(result.classifications)
    ]


def outcome(
    classification: Classification, snapshots: Sequence[FirstSnapshot | SecondSnapshot]
) -> Outcome:
    match classification:
        case Classification.NEWER:
            return Effect(snapshots)
        case Classification.EQUAL:
            return Duplicate()
        case Classification.OLDER:
            return Superseded()


def first(store: Callable[[S], ToyStore], release: Release) -> Service[Any, S]:
    """`store` opens the tables in a session."""
    return Service(
        group=NAMES.groups["first"],
        topics=NAMES.own_inputs["first"],
        parse=lambda record: parse_first(record, release),
        handle=lambda batch, session: handle_first(batch, store(session), release),
        tick=(lambda now, session: tick_first(now, store(session))) if release.ticks else None,
    )


def second(store: Callable[[S], ToyStore], release: Release) -> Service[Any, S]:
    return Service(
        group=NAMES.groups["second"],
        topics=NAMES.own_inputs["second"],
        parse=lambda record: parse_second(record, release),
        handle=lambda batch, session: handle_second(batch, store(session)),
    )


STAGES = {"first": first, "second": second}
