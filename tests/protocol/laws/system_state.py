"""The state of the system under test, against which the laws are checked, whichever processes were
killed before: the logs, the rows, and what the test sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from services.runtime.records import LaneKey, Record
from tests.protocol.toy.events import ToyInput
from tests.protocol.toy.names import Names
from tests.protocol.toy.rules import First, Second

HARMLESS_ALONE = frozenset({"", "together"})  # the last harms only in company
RAISING = frozenset({"parse", "handle"})


class SentRecord(NamedTuple):
    """A record that the test sent, as the broker acknowledged it. `input` is None for bytes that
    cannot be parsed.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    input: ToyInput | None


class LaneFacts(NamedTuple):
    """A lane's row."""

    group: str
    lane: LaneKey
    epoch: int
    first_offset: int
    next_offset: int
    gaps: int
    rewound: int
    effects: int
    duplicates: int
    superseded: int
    dead: int
    conservation_gap: int
    has_outbox: bool
    stopped_code: str | None
    owner: str | None

    @property
    def outcomes(self) -> int:
        return self.effects + self.duplicates + self.superseded + self.dead


class DeadLetterFacts(NamedTuple):
    """A dead letter's row, its headers unpacked."""

    id: UUID
    group: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    code: str
    state: str
    attempts: int


class SnapshotFacts(NamedTuple):
    """A snapshot in stage one's history, from its own table."""

    key: str
    generation: int
    sequence: int
    state: str
    children: tuple[str, ...]
    total: int
    confirmed: int


@dataclass(frozen=True)
class SystemState:
    """Everything that the laws are checked against."""

    names: Names
    sent: Sequence[SentRecord]
    logs: Mapping[LaneKey, Sequence[Record]]  # every partition of every topic, all that it holds
    lanes: Sequence[LaneFacts]
    dead_letters: Sequence[DeadLetterFacts]
    inputs: Mapping[str, int]  # id -> amount
    firsts: Mapping[str, First]
    snapshots: Sequence[SnapshotFacts]
    seconds: Mapping[str, Second]
    incomplete_topics: frozenset[str] = frozenset()  # topics whose log is no longer complete
    was_fixed: bool = False  # a release ran that works poison which raises

    def log_of(self, topic: str) -> Iterator[Record]:
        for lane in sorted(self.logs):
            if lane.topic == topic:
                yield from self.logs[lane]

    def lanes_of(self, stage: str) -> list[LaneFacts]:
        return [lane for lane in self.lanes if lane.group == self.names.groups[stage]]

    @property
    def was_rewound(self) -> bool:
        return any(lane.rewound for lane in self.lanes)

    def is_poison(self, sent: SentRecord) -> bool:
        """A fixed release works what raised before: then a dead letter shows that the record came
        before that release.
        """
        if sent.input is None or sent.input.poison in HARMLESS_ALONE:
            return sent.input is None
        if self.was_fixed and sent.input.poison in RAISING:
            return (sent.topic, sent.partition, sent.offset) in self.dead_lettered
        return True

    @cached_property
    def dead_lettered(self) -> frozenset[tuple[str, int, int]]:
        return frozenset(
            (dead_letter.topic, dead_letter.partition, dead_letter.offset)
            for dead_letter in self.dead_letters
        )
