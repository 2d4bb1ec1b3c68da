"""How inputs and snapshots change a key. Pure: no clock, no randomness, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from schemas import structs
from tests.protocol.toy.events import FirstSnapshot, SecondSnapshot, ToyInput


@dataclass(frozen=True, slots=True)
class First:
    """Stage one's row of a key."""

    key: str
    generation: int = 1
    sequence: int = 0
    state: str = "new"
    children: tuple[str, ...] = ()
    total: int = 0
    is_due: bool = False
    confirmed: int = 0  # the number of active children in stage two's snapshot
    answer_generation: int = 0
    answer_sequence: int = 0
    digest: bytes | None = None

    def snapshot(self, pad: str = "") -> FirstSnapshot:
        return structs.convert(
            FirstSnapshot,
            {
                "writer": "toy-first",
                "key": self.key,
                "generation": self.generation,
                "sequence": max(self.sequence, 1),
                "state": self.state,
                "children": self.children,
                "total": self.total,
                "confirmed": self.confirmed,
                "pad": pad,
            },
        )


@dataclass(frozen=True, slots=True)
class Second:
    """Stage two's row of a key."""

    key: str
    generation: int = 1
    sequence: int = 0
    state: str = "new"
    active: int = 0
    children: tuple[str, ...] = ()  # the active ones
    first_generation: int = 0
    first_sequence: int = 0
    digest: bytes | None = None

    def snapshot(self) -> SecondSnapshot:
        return SecondSnapshot(
            writer="toy-second",
            key=self.key,
            generation=self.generation,
            sequence=max(self.sequence, 1),
            state=self.state,
            active=self.active,
        )


class Classification(Enum):
    """A record against what was applied before."""

    NEWER = auto()
    EQUAL = auto()
    OLDER = auto()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of a batch: each record's classification, the new rows, and the snapshots by the
    index of the record that publishes them.
    """

    classifications: list[Classification]
    firsts: dict[str, First] = field(default_factory=dict)
    seconds: dict[str, Second] = field(default_factory=dict)
    snapshots: dict[int, list[FirstSnapshot | SecondSnapshot]] = field(default_factory=dict)
    # key, child, is active
    children: list[tuple[str, str, bool]] = field(default_factory=list)


CHANGES: Mapping[str, Callable[[First, ToyInput], First]] = {
    "release": lambda row, _: (
        replace(row, state="released") if row.state in ("new", "held") else row
    ),
    "cancel": lambda row, _: replace(row, state="cancelled"),
    "restore": lambda row, _: replace(row, state="released") if row.state == "cancelled" else row,
    "add": lambda row, event: replace(row, children=tuple(sorted({*row.children, event.child}))),
    "drop": lambda row, event: replace(
        row, children=tuple(sorted({*row.children} - {event.child}))
    ),
    "later": lambda row, _: replace(row, is_due=True),
    "hold": lambda row, _: replace(row, state="held"),
    "note": lambda row, _: row,
}


def apply_input(row: First, event: ToyInput) -> First:
    return replace(CHANGES[event.what](row, event), total=row.total + event.amount)


def apply_answer(row: First, event: SecondSnapshot) -> First:
    return replace(
        row,
        confirmed=event.active,
        answer_generation=event.generation,
        answer_sequence=event.sequence,
    )


def apply_timer(row: First) -> First:
    """Do the timer's work on a row."""
    return replace(row, is_due=False, state="released" if row.state == "new" else row.state)


def decide_first(
    batch: Sequence[ToyInput | SecondSnapshot], rows: Mapping[str, First], new_ids: AbstractSet[str]
) -> BatchResult:
    """Decide a batch of stage one. Each record sees the changes of those before it."""
    after, unseen, classifications = dict(rows), set(new_ids), list[Classification]()
    changed_by: dict[str, int] = {}  # key -> the last record that changed it
    pads: dict[str, str] = {}
    for index, event in enumerate(batch):
        row = after[event.key]
        if isinstance(event, ToyInput):
            classification = Classification.NEWER if event.id in unseen else Classification.EQUAL
            unseen.discard(event.id)
            changed = apply_input(row, event) if classification is Classification.NEWER else row
            if event.poison == "large":
                pads[event.key] = "x" * (9 * 2**20)
        else:
            classification = classify(
                (event.generation, event.sequence), (row.answer_generation, row.answer_sequence)
            )
            changed = apply_answer(row, event) if classification is Classification.NEWER else row
        if changed != row:
            changed_by[event.key] = index
        after[event.key] = changed
        classifications.append(classification)
    return add_first_snapshots(BatchResult(classifications, after), rows, changed_by, pads)


def add_first_snapshots(
    result: BatchResult,
    before: Mapping[str, First],
    changed_by: Mapping[str, int],
    pads: Mapping[str, str],
) -> BatchResult:
    """Add a snapshot for each key that differs from its last one, with one new sequence, however
    many records changed the key.
    """
    for key, index in changed_by.items():
        row = result.firsts[key]
        digest = row.snapshot().digest()
        if digest != before[key].digest or key in pads:
            changed = replace(row, sequence=row.sequence + 1, digest=digest)
            result.firsts[key] = changed
            result.snapshots.setdefault(index, []).append(changed.snapshot(pads.get(key, "")))
    return result


def classify(position: tuple[int, int], last: tuple[int, int]) -> Classification:
    if position == last:
        return Classification.EQUAL
    return Classification.NEWER if position > last else Classification.OLDER


def decide_second(batch: Sequence[FirstSnapshot], rows: Mapping[str, Second]) -> BatchResult:
    """Decide a batch of stage two. Only newer snapshots are applied; one may skip states."""
    after, classifications, changed_by = dict(rows), list[Classification](), dict[str, int]()
    for index, event in enumerate(batch):
        row = after[event.key]
        classification = classify(
            (event.generation, event.sequence), (row.first_generation, row.first_sequence)
        )
        if classification is Classification.NEWER:
            active = event.children if event.state == "released" else ()
            after[event.key] = replace(
                row,
                state=event.state,
                active=len(active),
                children=active,
                first_generation=event.generation,
                first_sequence=event.sequence,
            )
            changed_by[event.key] = index
        classifications.append(classification)
    result = BatchResult(classifications, seconds=after)
    for key, index in changed_by.items():
        row = after[key]
        result.children.extend(
            (key, child, True) for child in sorted({*row.children} - {*rows[key].children})
        )
        result.children.extend(
            (key, child, False) for child in sorted({*rows[key].children} - {*row.children})
        )
        if (digest := row.snapshot().digest()) != rows[key].digest:
            after[key] = changed = replace(row, sequence=row.sequence + 1, digest=digest)
            result.snapshots.setdefault(index, []).append(changed.snapshot())
    return result
