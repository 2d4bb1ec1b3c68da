"""Cursors and waits in PostgreSQL. One method, one statement; inside the tick's transaction, never
committing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import orjson

from services.ingest.rules.polling import PollDelay
from services.ingest.vendors.shared.poll import PollPage
from services.runtime.postgres import statements
from services.runtime.postgres.arrays import plain, texts
from services.runtime.postgres.ledger import Session
from services.runtime.text import storable

SQL = statements.load(__package__)

Name = tuple[str, str]  # source, and what is asked of it


class DuePoll(NamedTuple):
    """A poll whose time has come."""

    source: str
    what: str
    cursor: str
    tags: Mapping[str, str]


class DueRead(NamedTuple):
    """An order that is to be read at its source."""

    source: str
    order_id: str
    asked: int
    failures: int


class StoredPoll(NamedTuple):
    """Where a poll stands. `said` is how much of the page `answer` was said, when it was too much
    for one commit.
    """

    cursor: str
    answer: UUID | None
    said: int
    failures: int
    warning: str


class SourcePollState(NamedTuple):
    """What metrics tell of a source."""

    source: str
    resting: int
    warnings: int
    age_s: float


@dataclass(frozen=True, slots=True)
class PollStore:
    session: Session

    def add_polls(self, names: Sequence[Name]) -> None:
        self.session.execute(SQL["add_polls"], _names(names))

    def wake_polls(self, sources: Sequence[str]) -> None:
        self.session.execute(SQL["resume_polls"], {"sources": texts(sources)})

    def add_sources(self, sources: Sequence[str]) -> None:
        self.session.execute(SQL["add_sources"], {"sources": texts(sources)})

    def find_failures(self, sources: Sequence[str]) -> dict[str, int]:
        """In a row, of each source."""
        return dict(
            self.session.execute(SQL["find_failures"], {"sources": texts(sources)}).fetchall()
        )

    def find_due(self, names: Sequence[Name]) -> list[DuePoll]:
        rows = self.session.execute(SQL["find_due_polls"], _names(names))
        return [
            DuePoll(source, what, cursor, orjson.loads(tags)) for source, what, cursor, tags in rows
        ]

    def find_reads(self, sources: Sequence[str], reads_max: int) -> list[DueRead]:
        wanted = {"sources": texts(sources), "reads_max": reads_max}
        return [DueRead(*row) for row in self.session.execute(SQL["find_due_reads"], wanted)]

    def lock_poll(self, name: Name) -> StoredPoll | None:
        row = self.session.execute(SQL["lock_poll"], _name(name)).fetchone()
        return StoredPoll(*row) if row else None

    def save_part(self, name: Name, answer: UUID, said: int) -> None:
        self.session.execute(
            SQL["save_partial_page"], _name(name) | {"answer": answer, "published": said}
        )

    def save_page(self, name: Name, page: PollPage, tags: Mapping[str, str], wait_s: float) -> None:
        told = {
            "cursor": page.cursor,
            "tags": orjson.dumps(dict(tags)).decode(),
            "warning": storable(page.warning, 300),
        }
        self.session.execute(SQL["save_page"], _name(name) | told | {"wait_s": wait_s})

    def save_failure(self, name: Name, rest: PollDelay, trouble: str) -> None:
        told = {
            "failures": rest.failures,
            "state": "suspended" if rest.is_resting else "ok",
            "trouble": storable(trouble, 300),
        }
        self.session.execute(SQL["save_failure"], _name(name) | told | {"wait_s": rest.poll_s})

    def save_source(self, source: str, failures: int, wait_s: float) -> None:
        self.session.execute(
            SQL["save_source"], {"source": source, "failures": failures, "wait_s": wait_s}
        )

    def answer_reads(self, answered: Mapping[str, int]) -> None:
        """Orders, each with how often it had been asked for when its reading began."""
        batch = {"order_ids": texts(list(answered)), "requested": plain(list(answered.values()))}
        self.session.execute(SQL["complete_reads"], batch)

    def put_off_reads(self, put_off: Mapping[str, PollDelay]) -> None:
        batch = {
            "order_ids": texts(list(put_off)),
            "failures": plain([rest.failures for rest in put_off.values()]),
            "waits_s": plain([str(rest.poll_s) for rest in put_off.values()]),
        }
        self.session.execute(SQL["postpone_reads"], batch)

    def tell_polls(self, names: Sequence[Name]) -> list[SourcePollState]:
        return [
            SourcePollState(*row) for row in self.session.execute(SQL["poll_states"], _names(names))
        ]

    def count_reads(self, sources: Sequence[str]) -> dict[str, int]:
        """That wait, by source."""
        return dict(
            self.session.execute(SQL["count_reads"], {"sources": texts(sources)}).fetchall()
        )


def _name(name: Name) -> dict[str, object]:
    return {"source": name[0], "what": name[1]}


def _names(names: Sequence[Name]) -> dict[str, str]:
    return {
        "sources": texts([source for source, _ in names]),
        "whats": texts([what for _, what in names]),
    }
