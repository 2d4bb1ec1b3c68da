"""A ledger in memory: rows are copied at begin and put back at commit, so that a rollback is
nothing at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from services.runtime.errors import LaneFenced
from services.runtime.failures import FailureKind
from services.runtime.loop.ports import (
    AcquiredLane,
    Acquisition,
    Controls,
    DeadLetter,
    ExpectedLane,
    LaneAdvance,
    LockedLanes,
    ReplayRequest,
)
from services.runtime.postgres.ledger import RELEASE_DEPENDENT_STOPS
from services.runtime.records import LaneKey, record_bytes


class DatabaseLostError(Exception):
    """The database does not answer: nobody knows what became of a commit."""


class ConflictError(Exception):
    """A deadlock or a lock timeout: the moment's."""


def classify(error: BaseException) -> FailureKind:
    if isinstance(error, DatabaseLostError):
        return FailureKind.UNAVAILABLE
    return FailureKind.TRANSIENT if isinstance(error, ConflictError) else FailureKind.RECORD


@dataclass(frozen=True, slots=True)
class FakeLaneRow:
    """A row of runtime.lanes."""

    topic_id: str
    next_offset: int
    first_offset: int
    epoch: int = 0
    unpublished: bytes | None = None
    gaps: int = 0
    rewound: int = 0
    effects: int = 0
    duplicates: int = 0
    superseded: int = 0
    dead: int = 0
    stopped_code: str | None = None

    @property
    def conservation_gap(self) -> int:
        ended = self.effects + self.duplicates + self.superseded + self.dead
        return self.next_offset - self.first_offset - self.gaps + self.rewound - ended


@dataclass(slots=True)
class FakeDeadLetterRow:
    letter: DeadLetter
    state: str = "open"
    attempts: int = 1
    code: str = ""


@dataclass(slots=True)
class FakeSession:
    """What a service's handler works on: `tables` is its own, by name."""

    tables: dict[str, Any]
    now: datetime
    generation: int


