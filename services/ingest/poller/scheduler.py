"""The tick of ingest: takes what was answered, says it as callbacks, and says what is to be asked
next.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from schemas.topics import MIB
from services.ingest import callbacks
from services.ingest.config.sources_file import SourceConfig
from services.ingest.metrics import POLL_AGE, POLL_WARNINGS, POLLS_SUSPENDED, READS_WAITING
from services.ingest.poller.store import PollName, PollStore
from services.ingest.poller.workers import (
    REQUEST_VALID_S,
    PollFailure,
    PollRequest,
    PollResult,
    PollWorkers,
)
from services.ingest.rules.facts import DriftNotice
from services.ingest.rules.polling import (
    READ_TRIES_MAX,
    PollDelay,
    PollProblem,
    after_failure,
    choose_requests,
    interval,
)
from services.ingest.settings import ROOM_BYTES
from services.ingest.store import DRIFT_CHARS_MAX
from services.ingest.store import IngestStore as Inbox
from services.ingest.vendors.polls import VENDORS
from services.ingest.vendors.shared.poll import FoundObject, PollConfig, PollPage
from services.runtime.observability import logs
from services.runtime.postgres.ledger import Session
from services.runtime.records import Event
from services.runtime.text import storable

TICK_BYTES_MAX = 2 * MIB  # of bodies that one tick says; a page may take several
READS_OF_REQUEST_MAX = 10  # orders of one source that are read in a row
REPORT_S = 10.0
GAUGES = (POLL_WARNINGS, POLLS_SUSPENDED, POLL_AGE, READS_WAITING)


class ActivePoll(NamedTuple):
    """A source that is asked."""

    shop: SourceConfig
    polled: PollConfig


class PollScheduler:
    """One for a process. What it remembers is only what it is doing: where it stands is in the
    database.

    Crash: a page's callbacks and its cursor commit together, or not at all; then it is asked for
    again.
    """

    def __init__(
        self,
        shops: Mapping[str, SourceConfig],
        reader: PollWorkers | None = None,
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = logs.get("polls")
        self._active = {
            slug: ActivePoll(it, it.polled)
            for slug, it in sorted(shops.items())
            if it.polled is not None
        }
        self._refused = [slug for slug, shop in shops.items() if shop.poll_refused is not None]
        for slug in self._refused:
            self._log.error("a source is not polled", source=slug, why=shops[slug].poll_refused)
        self._vendors = {
            slug: VENDORS[active.shop.source.kind] for slug, active in self._active.items()
        }
        self._names: list[PollName] = [
            (slug, what) for slug, vendor in self._vendors.items() for what in vendor.polls
        ]
        self._readers = [
            slug for slug, vendor in self._vendors.items() if vendor.read_order is not None
        ]
        self._reader = reader or PollWorkers(forget=clear_gauges)
        self._chance, self._clock = chance, clock
        self._read_last = set[str]()
        self._denied_until = dict[str, float]()  # reads of a source; a start tries again
        self._tell_at: float | None = None

    def tick(self, _now: datetime, session: Session) -> list[Event]:
        """Two statements when nothing is due, a few for each answer. Never waits for a vendor."""
        store = PollStore(session)
        self._reader.begin()
        tells = self._tell_at is None or self._clock() >= self._tell_at
        if tells:
            store.add_sources(list(self._active))
            store.add_polls(self._names)
        if self._tell_at is None:
            store.wake_polls(list(self._active))
        events = self._take(store)
        self._ask(store)
        if tells:
            self._tell(store)
            self._tell_at = self._clock() + REPORT_S
        return events

    def _take(self, store: PollStore) -> list[Event]:
        """Rolled back, an answer that was done with is gone: its poll is still due, and is asked
        again.
        """
        events, room = list[Event](), TICK_BYTES_MAX
        answers = self._reader.answers
        failures = store.find_failures(list(self._active)) if answers else {}
        for answer in answers:
            if room <= 0:
                break
            try:
                said, room, is_done = self._take_one(
                    store, answer, failures.get(answer.ask.polled.slug, 0), room
                )
            except (
                Exception
            ):  # kept, it would fail every tick, and with it the polls of all other sources
                self._reader.done(answer)
                raise
            events += said
            if is_done:
                self._reader.done(answer)
        return events

    def _take_one(
        self, store: PollStore, answer: PollResult, failed: int, room: int
    ) -> tuple[list[Event], int, bool]:
        """What it says, the room that is left, and whether it is done with. `failed`: how often in
        a row its source had.
        """
        said, is_done = list[Event](), True
        if isinstance(answer.page, PollPage):
            said, room, is_done = self._say(store, answer, answer.page, room)
        elif isinstance(answer.page, PollFailure):
            self._fail(store, answer, answer.page, failed)
        elif answer.readings:
            said = self._read(store, answer, failed)
        if failed and is_source_available(answer):
            store.save_source(answer.ask.polled.slug, 0, 0.0)
        return said, room, is_done

    def _say(
        self, store: PollStore, answer: PollResult, page: PollPage, room: int
    ) -> tuple[list[Event], int, bool]:
        """As much of a page as there is room for; its cursor moves with the last of it."""
        ask, name = answer.ask, (answer.ask.polled.slug, answer.ask.what)
        stored = store.lock_poll(name)
        if stored is None or stored.cursor != ask.cursor:  # another process was faster
            return [], room, True
        at, events = stored.said if stored.answer == answer.id else 0, list[Event]()
        while at < len(page.found) and room > 0:
            events += self._events(store, ask, page.found[at])
            room -= len(page.found[at].body)
            at += 1
        if at < len(page.found):
            store.save_part(name, answer.id, at)
            return events, room, False
        every_s = ask.polled.every_s or VENDORS[ask.kind].polls[ask.what].every_s
        wait_s = interval(every_s, is_last=page.is_last, chance=self._chance())
        if page.is_unchanged:
            page = page._replace(warning=stored.warning)
        store.save_page(name, page, answer.tags, wait_s)
        if page.warning:
            self._log.error("a poll warns", source=name[0], what=name[1], warning=page.warning)
            kind = "webhook-disabled" if name[1] == "webhook" else "poll-warning"
            add_drift_notice(
                store, DriftNotice(name[0], kind, page.warning), f"{name[0]} {name[1]}"
            )
        return events, room, True

    def _events(self, store: PollStore, ask: PollRequest, found: FoundObject) -> list[Event]:
        """What no record can carry is noticed and left: it would stop the lane for ever."""
        slug, shop = ask.polled.slug, self._active[ask.polled.slug].shop
        found = found._replace(body=shop.source.without_cards(found.body))
        if len(found.body) > MIB - ROOM_BYTES:
            key = f"{slug}:{found.external_id or '?'}"
            add_drift_notice(
                store,
                DriftNotice(
                    slug, "poll-too-large", f"more than {MIB - ROOM_BYTES} bytes", found.body
                ),
                key,
            )
            return []
        return list(callbacks.poll_records(shop, found))

    def _fail(
        self, store: PollStore, answer: PollResult, failure: PollFailure, source_failures: int
    ) -> None:
        name = (answer.ask.polled.slug, answer.ask.what)
        stored = store.lock_poll(name)
        if stored is None or stored.cursor != answer.ask.cursor:
            return
        rest = self._rest(failure, stored.failures, source_failures)
        store.save_failure(name, rest, failure.text)
        self._rest_source(store, name[0], rest, source_failures)

    def _read(self, store: PollStore, answer: PollResult, source_failures: int) -> list[Event]:
        source, events = answer.ask.polled.slug, list[Event]()
        answered, put_off = dict[str, int](), dict[str, PollDelay]()
        for order, asked, failures, came in answer.readings:
            order_id = f"{source}:{order}"
            if isinstance(came, FoundObject):
                events += self._events(store, answer.ask, came)
                answered[order_id], source_failures = asked, 0
                continue
            rest = self._rest(came, failures, source_failures)
            if came.trouble is PollProblem.DENIED:  # so are all that wait
                self._denied_until[source] = self._clock() + rest.poll_s
            if came.trouble is PollProblem.MISSING and rest.failures >= READ_TRIES_MAX:
                answered[order_id] = asked
                told = DriftNotice(
                    source, "order-missing", "an order that it told of is not there", order.encode()
                )
                add_drift_notice(store, told, order_id)
                continue
            put_off[order_id] = rest
            self._rest_source(store, source, rest, source_failures)
        if answered:
            store.answer_reads(answered)
        if put_off:
            store.put_off_reads(put_off)
        return events

    def _rest(self, failure: PollFailure, failures: int, source_failures: int) -> PollDelay:
        chance = self._chance()
        return after_failure(
            failure.trouble,
            failures,
            source_failures,
            retry_after_s=failure.retry_after_s,
            chance=chance,
        )

    def _rest_source(self, store: PollStore, source: str, rest: PollDelay, failures: int) -> None:
        if rest.source_failures != failures or rest.source_s:
            store.save_source(source, rest.source_failures, rest.source_s)
        if rest.source_s:
            self._log.warning(
                "a source is left alone",
                source=source,
                seconds=round(rest.source_s),
                failures=failures + 1,
            )

    def _ask(self, store: PollStore) -> None:
        due = (
            {(it.source, it.what): it for it in store.find_due(self._names)} if self._names else {}
        )
        reads: dict[str, list[tuple[str, int, int]]] = {}
        readers = [slug for slug in self._readers if slug not in self._denied]
        for it in store.find_reads(readers, READS_OF_REQUEST_MAX) if readers else ():
            reads.setdefault(it.source, []).append(
                (it.order_id.partition(":")[2], it.asked, it.failures)
            )
        until = self._clock() + REQUEST_VALID_S
        for source, name in choose_requests(
            [(it[0], it) for it in due], reads, self._reader.busy, self._read_last
        ):
            polled, kind = self._active[source].polled, self._vendors[source].kind
            if name is None:
                self._read_last.add(source)
                self._reader.ask(PollRequest(kind, polled, reads=reads[source], until=until))
            else:
                self._read_last.discard(source)
                poll = due[name]
                self._reader.ask(
                    PollRequest(
                        kind, polled, poll.what, cursor=poll.cursor, tags=poll.tags, until=until
                    )
                )

    @property
    def _denied(self) -> set[str]:
        """Sources whose credentials were refused when an order was to be read, not long ago."""
        return {slug for slug, until in self._denied_until.items() if until > self._clock()}

    def _tell(self, store: PollStore) -> None:
        told = store.tell_polls(self._names) if self._names else []
        resting = (
            Counter({it.source: it.resting for it in told})
            + Counter(self._refused)
            + Counter(self._denied)
        )
        POLLS_SUSPENDED.set_all(
            {(slug,): resting[slug] for slug in {*self._active, *self._refused}}
        )
        POLL_WARNINGS.set_all({(it.source,): it.warnings for it in told})
        POLL_AGE.set_all({(it.source,): it.age_s for it in told})
        waiting = store.count_reads([*self._active, *self._refused])
        READS_WAITING.set_all({(slug,): count for slug, count in waiting.items()})


def is_source_available(answer: PollResult) -> bool:
    """The source is there, whatever it said; and its last word was not that it wants to be left
    alone.
    """
    said = [it.came for it in answer.readings]
    if not said:
        return isinstance(answer.page, PollPage)
    last = said[-1]
    is_left = isinstance(last, PollFailure) and last.trouble in {
        PollProblem.AWAY,
        PollProblem.SLOWED,
    }
    return any(isinstance(came, FoundObject) for came in said) and not is_left


def add_drift_notice(store: PollStore, told: DriftNotice, key: str) -> None:
    Inbox(store.session).add_notices(
        {told._replace(what=storable(told.what, DRIFT_CHARS_MAX)): (1, storable(key))}
    )


def clear_gauges() -> None:
    for gauge in GAUGES:
        gauge.set_all({})
