"""A lane store in memory. Rows are copied at the begin of a transaction and put back at its commit,
so a rollback does nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from services.runtime.errors import LaneFenced
from services.runtime.failures.classification import FailureKind
from services.runtime.ports import (
    AcquiredLane,
    Acquisition,
    Controls,
    DeadLetter,
    ExpectedLane,
    LaneUpdate,
    LockedLanes,
    ReplayRequest,
)
from services.runtime.postgres.lane_store import RELEASE_DEPENDENT_STOPS
from services.runtime.records import LaneKey, record_bytes

T = TypeVar("T")


class DatabaseLostError(Exception):
    """The connection broke, so it is unknown whether a commit took place."""


class ConflictError(Exception):
    """A deadlock or a lock timeout: a transient failure."""


def classify_fake_error(error: BaseException) -> FailureKind:
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
    outbox: bytes | None = None
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
    """A row of runtime.dead_letters."""

    dead_letter: DeadLetter
    state: str = "open"
    attempts: int = 1
    code: str = ""


@dataclass(slots=True)
class FakeSession:
    """What a service's handler works with: `tables` are the service's own, by name."""

    tables: dict[str, Any]
    now: datetime
    generation: int


@dataclass
class FakeDatabase:
    """Shared by all processes. Tests inject faults through its attributes."""

    rows: dict[tuple[str, LaneKey], FakeLaneRow] = field(default_factory=dict)
    dead_letters: dict[UUID, FakeDeadLetterRow] = field(default_factory=dict)
    dead_letter_groups: dict[UUID, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    controls: dict[str, Controls] = field(default_factory=dict)
    paused_by_breaker: dict[str, str] = field(default_factory=dict)
    generation: int = 1
    commits: int = 0
    is_unavailable: bool = False
    # So many of the next commits take place and raise DatabaseLostError.
    answers_lost: int = 0
    # So many of the next commits are rolled back and raise DatabaseLostError.
    commits_refused: int = 0
    # So many of the next commits are rolled back and raise ConflictError.
    conflicts: int = 0
    # Rows that another transaction has locked: acquiring leaves them out.
    locked: set[LaneKey] = field(default_factory=set)

    def check_available(self) -> None:
        if self.is_unavailable:
            raise DatabaseLostError("the database is unavailable")

    def move(self, group: str, lane: LaneKey, to: int) -> None:
        """Change a row as an operator's rewind or skip does (see admin/commands.py)."""
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
    """See ports.Transaction."""

    def __init__(self, database: FakeDatabase, group: str) -> None:
        self._database, self._group = database, group
        self._rows, self._dead_letters = dict(database.rows), copy.deepcopy(database.dead_letters)
        self._groups = dict(database.dead_letter_groups)
        self.session = FakeSession(
            copy.deepcopy(database.tables), datetime.now(UTC), database.generation
        )

    def lock(self, expected: Sequence[ExpectedLane]) -> LockedLanes:
        self._database.check_available()
        return LockedLanes(
            frozenset(expected.lane for expected in expected if not self.as_expected(expected)),
            self.session.now,
        )

    def as_expected(self, expected: ExpectedLane) -> bool:
        row = self._rows.get((self._group, expected.lane))
        return row is not None and (row.epoch, row.next_offset) == (
            expected.epoch,
            expected.next_offset,
        )

    def lock_dead_letters(self, ids: Sequence[UUID]) -> frozenset[UUID]:
        return frozenset(
            i for i in ids if i in self._dead_letters and self._dead_letters[i].state == "replayed"
        )

    def resolve_dead_letters(self, ids: Sequence[UUID]) -> None:
        for dead_letter_id in self.lock_dead_letters(ids):
            self._dead_letters[dead_letter_id].state = "resolved"

    def reopen_dead_letters(self, failures: Sequence[tuple[UUID, str, str]]) -> None:
        for dead_letter_id, code, _ in failures:
            row = self._dead_letters.get(dead_letter_id)
            if row is not None and row.state == "replayed":
                row.state, row.attempts, row.code = "open", row.attempts + 1, code

    def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> list[tuple[UUID, int]]:
        return [self._add(dead_letter) for dead_letter in dead_letters]

    def _add(self, dead_letter: DeadLetter) -> tuple[UUID, int]:
        place = (dead_letter.topic_id, *dead_letter.record[:3])
        for dead_letter_id, row in self._dead_letters.items():
            if (
                self._groups[dead_letter_id] == self._group
                and (row.dead_letter.topic_id, *row.dead_letter.record[:3]) == place
            ):
                row.attempts, row.code = row.attempts + 1, dead_letter.code
                row.state = row.state if row.state in {"resolved", "discarded"} else "open"
                return dead_letter_id, row.attempts
        dead_letter_id = uuid4()
        self._dead_letters[dead_letter_id] = FakeDeadLetterRow(dead_letter, code=dead_letter.code)
        self._groups[dead_letter_id] = self._group
        return dead_letter_id, 1

    def take_replay_requests(self, dead_letters_max: int, bytes_max: int) -> list[ReplayRequest]:
        taken: list[ReplayRequest] = []
        size = 0
        for dead_letter_id, row in self._dead_letters.items():
            if (
                row.state != "requested"
                or self._groups[dead_letter_id] != self._group
                or len(taken) >= dead_letters_max
            ):
                continue
            if taken and size >= bytes_max:
                break
            if row.dead_letter.truncated is not None:
                continue
            size += record_bytes(row.dead_letter.record)
            row.state = "replayed"
            taken.append(ReplayRequest(dead_letter_id, row.dead_letter.record))
        return taken

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        kept = copy.deepcopy(self.session.tables)
        try:
            yield
        finally:
            self.session.tables = kept

    def advance(self, rows: Sequence[LaneUpdate]) -> None:
        for advance in rows:
            if not self.as_expected(advance.expected):
                raise LaneFenced("a row changed between its lock and its update")
            row = self._rows[self._group, advance.expected.lane]
            self._rows[self._group, advance.expected.lane] = replace(
                row,
                next_offset=advance.next_offset,
                outbox=advance.outbox,
                gaps=row.gaps + advance.gaps,
                effects=row.effects + advance.effects,
                duplicates=row.duplicates + advance.duplicates,
                superseded=row.superseded + advance.superseded,
                dead=row.dead + advance.dead,
            )

    def commit(self) -> None:
        database = self._database
        database.check_available()
        if database.commits_refused:
            database.commits_refused -= 1
            raise DatabaseLostError("the connection broke before the commit")
        if database.conflicts:
            database.conflicts -= 1
            raise ConflictError("deadlock detected")
        database.rows, database.dead_letters, database.dead_letter_groups = (
            self._rows,
            self._dead_letters,
            self._groups,
        )
        database.tables = self.session.tables
        database.commits += 1
        if database.answers_lost:
            database.answers_lost -= 1
            raise DatabaseLostError("the connection broke before the answer")