@dataclass
class FakeDatabase:
    """Shared by all processes. Tests break it through its attributes."""

    rows: dict[tuple[str, LaneKey], FakeLaneRow] = field(default_factory=dict)
    letters: dict[UUID, FakeDeadLetterRow] = field(default_factory=dict)
    letter_groups: dict[UUID, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    controls: dict[str, Controls] = field(default_factory=dict)
    braked: dict[str, str] = field(default_factory=dict)
    generation: int = 1
    commits: int = 0
    is_away: bool = False
    answers_lost: int = (
        0  # of the next commits: they happen, and the process is told that the world is away
    )
    commits_refused: int = (
        0  # of the next commits: they do not happen, and the process is told the same
    )
    conflicts: int = 0  # of the next commits: rolled back as the moment's
    locked: set[LaneKey] = field(
        default_factory=set
    )  # rows that somebody holds: acquiring leaves them out

    def ask(self) -> None:
        if self.is_away:
            raise DatabaseLostError("database away")

    def move(self, group: str, lane: LaneKey, to: int) -> None:
        """What an operator's rewind or skip does (services/runtime/admin/commands.py)."""
        row = self.rows[group, lane]
        by = row.next_offset - to
        self.rows[group, lane] = replace(
            row,
            epoch=row.epoch + 1,
            next_offset=to,
            rewound=row.rewound + max(by, 0),
            gaps=row.gaps + max(-by, 0),
            stopped_code=None,
        )


class FakeTransaction:
    def __init__(self, database: FakeDatabase, group: str) -> None:
        self._database, self._group = database, group
        self._rows, self._letters = dict(database.rows), copy.deepcopy(database.letters)
        self._groups = dict(database.letter_groups)
        self.session = FakeSession(
            copy.deepcopy(database.tables), datetime.now(UTC), database.generation
        )

    def lock(self, claims: Sequence[ExpectedLane]) -> LockedLanes:
        self._database.ask()
        return LockedLanes(
            frozenset(claim.lane for claim in claims if not self._as_claimed(claim)),
            self.session.now,
        )

    def _as_claimed(self, claim: ExpectedLane) -> bool:
        row = self._rows.get((self._group, claim.lane))
        return row is not None and (row.epoch, row.next_offset) == (claim.epoch, claim.next_offset)

    def lock_letters(self, ids: Sequence[UUID]) -> frozenset[UUID]:
        return frozenset(
            i for i in ids if i in self._letters and self._letters[i].state == "replayed"
        )

    def resolve_letters(self, ids: Sequence[UUID]) -> None:
        for letter_id in self.lock_letters(ids):
            self._letters[letter_id].state = "resolved"

    def reopen_letters(self, failures: Sequence[tuple[UUID, str, str]]) -> None:
        for letter_id, code, _ in failures:
            row = self._letters.get(letter_id)
            if row is not None and row.state == "replayed":
                row.state, row.attempts, row.code = "open", row.attempts + 1, code

    def add_letters(self, letters: Sequence[DeadLetter]) -> list[tuple[UUID, int]]:
        return [self._add(letter) for letter in letters]

    def _add(self, letter: DeadLetter) -> tuple[UUID, int]:
        place = (letter.topic_id, *letter.record[:3])
        for letter_id, row in self._letters.items():
            if (
                self._groups[letter_id] == self._group
                and (row.letter.topic_id, *row.letter.record[:3]) == place
            ):
                row.attempts, row.code = row.attempts + 1, letter.code
                row.state = row.state if row.state in {"resolved", "discarded"} else "open"
                return letter_id, row.attempts
        letter_id = uuid4()
        self._letters[letter_id] = FakeDeadLetterRow(letter, code=letter.code)
        self._groups[letter_id] = self._group
        return letter_id, 1

    def take_requested(self, letters_max: int, bytes_max: int) -> list[ReplayRequest]:
        taken: list[ReplayRequest] = []
        size = 0
        for letter_id, row in self._letters.items():
            if (
                row.state != "requested"
                or self._groups[letter_id] != self._group
                or len(taken) >= letters_max
            ):
                continue
            if taken and size >= bytes_max:
                break
            if row.letter.original is not None:
                continue
            size += record_bytes(row.letter.record)
            row.state = "replayed"
            taken.append(ReplayRequest(letter_id, row.letter.record))
        return taken

    @contextmanager
    def trial(self) -> Iterator[None]:
        kept = copy.deepcopy(self.session.tables)
        try:
            yield
        finally:
            self.session.tables = kept

    def advance(self, rows: Sequence[LaneAdvance]) -> None:
        for advance in rows:
            if not self._as_claimed(advance.claim):
                raise LaneFenced("a row changed between its lock and its update")
            row = self._rows[self._group, advance.claim.lane]
            self._rows[self._group, advance.claim.lane] = replace(
                row,
                next_offset=advance.next_offset,
                unpublished=advance.unpublished,
                gaps=row.gaps + advance.gaps,
                effects=row.effects + advance.effects,
                duplicates=row.duplicates + advance.duplicates,
                superseded=row.superseded + advance.superseded,
                dead=row.dead + advance.dead,
            )

    def commit(self) -> None:
        database = self._database
        database.ask()
        if database.commits_refused:
            database.commits_refused -= 1
            raise DatabaseLostError("the connection broke before the commit")
        if database.conflicts:
            database.conflicts -= 1
            raise ConflictError("deadlock detected")
        database.rows, database.letters, database.letter_groups = (
            self._rows,
            self._letters,
            self._groups,
        )
        database.tables = self.session.tables
        database.commits += 1
        if database.answers_lost:
            database.answers_lost -= 1
            raise DatabaseLostError("the connection broke before the answer")


class FakeLedger:
    """One process's view. See ports.Ledger."""

    def __init__(self, database: FakeDatabase, group: str) -> None:
        self.database, self._group = database, group
        self._refused: dict[LaneKey, str] = {}  # as PostgresLedger's

    def acquire(self, lanes: Sequence[LaneKey]) -> Acquisition:
        self.database.ask()
        held: dict[LaneKey, AcquiredLane] = {}
        stopped: dict[LaneKey, str] = {}
        missing = {lane for lane in lanes if (self._group, lane) not in self.database.rows}
        for lane in lanes:
            row = self.database.rows.get((self._group, lane))
            if row is None or lane in self.database.locked:
                continue
            code = row.stopped_code
            if code is not None and (
                code not in RELEASE_DEPENDENT_STOPS or self._refused.get(lane) == code
            ):
                stopped[lane] = code
                continue
            row = self.database.rows[self._group, lane] = replace(
                row, epoch=row.epoch + 1, stopped_code=None
            )
            held[lane] = AcquiredLane(row.epoch, row.next_offset, row.topic_id, row.unpublished)
        return Acquisition(held, stopped, frozenset(missing))

    def add_lanes(self, lanes: Mapping[LaneKey, tuple[str, int]]) -> None:
        self.database.ask()
        for lane, (topic_id, first) in lanes.items():
            self.database.rows.setdefault((self._group, lane), FakeLaneRow(topic_id, first, first))

    @contextmanager
    def transaction(self) -> Iterator[FakeTransaction]:
        self.database.ask()
        yield FakeTransaction(self.database, self._group)

    def _as_claimed(self, claim: ExpectedLane) -> bool:
        row = self.database.rows.get((self._group, claim.lane))
        return row is not None and (row.epoch, row.next_offset) == (claim.epoch, claim.next_offset)

    def compare(self, claims: Sequence[ExpectedLane]) -> frozenset[LaneKey]:
        self.database.ask()
        return frozenset(claim.lane for claim in claims if not self._as_claimed(claim))

    def conservation(self, lanes: Sequence[LaneKey]) -> dict[LaneKey, int]:
        rows = self.database.rows
        return {
            lane: rows[self._group, lane].conservation_gap
            for lane in lanes
            if (self._group, lane) in rows
        }

    def clear_unpublished(self, claims: Sequence[ExpectedLane]) -> None:
        self.database.ask()
        for claim in claims:
            if self._as_claimed(claim):
                key = (self._group, claim.lane)
                self.database.rows[key] = replace(self.database.rows[key], unpublished=None)

    def stop(self, claim: ExpectedLane, code: str, text: str) -> None:  # noqa: ARG002 - the port's signature
        self.database.ask()
        if self._as_claimed(claim):
            row = self.database.rows[self._group, claim.lane]
            self.database.rows[self._group, claim.lane] = replace(
                row, epoch=row.epoch + 1, stopped_code=code
            )

    def controls(self) -> Controls:
        self.database.ask()
        return self.database.controls.get(self._group, Controls(False, None))

    def pause_service(self, code: str, text: str) -> None:  # noqa: ARG002 - the port's signature
        self.database.controls[self._group] = Controls(True, None)
        self.database.braked[self._group] = code

    def letters_requested(self) -> bool:
        letters = self.database.letters.items()
        return any(
            row.state == "requested" and self.database.letter_groups[i] == self._group
            for i, row in letters
        )

    def backlog(self, ask: Callable[[FakeSession], str | None]) -> str | None:
        return ask(FakeSession(self.database.tables, datetime.now(UTC), self.database.generation))

    def reconnect(self) -> None:
        self.database.ask()

    def close(self) -> None:
        return None
