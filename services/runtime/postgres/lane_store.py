"""The lane store in PostgreSQL: lanes' rows, dead letters and controls of one consumer group.

Each method executes one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from services.runtime.errors import LaneFenced, NewerRelease, OutboxUnreadable
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
from services.runtime.postgres import statements
from services.runtime.records import RECORD_BYTES_MAX, LaneKey, Record, pack_headers, unpack_headers

T = TypeVar("T")

SQL = statements.load(__package__)
TIME_MS_MAX = 253_402_300_800_000  # the year 10000: a producer may write any time
# A process of a newer release may be able to go on.
RELEASE_DEPENDENT_STOPS = frozenset({NewerRelease.code, OutboxUnreadable.code})
Session: TypeAlias = Connection[TupleRow]


def _keys(lanes: Sequence[LaneKey]) -> dict[str, Any]:
    return {
        "topics": [lane.topic for lane in lanes],
        "partitions": [lane.partition for lane in lanes],
    }


def _expected_columns(expected: Sequence[ExpectedLane]) -> dict[str, Any]:
    numbers = {"epochs": [c.epoch for c in expected], "expected": [c.next_offset for c in expected]}
    return _keys([c.lane for c in expected]) | numbers


class PostgresTransaction:
    """The transaction of a commit. The service's own statements go through `session`."""

    def __init__(self, session: Session, group: str, code_version: str) -> None:
        self.session = session
        self._group, self._code_version = group, code_version

    def lock(self, expected: Sequence[ExpectedLane]) -> LockedLanes:
        arguments = _keys([c.lane for c in expected]) | {"group": self._group}
        rows = self.session.execute(SQL["lock_lanes"], arguments).fetchall()
        actual = {
            LaneKey(topic, partition): (epoch, offset)
            for topic, partition, epoch, offset, _ in rows
        }
        fenced = frozenset(
            c.lane for c in expected if actual.get(c.lane) != (c.epoch, c.next_offset)
        )
        at: datetime = rows[0][4] if rows else datetime.min.replace(tzinfo=UTC)
        return LockedLanes(fenced, at)

    def lock_dead_letters(self, ids: Sequence[UUID]) -> frozenset[UUID]:
        return frozenset(
            row[0] for row in self.session.execute(SQL["lock_dead_letters"], {"ids": list(ids)})
        )

    def resolve_dead_letters(self, ids: Sequence[UUID]) -> None:
        self.session.execute(SQL["resolve_dead_letters"], {"ids": list(ids)})

    def reopen_dead_letters(self, failures: Sequence[tuple[UUID, str, str]]) -> None:
        ids, codes, texts = zip(*failures, strict=True)
        self.session.execute(
            SQL["reopen_dead_letters"],
            {"ids": list(ids), "codes": list(codes), "texts": list(texts)},
        )

    def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> list[tuple[UUID, int]]:
        records = [dead_letter.record for dead_letter in dead_letters]
        columns = {
            "topics": [r.topic for r in records],
            "partitions": [r.partition for r in records],
            "offsets": [r.offset for r in records],
            "timestamps_ms": [
                r.timestamp_ms if 0 <= r.timestamp_ms < TIME_MS_MAX else None for r in records
            ],
            "keys": [r.key for r in records],
            "values": [r.value for r in records],
            "value_bytes": [
                dead_letter.truncated and dead_letter.truncated.value_bytes
                for dead_letter in dead_letters
            ],
            "sha256s": [
                dead_letter.truncated and dead_letter.truncated.value_sha256
                for dead_letter in dead_letters
            ],
            "headers": [pack_headers(r.headers) for r in records],
            "topic_ids": [dead_letter.topic_id for dead_letter in dead_letters],
            "stages": [dead_letter.stage for dead_letter in dead_letters],
            "codes": [dead_letter.code for dead_letter in dead_letters],
            "texts": [dead_letter.text for dead_letter in dead_letters],
            "trace_ids": [dead_letter.trace_id for dead_letter in dead_letters],
            "subject_keys": [dead_letter.subject_key for dead_letter in dead_letters],
        }
        rows = self.session.execute(
            SQL["add_dead_letters"],
            columns | {"group": self._group, "code_version": self._code_version},
        ).fetchall()
        stored = {
            (topic, partition, offset): (dead_letter_id, attempts)
            for topic, partition, offset, dead_letter_id, attempts in rows
        }
        return [stored[r.topic, r.partition, r.offset] for r in records]

    def take_replay_requests(self, dead_letters_max: int, bytes_max: int) -> list[ReplayRequest]:
        bounds = {
            "group": self._group,
            "dead_letters_max": dead_letters_max,
            "bytes_max": bytes_max,
            "largest": RECORD_BYTES_MAX,
        }
        rows = self.session.execute(SQL["take_replay_requests"], bounds).fetchall()
        return [
            ReplayRequest(
                dead_letter_id,
                Record(topic, partition, offset, timestamp, key, value, unpack_headers(headers)),
            )
            for dead_letter_id, topic, partition, offset, timestamp, key, value, headers in sorted(
                rows, key=lambda row: row[0]
            )
        ]

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        with self.session.transaction(force_rollback=True):
            yield

    def advance(self, rows: Sequence[LaneUpdate]) -> None:
        counts = ("gaps", "effects", "duplicates", "superseded", "dead")
        columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in counts}
        columns["next_offsets"] = [row.next_offset for row in rows]
        columns["outbox"] = [row.outbox for row in rows]
        columns |= _expected_columns([row.expected for row in rows]) | {"group": self._group}
        if self.session.execute(SQL["advance_lanes"], columns).rowcount != len(rows):
            raise LaneFenced("a row changed between its lock and its update")

    def commit(self) -> None:
        self.session.commit()