class FakeLaneStore:
    """The lane store of one process. See ports.LaneStore."""

    def __init__(self, database: FakeDatabase, group: str) -> None:
        self.database, self._group = database, group
        self._refused: dict[LaneKey, str] = {}  # as PostgresLaneStore's

    def acquire(self, lanes: Sequence[LaneKey]) -> Acquisition:
        self.database.check_available()
        acquired: dict[LaneKey, AcquiredLane] = {}
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
            acquired[lane] = AcquiredLane(row.epoch, row.next_offset, row.topic_id, row.outbox)
        return Acquisition(acquired, stopped, frozenset(missing))

    def add_lanes(self, lanes: Mapping[LaneKey, tuple[str, int]]) -> None:
        self.database.check_available()
        for lane, (topic_id, first) in lanes.items():
            self.database.rows.setdefault((self._group, lane), FakeLaneRow(topic_id, first, first))

    @contextmanager
    def transaction(self) -> Iterator[FakeTransaction]:
        self.database.check_available()
        yield FakeTransaction(self.database, self._group)

    def as_expected(self, expected: ExpectedLane) -> bool:
        row = self.database.rows.get((self._group, expected.lane))
        return row is not None and (row.epoch, row.next_offset) == (
            expected.epoch,
            expected.next_offset,
        )

    def compare(self, expected: Sequence[ExpectedLane]) -> frozenset[LaneKey]:
        self.database.check_available()
        return frozenset(row.lane for row in expected if not self.as_expected(row))

    def conservation(self, lanes: Sequence[LaneKey]) -> dict[LaneKey, int]:
        rows = self.database.rows
        return {
            lane: rows[self._group, lane].conservation_gap
            for lane in lanes
            if (self._group, lane) in rows
        }

    def clear_outbox(self, expected: Sequence[ExpectedLane]) -> None:
        self.database.check_available()
        for each in expected:
            if self.as_expected(each):
                key = (self._group, each.lane)
                self.database.rows[key] = replace(self.database.rows[key], outbox=None)

    def stop(self, expected: ExpectedLane, code: str, text: str) -> None:  # noqa: ARG002 - the port's signature
        self.database.check_available()
        if self.as_expected(expected):
            row = self.database.rows[self._group, expected.lane]
            self.database.rows[self._group, expected.lane] = replace(
                row, epoch=row.epoch + 1, stopped_code=code
            )

    def controls(self) -> Controls:
        self.database.check_available()
        return self.database.controls.get(self._group, Controls(False, None))

    def pause_service(self, code: str, text: str) -> None:  # noqa: ARG002 - the port's signature
        self.database.controls[self._group] = Controls(True, None)
        self.database.paused_by_breaker[self._group] = code

    def has_replay_requests(self) -> bool:
        dead_letters = self.database.dead_letters.items()
        return any(
            row.state == "requested" and self.database.dead_letter_groups[i] == self._group
            for i, row in dead_letters
        )

    def read(self, query: Callable[[FakeSession], T]) -> T:
        self.database.check_available()
        return query(FakeSession(self.database.tables, datetime.now(UTC), self.database.generation))

    def reconnect(self) -> None:
        self.database.check_available()

    def close(self) -> None:
        return None
