"""Cursors and waits in PostgreSQL: one statement per method, inside the tick's transaction. The
store never commits.
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
from services.runtime.postgres.lane_store import Session
from services.runtime.text import storable

SQL = statements.load(__package__)

PollName = tuple[str, str]  # source and object kind


class DuePoll(NamedTuple):
    """A poll that is due."""

    source: str
    object_kind: str
    cursor: str
    tags: Mapping[str, str]


class DueOrderFetch(NamedTuple):
    """An order that is to be fetched from its source."""

    source: str
    order_id: str
    requests: int
    failures: int


class StoredPoll(NamedTuple):
    """The stored state of a poll. `published` is how much of the page of result `result_id` was
    published, if it was too much for one commit.
    """

    cursor: str
    result_id: UUID | None
    published: int
    failures: int
    warning: str


class SourcePollState(NamedTuple):
    """The state of a source's polls, for metrics."""

    source: str
    suspended: int
    warnings: int
    age_s: float


@dataclass(frozen=True, slots=True)
class PollStore:
    session: Session

    def add_polls(self, names: Sequence[PollName]) -> None:
        self.session.execute(SQL["add_polls"], _names(names))

    def wake_polls(self, sources: Sequence[str]) -> None:
        self.session.execute(SQL["resume_polls"], {"sources": texts(sources)})

    def add_sources(self, sources: Sequence[str]) -> None:
        self.session.execute(SQL["add_sources"], {"sources": texts(sources)})

    def find_failures(self, sources: Sequence[str]) -> dict[str, int]:
        """Return the number of consecutive failures by source."""
        return dict(
            self.session.execute(SQL["find_failures"], {"sources": texts(sources)}).fetchall()
        )

    def find_due(self, names: Sequence[PollName]) -> list[DuePoll]:
        rows = self.session.execute(SQL["find_due_polls"], _names(names))
        return [
            DuePoll(source, object_kind, cursor, orjson.loads(tags))
            for source, object_kind, cursor, tags in rows
        ]

    def find_due_order_fetches(
        self, sources: Sequence[str], orders_max: int
    ) -> list[DueOrderFetch]:
        wanted = {"sources": texts(sources), "orders_max": orders_max}
        return [
            DueOrderFetch(*row)
            for row in self.session.execute(SQL["find_due_order_fetches"], wanted)
        ]

    def lock_poll(self, name: PollName) -> StoredPoll | None:
        row = self.session.execute(SQL["lock_poll"], _name(name)).fetchone()
        return StoredPoll(*row) if row else None

    def save_part(self, name: PollName, result_id: UUID, published: int) -> None:
        self.session.execute(
            SQL["save_partial_page"], _name(name) | {"answer": result_id, "published": published}
        )

    def save_page(
        self, name: PollName, page: PollPage, tags: Mapping[str, str], wait_s: float
    ) -> None:
        columns = {
            "cursor": page.cursor,
            "tags": orjson.dumps(dict(tags)).decode(),
            "warning": storable(page.warning, 300),
        }
        self.session.execute(SQL["save_page"], _name(name) | columns | {"wait_s": wait_s})

    def save_failure(self, name: PollName, delay: PollDelay, last_error: str) -> None:
        columns = {
            "failures": delay.failures,
            "state": "suspended" if delay.is_suspended else "ok",
            "last_error": storable(last_error, 300),
        }
        self.session.execute(SQL["save_failure"], _name(name) | columns | {"wait_s": delay.poll_s})

    def save_source(self, source: str, failures: int, wait_s: float) -> None:
        self.session.execute(
            SQL["save_source"], {"source": source, "failures": failures, "wait_s": wait_s}
        )

    def complete_order_fetches(self, answered: Mapping[str, int]) -> None:
        """Complete order fetches, each with the number of requests that there were when the
        fetch began.
        """
        batch = {"order_ids": texts(list(answered)), "requested": plain(list(answered.values()))}
        self.session.execute(SQL["complete_order_fetches"], batch)

    def postpone_order_fetches(self, postponed: Mapping[str, PollDelay]) -> None:
        batch = {
            "order_ids": texts(list(postponed)),
            "failures": plain([delay.failures for delay in postponed.values()]),
            "waits_s": plain([str(delay.poll_s) for delay in postponed.values()]),
        }
        self.session.execute(SQL["postpone_order_fetches"], batch)

    def poll_states(self, names: Sequence[PollName]) -> list[SourcePollState]:
        return [
            SourcePollState(*row) for row in self.session.execute(SQL["poll_states"], _names(names))
        ]

    def count_order_fetches(self, sources: Sequence[str]) -> dict[str, int]:
        """Return how many order fetches wait, by source."""
        return dict(
            self.session.execute(SQL["count_order_fetches"], {"sources": texts(sources)}).fetchall()
        )


def _name(name: PollName) -> dict[str, object]:
    return {"source": name[0], "object_kind": name[1]}


def _names(names: Sequence[PollName]) -> dict[str, str]:
    return {
        "sources": texts([source for source, _ in names]),
        "object_kinds": texts([object_kind for _, object_kind in names]),
    }
