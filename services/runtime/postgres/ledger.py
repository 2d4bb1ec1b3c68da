"""The ledger in PostgreSQL: lanes' rows, dead letters and controls of one consumer group. One
method, one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from services.runtime.errors import LaneFenced
from services.runtime.loop.dead_letters import pack_headers, unpack_headers
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
from services.runtime.postgres import statements
from services.runtime.records import RECORD_BYTES_MAX, LaneKey, Record

SQL = statements.load(__package__)
TIME_MS_MAX = 253_402_300_800_000  # the year 10000: a producer may claim any time
RETRIED_BY_OTHERS = frozenset(
    {"lane-newer-release", "lane-unpublished-unreadable"}
)  # another process may know more
Session: TypeAlias = Connection[TupleRow]


def _keys(lanes: Sequence[LaneKey]) -> dict[str, Any]:
    return {
        "topics": [lane.topic for lane in lanes],
        "partitions": [lane.partition for lane in lanes],
    }


def _claims(claims: Sequence[ExpectedLane]) -> dict[str, Any]:
    numbers = {"epochs": [c.epoch for c in claims], "expected": [c.next_offset for c in claims]}
    return _keys([c.lane for c in claims]) | numbers


class PostgresTransaction:
    """Inside the lane's transaction. The service's own statements go through `session`."""

    def __init__(self, session: Session, group: str, code_version: str) -> None:
        self.session = session
        self._group, self._code_version = group, code_version

    def lock(self, claims: Sequence[ExpectedLane]) -> LockedLanes:
        arguments = _keys([c.lane for c in claims]) | {"group": self._group}
        rows = self.session.execute(SQL["lock_lanes"], arguments).fetchall()
        found = {
            LaneKey(topic, partition): (epoch, offset)
            for topic, partition, epoch, offset, _ in rows
        }
        lost = frozenset(c.lane for c in claims if found.get(c.lane) != (c.epoch, c.next_offset))
        at: datetime = rows[0][4] if rows else datetime.min.replace(tzinfo=UTC)
        return LockedLanes(lost, at)

    def lock_letters(self, ids: Sequence[UUID]) -> frozenset[UUID]:
        return frozenset(
            row[0] for row in self.session.execute(SQL["lock_dead_letters"], {"ids": list(ids)})
        )

    def resolve_letters(self, ids: Sequence[UUID]) -> None:
        self.session.execute(SQL["resolve_dead_letters"], {"ids": list(ids)})

    def reopen_letters(self, failures: Sequence[tuple[UUID, str, str]]) -> None:
        ids, codes, texts = zip(*failures, strict=True)
        self.session.execute(
            SQL["reopen_dead_letters"],
            {"ids": list(ids), "codes": list(codes), "texts": list(texts)},
        )

    def add_letters(self, letters: Sequence[DeadLetter]) -> list[tuple[UUID, int]]:
        records = [letter.record for letter in letters]
        columns = {
            "topics": [r.topic for r in records],
            "partitions": [r.partition for r in records],
            "offsets": [r.offset for r in records],
            "timestamps_ms": [
                r.timestamp_ms if 0 <= r.timestamp_ms < TIME_MS_MAX else None for r in records
            ],
            "keys": [r.key for r in records],
            "values": [r.value for r in records],
            "value_bytes": [letter.original and letter.original.value_bytes for letter in letters],
            "sha256s": [letter.original and letter.original.value_sha256 for letter in letters],
            "headers": [pack_headers(r.headers) for r in records],
            "topic_ids": [letter.topic_id for letter in letters],
            "stages": [letter.stage for letter in letters],
            "codes": [letter.code for letter in letters],
            "texts": [letter.text for letter in letters],
            "trace_ids": [letter.trace_id for letter in letters],
            "subject_keys": [letter.subject_key for letter in letters],
        }
        rows = self.session.execute(
            SQL["add_dead_letters"],
            columns | {"group": self._group, "code_version": self._code_version},
        ).fetchall()
        stored = {
            (topic, partition, offset): (letter_id, attempts)
            for topic, partition, offset, letter_id, attempts in rows
        }
        return [stored[r.topic, r.partition, r.offset] for r in records]

    def take_requested(self, letters_max: int, bytes_max: int) -> list[ReplayRequest]:
        bounds = {
            "group": self._group,
            "dead_letters_max": letters_max,
            "bytes_max": bytes_max,
            "largest": RECORD_BYTES_MAX,
        }
        rows = self.session.execute(SQL["take_replay_requests"], bounds).fetchall()
        return [
            ReplayRequest(
                letter_id,
                Record(topic, partition, offset, timestamp, key, value, unpack_headers(headers)),
            )
            for letter_id, topic, partition, offset, timestamp, key, value, headers in sorted(
                rows, key=lambda row: row[0]
            )
        ]

    @contextmanager
    def trial(self) -> Iterator[None]:
        with self.session.transaction(force_rollback=True):
            yield

    def advance(self, rows: Sequence[LaneAdvance]) -> None:
        names = (
            "next_offset",
            "unpublished",
            "gaps",
            "effects",
            "duplicates",
            "superseded",
            "dead",
        )
        columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in names}
        columns["next_offsets"] = columns.pop("next_offset")
        columns["outbox"] = columns.pop("unpublished")
        arguments = _claims([row.claim for row in rows]) | columns | {"group": self._group}
        if self.session.execute(SQL["advance_lanes"], arguments).rowcount != len(rows):
            raise LaneFenced("a row changed between its lock and its update")

    def commit(self) -> None:
        self.session.commit()


class PostgresLedger:
    """One connection, one group. After a lost connection `reconnect` makes the next one."""

    def __init__(
        self, group: str, owner: str, code_version: str, connect: Callable[[], Session]
    ) -> None:
        """`connect` opens a connection with every wait bounded (database.connect)."""
        self._group, self._owner, self._code_version, self._connect = (
            group,
            owner,
            code_version,
            connect,
        )
        self._session: Session | None = None
        self._refused: dict[
            LaneKey, str
        ] = {}  # lanes that this process itself stopped for want of knowledge

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
                code not in RETRIED_BY_OTHERS or self._refused.get(lane) == code
            ):
                stopped[lane] = code
        there = {LaneKey(row[0], row[1]) for row in known}
        free = sorted(there - stopped.keys())
        held: dict[LaneKey, AcquiredLane] = {}
        if free:
            for row in self.session.execute(SQL["acquire_lanes"], arguments | _keys(free)):
                held[LaneKey(row[0], row[1])] = AcquiredLane(row[2], row[3], row[4], row[5])
        return Acquisition(held, stopped, frozenset(lanes) - there)

    def add_lanes(self, lanes: Mapping[LaneKey, tuple[str, int]]) -> None:
        found = list(lanes.values())
        columns = {
            "topic_ids": [topic_id for topic_id, _ in found],
            "first_offsets": [offset for _, offset in found],
        }
        self.session.execute(
            SQL["add_lanes"], _keys(list(lanes)) | columns | {"group": self._group}
        )

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Autocommit is off inside, so the first statement opens the transaction; whatever is not
        committed is undone.
        """
        session = self.session
        session.autocommit = False
        try:
            yield PostgresTransaction(session, self._group, self._code_version)
        finally:
            with suppress(
                psycopg.OperationalError
            ):  # gone: the server has rolled back, and the error before it counts
                if not session.closed:
                    session.rollback()
                    session.autocommit = True

    def compare(self, claims: Sequence[ExpectedLane]) -> frozenset[LaneKey]:
        rows = self.session.execute(SQL["compare_lanes"], _claims(claims) | {"group": self._group})
        return frozenset(LaneKey(topic, partition) for topic, partition in rows)

    def conservation(self, lanes: Sequence[LaneKey]) -> dict[LaneKey, int]:
        rows = self.session.execute(SQL["conservation"], _keys(lanes) | {"group": self._group})
        return {LaneKey(topic, partition): gap for topic, partition, gap in rows}

    def clear_unpublished(self, claims: Sequence[ExpectedLane]) -> None:
        self.session.execute(SQL["clear_outbox"], _claims(claims) | {"group": self._group})

    def stop(self, claim: ExpectedLane, code: str, text: str) -> None:
        if code in RETRIED_BY_OTHERS:
            self._refused[claim.lane] = code
        who = {
            "group": self._group,
            "topic": claim.lane.topic,
            "partition": claim.lane.partition,
            "owner": self._owner,
        }
        what = {"epoch": claim.epoch, "expected": claim.next_offset, "code": code, "text": text}
        self.session.execute(SQL["stop_lane"], who | what)

    def controls(self) -> Controls:
        row = self.session.execute(SQL["controls"], {"group": self._group}).fetchone()
        return Controls(row[0], row[1]) if row else Controls(False, None)

    def pause_service(self, code: str, text: str) -> None:
        who = {"group": self._group, "owner": self._owner}
        self.session.execute(SQL["pause_service"], who | {"code": code, "text": text})

    def letters_requested(self) -> bool:
        row = self.session.execute(SQL["has_replay_requests"], {"group": self._group}).fetchone()
        return bool(row and row[0])

    def backlog(self, ask: Callable[[Session], str | None]) -> str | None:
        return ask(self.session)

    def reconnect(self) -> None:
        self.close()
        self.session.execute("select 1")  # asks the server, not only the socket

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None
