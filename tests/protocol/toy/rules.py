"""What an input means for a key, and a snapshot for the next stage. Pure: no clock, no chance, no
I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from tests.protocol.toy.events import FirstSaid, Input, SecondSaid


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
    confirmed: int = 0  # what stage two answered
    answer_generation: int = 0
    answer_sequence: int = 0
    digest: bytes | None = None

    def snapshot(self, pad: str = "") -> FirstSaid:
        return FirstSaid.model_validate(
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
            }
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

    def snapshot(self) -> SecondSaid:
        return SecondSaid(
            writer="toy-second",
            key=self.key,
            generation=self.generation,
            sequence=max(self.sequence, 1),
            state=self.state,
            active=self.active,
        )


class Verdict(Enum):
    NEWS = auto()
    KNOWN = auto()
    OLDER = auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of a batch: a verdict each, rows as they are afterwards, and what is to be said by which
    record.
    """

    verdicts: list[Verdict]
    firsts: dict[str, First] = field(default_factory=dict)
    seconds: dict[str, Second] = field(default_factory=dict)
    said: dict[int, list[FirstSaid | SecondSaid]] = field(
        default_factory=dict
    )  # by place in the batch
    children: list[tuple[str, str, bool]] = field(
        default_factory=list
    )  # key, child, active from now on


CHANGES: Mapping[str, Callable[[First, Input], First]] = {
    "release": lambda row, _: (
        replace(row, state="released") if row.state in ("new", "held") else row
    ),
    "cancel": lambda row, _: replace(row, state="cancelled"),
    "restore": lambda row, _: replace(row, state="released") if row.state == "cancelled" else row,
    "add": lambda row, told: replace(row, children=tuple(sorted({*row.children, told.child}))),
    "drop": lambda row, told: replace(row, children=tuple(sorted({*row.children} - {told.child}))),
    "later": lambda row, _: replace(row, is_due=True),
    "hold": lambda row, _: replace(row, state="held"),
    "note": lambda row, _: row,
}


def tell(row: First, told: Input) -> First:
    return replace(CHANGES[told.what](row, told), total=row.total + told.amount)


def answered(row: First, told: SecondSaid) -> First:
    return replace(
        row, confirmed=told.active, answer_generation=told.generation, answer_sequence=told.sequence
    )


def due(row: First) -> First:
    """The timer's work."""
    return replace(row, is_due=False, state="released" if row.state == "new" else row.state)


def judge_first(
    batch: Sequence[Input | SecondSaid], rows: Mapping[str, First], new_ids: AbstractSet[str]
) -> Judgement:
    """Each record sees what those before it left."""
    after, unseen, verdicts = dict(rows), set(new_ids), list[Verdict]()
    brought: dict[
        str, int
    ] = {}  # key -> the last record that changed it, which brings the snapshot
    pads: dict[str, str] = {}
    for place, told in enumerate(batch):
        row = after[told.key]
        if isinstance(told, Input):
            verdict = Verdict.NEWS if told.id in unseen else Verdict.KNOWN
            unseen.discard(told.id)
            changed = tell(row, told) if verdict is Verdict.NEWS else row
            if told.poison == "large":
                pads[told.key] = "x" * (9 * 2**20)
        else:
            verdict = newer(
                (told.generation, told.sequence), (row.answer_generation, row.answer_sequence)
            )
            changed = answered(row, told) if verdict is Verdict.NEWS else row
        if changed != row:
            brought[told.key] = place
        after[told.key] = changed
        verdicts.append(verdict)
    return speak_first(Judgement(verdicts, after), rows, brought, pads)


def speak_first(
    found: Judgement,
    before: Mapping[str, First],
    brought: Mapping[str, int],
    pads: Mapping[str, str],
) -> Judgement:
    """A key whose snapshot differs from the last one takes one new sequence, however many records
    changed it.
    """
    for key, place in brought.items():
        row = found.firsts[key]
        digest = row.snapshot().digest()
        if digest != before[key].digest or key in pads:
            spoken = replace(row, sequence=row.sequence + 1, digest=digest)
            found.firsts[key] = spoken
            found.said.setdefault(place, []).append(spoken.snapshot(pads.get(key, "")))
    return found


def newer(position: tuple[int, int], last: tuple[int, int]) -> Verdict:
    if position == last:
        return Verdict.KNOWN
    return Verdict.NEWS if position > last else Verdict.OLDER


def judge_second(batch: Sequence[FirstSaid], rows: Mapping[str, Second]) -> Judgement:
    """Only what is newer is applied, as a whole: a snapshot may skip states."""
    after, verdicts, brought = dict(rows), list[Verdict](), dict[str, int]()
    for place, told in enumerate(batch):
        row = after[told.key]
        verdict = newer(
            (told.generation, told.sequence), (row.first_generation, row.first_sequence)
        )
        if verdict is Verdict.NEWS:
            active = told.children if told.state == "released" else ()
            after[told.key] = replace(
                row,
                state=told.state,
                active=len(active),
                children=active,
                first_generation=told.generation,
                first_sequence=told.sequence,
            )
            brought[told.key] = place
        verdicts.append(verdict)
    found = Judgement(verdicts, seconds=after)
    for key, place in brought.items():
        row = after[key]
        found.children.extend(
            (key, child, True) for child in sorted({*row.children} - {*rows[key].children})
        )
        found.children.extend(
            (key, child, False) for child in sorted({*rows[key].children} - {*row.children})
        )
        if (digest := row.snapshot().digest()) != rows[key].digest:
            after[key] = spoken = replace(row, sequence=row.sequence + 1, digest=digest)
            found.said.setdefault(place, []).append(spoken.snapshot())
    return found