class PostgresLaneStore:
    """One connection, one group. After a lost connection `reconnect` opens the next one."""

    def __init__(
        self, group: str, owner: str, code_version: str, connect: Callable[[], Session]
    ) -> None:
        """`connect` opens a connection whose waits are all bounded (connection.connect)."""
        self._group, self._owner = group, owner
        self._code_version, self._connect = code_version, connect
        self._session: Session | None = None
        # Lanes that this process itself stopped because of its release.
        self._refused: dict[LaneKey, str] = {}

    @property
    def session(self) -> Session:
        if self._session is None or self._session.closed:
            self._session = self._connect()
        return self._session

    def acquire(self, lanes: Sequence[LaneKey]) -> Acquisition:
        arguments = _keys(lanes) | {"group": self._group, "owner": self._owner}
        known = self.session.execute(SQL["known_lanes"], arguments).fetchall()
        stopped: dict[LaneKey, str] = {}
        for topic, partition, code, _owner in known:
            lane = LaneKey(topic, partition)
            if code is not None and (
                code not in RELEASE_DEPENDENT_STOPS or self._refused.get(lane) == code
            ):
                stopped[lane] = code
        existing = {LaneKey(row[0], row[1]) for row in known}
        free = sorted(existing - stopped.keys())
        acquired: dict[LaneKey, AcquiredLane] = {}
        if free:
            for row in self.session.execute(SQL["acquire_lanes"], arguments | _keys(free)):
                acquired[LaneKey(row[0], row[1])] = AcquiredLane(row[2], row[3], row[4], row[5])
        return Acquisition(acquired, stopped, frozenset(lanes) - existing)

    def add_lanes(self, lanes: Mapping[LaneKey, tuple[str, int]]) -> None:
        begins = list(lanes.values())
        columns = {
            "topic_ids": [topic_id for topic_id, _ in begins],
            "first_offsets": [offset for _, offset in begins],
        }
        self.session.execute(
            SQL["add_lanes"], _keys(list(lanes)) | columns | {"group": self._group}
        )

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Autocommit is off inside, so the first statement begins the transaction. What is not
        committed is rolled back.
        """
        session = self.session
        session.autocommit = False
        try:
            yield PostgresTransaction(session, self._group, self._code_version)
        finally:
            # Without a connection the server has rolled back, and the earlier error is raised.
            with suppress(psycopg.OperationalError):
                if not session.closed:
                    session.rollback()
                    session.autocommit = True

    def compare(self, expected: Sequence[ExpectedLane]) -> frozenset[LaneKey]:
        rows = self.session.execute(
            SQL["compare_lanes"], _expected_columns(expected) | {"group": self._group}
        )
        return frozenset(LaneKey(topic, partition) for topic, partition in rows)

    def conservation(self, lanes: Sequence[LaneKey]) -> dict[LaneKey, int]:
        rows = self.session.execute(SQL["conservation"], _keys(lanes) | {"group": self._group})
        return {LaneKey(topic, partition): gap for topic, partition, gap in rows}

    def clear_outbox(self, expected: Sequence[ExpectedLane]) -> None:
        self.session.execute(
            SQL["clear_outbox"], _expected_columns(expected) | {"group": self._group}
        )

    def stop(self, expected: ExpectedLane, code: str, text: str) -> None:
        if code in RELEASE_DEPENDENT_STOPS:
            self._refused[expected.lane] = code
        arguments = {
            "group": self._group,
            "topic": expected.lane.topic,
            "partition": expected.lane.partition,
            "epoch": expected.epoch,
            "expected": expected.next_offset,
            "code": code,
            "text": text,
            "owner": self._owner,
        }
        self.session.execute(SQL["stop_lane"], arguments)

    def controls(self) -> Controls:
        row = self.session.execute(SQL["controls"], {"group": self._group}).fetchone()
        return Controls(row[0], row[1]) if row else Controls(False, None)

    def pause_service(self, code: str, text: str) -> None:
        arguments = {"group": self._group, "owner": self._owner, "code": code, "text": text}
        self.session.execute(SQL["pause_service"], arguments)

    def has_replay_requests(self) -> bool:
        row = self.session.execute(SQL["has_replay_requests"], {"group": self._group}).fetchone()
        return bool(row and row[0])

    def read(self, query: Callable[[Session], T]) -> T:
        return query(self.session)

    def reconnect(self) -> None:
        self.close()
        self.session.execute("select 1")  # a round trip to the server, not only to the socket

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None
