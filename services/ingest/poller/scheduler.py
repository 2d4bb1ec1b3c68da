"""The tick of ingest: publishes the results of polls as callbacks and submits the requests that are
due.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from schemas.topics import MIB
from services.ingest import callback_records
from services.ingest.config.sources_file import SourceConfig
from services.ingest.metrics import ORDER_FETCHES_WAITING, POLL_AGE, POLL_WARNINGS, POLLS_SUSPENDED
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
    ORDER_FETCH_TRIES_MAX,
    PollDelay,
    PollProblem,
    after_failure,
    choose_requests,
    interval,
)
from services.ingest.settings import ROOM_BYTES
from services.ingest.store import DRIFT_CHARS_MAX, IngestStore
from services.ingest.vendors.polls import VENDORS
from services.ingest.vendors.shared.poll import FoundObject, PollConfig, PollPage
from services.runtime.observability import logs
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Event
from services.runtime.text import storable

TICK_BYTES_MAX = 2 * MIB  # of bodies in one tick; a page may take several ticks
ORDER_FETCHES_PER_REQUEST_MAX = 10  # of one source
REPORT_S = 10.0
GAUGES = (POLL_WARNINGS, POLLS_SUSPENDED, POLL_AGE, ORDER_FETCHES_WAITING)


class ActivePoll(NamedTuple):
    """A source that is polled."""

    config: SourceConfig
    poll: PollConfig


class PollScheduler:
    """One per process. It holds only requests under way; cursors and waits are in the database.

    Crash: a page's callbacks and its cursor commit together or not at all; then the page is
    requested again.
    """

    def __init__(
        self,
        configs: Mapping[str, SourceConfig],
        workers: PollWorkers | None = None,
        *,
        rng: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = logs.get("polls")
        self._active = {
            slug: ActivePoll(config, config.poll)
            for slug, config in sorted(configs.items())
            if config.poll is not None
        }
        self._refused = [
            slug for slug, config in configs.items() if config.poll_refusal is not None
        ]
        for slug in self._refused:
            self._log.error("source not polled", source=slug, why=configs[slug].poll_refusal)
        self._vendors = {
            slug: VENDORS[active.config.source.kind] for slug, active in self._active.items()
        }
        self._poll_names: list[PollName] = [
            (slug, object_kind)
            for slug, vendor in self._vendors.items()
            for object_kind in vendor.polls
        ]
        self._order_sources = [
            slug for slug, vendor in self._vendors.items() if vendor.fetch_order is not None
        ]
        self._workers = workers or PollWorkers(on_orphaned=clear_gauges)
        self._rng, self._clock = rng, clock
        self._fetched_last = set[str]()
        self._denied_until = dict[str, float]()  # for order fetches; a restart tries again
        self._report_at: float | None = None

    def tick(self, _now: datetime, session: Session) -> list[Event]:
        """Run two statements when nothing is due, and a few for each result. Never waits for a
        vendor.
        """
        store = PollStore(session)
        self._workers.keep_alive()
        is_report_due = self._report_at is None or self._clock() >= self._report_at
        if is_report_due:
            store.add_sources(list(self._active))
            store.add_polls(self._poll_names)
        if self._report_at is None:
            store.wake_polls(list(self._active))
        events = self._take_results(store)
        self._request_due(store)
        if is_report_due:
            self._report(store)
            self._report_at = self._clock() + REPORT_S
        return events

    def _take_results(self, store: PollStore) -> list[Event]:
        """Return the records of finished results. If the transaction rolls back, a released result
        is lost: its poll is still due and is requested again.
        """
        records, room = list[Event](), TICK_BYTES_MAX
        results = self._workers.results
        failures = store.find_failures(list(self._active)) if results else {}
        for result in results:
            if room <= 0:
                break
            try:
                published, room, is_done = self._take_result(
                    store, result, failures.get(result.request.config.slug, 0), room
                )
            except Exception:
                # If it were kept, every tick would fail, and with it the polls of all sources.
                self._workers.release(result)
                raise
            records += published
            if is_done:
                self._workers.release(result)
        return records

    def _take_result(
        self, store: PollStore, result: PollResult, failed: int, room: int
    ) -> tuple[list[Event], int, bool]:
        """Return a result's records, the bytes that are left for this tick, and whether the result
        is finished. `failed` counts its source's consecutive failures.
        """
        published, is_done = list[Event](), True
        if isinstance(result.page, PollPage):
            published, room, is_done = self._publish_page(store, result, result.page, room)
        elif isinstance(result.page, PollFailure):
            self._fail(store, result, result.page, failed)
        elif result.order_fetches:
            published = self._take_order_fetches(store, result, failed)
        if failed and is_source_available(result):
            store.save_source(result.request.config.slug, 0, 0.0)
        return published, room, is_done

    def _publish_page(
        self, store: PollStore, result: PollResult, page: PollPage, room: int
    ) -> tuple[list[Event], int, bool]:
        """Publish as much of a page as there is room for. The cursor moves with the last part."""
        request, name = result.request, (result.request.config.slug, result.request.object_kind)
        stored = store.lock_poll(name)
        if stored is None or stored.cursor != request.cursor:  # another process was faster
            return [], room, True
        published, events = stored.published if stored.result_id == result.id else 0, list[Event]()
        while published < len(page.objects) and room > 0:
            events += self._records(store, request, page.objects[published])
            room -= len(page.objects[published].body)
            published += 1
        if published < len(page.objects):
            store.save_part(name, result.id, published)
            return events, room, False
        every_s = request.config.every_s or VENDORS[request.kind].polls[request.object_kind].every_s
        wait_s = interval(every_s, is_last=page.is_last, jitter=self._rng())
        if page.is_unchanged:
            page = page._replace(warning=stored.warning)
        store.save_page(name, page, result.tags, wait_s)
        if page.warning:
            self._log.error(
                "poll warning", source=name[0], object_kind=name[1], warning=page.warning
            )
            kind = "webhook-disabled" if name[1] == "webhook" else "poll-warning"
            add_drift_notice(
                store, DriftNotice(name[0], kind, page.warning), f"{name[0]} {name[1]}"
            )
        return events, room, True

    def _records(
        self, store: PollStore, request: PollRequest, found_object: FoundObject
    ) -> list[Event]:
        """Return the records of an object. One that no record can hold becomes a drift notice;
        otherwise it would stop the lane for good.
        """
        slug, config = request.config.slug, self._active[request.config.slug].config
        found_object = found_object._replace(body=config.source.without_cards(found_object.body))
        if len(found_object.body) > MIB - ROOM_BYTES:
            key = f"{slug}:{found_object.external_id or '?'}"
            add_drift_notice(
                store,
                DriftNotice(
                    slug, "poll-too-large", f"more than {MIB - ROOM_BYTES} bytes", found_object.body
                ),
                key,
            )
            return []
        return list(callback_records.poll_records(config, found_object))

    def _fail(
        self, store: PollStore, result: PollResult, failure: PollFailure, source_failures: int
    ) -> None:
        name = (result.request.config.slug, result.request.object_kind)
        stored = store.lock_poll(name)
        if stored is None or stored.cursor != result.request.cursor:
            return
        delay = self._delay_after(failure, stored.failures, source_failures)
        store.save_failure(name, delay, failure.text)
        self._back_off_source(store, name[0], delay, source_failures)

    def _take_order_fetches(
        self, store: PollStore, result: PollResult, source_failures: int
    ) -> list[Event]:
        source, events = result.request.config.slug, list[Event]()
        answered, postponed = dict[str, int](), dict[str, PollDelay]()
        for order, requests, failures, outcome in result.order_fetches:
            order_id = f"{source}:{order}"
            if isinstance(outcome, FoundObject):
                events += self._records(store, result.request, outcome)
                answered[order_id], source_failures = requests, 0
                continue
            delay = self._delay_after(outcome, failures, source_failures)
            if outcome.problem is PollProblem.DENIED:  # all other fetches would be denied too
                self._denied_until[source] = self._clock() + delay.poll_s
            if outcome.problem is PollProblem.MISSING and delay.failures >= ORDER_FETCH_TRIES_MAX:
                answered[order_id] = requests
                drift_notice = DriftNotice(
                    source, "order-missing", "an order that it named is missing", order.encode()
                )
                add_drift_notice(store, drift_notice, order_id)
                continue
            postponed[order_id] = delay
            self._back_off_source(store, source, delay, source_failures)
        if answered:
            store.complete_order_fetches(answered)
        if postponed:
            store.postpone_order_fetches(postponed)
        return events

    def _delay_after(self, failure: PollFailure, failures: int, source_failures: int) -> PollDelay:
        jitter = self._rng()
        return after_failure(
            failure.problem,
            failures,
            source_failures,
            retry_after_s=failure.retry_after_s,
            jitter=jitter,
        )

    def _back_off_source(
        self, store: PollStore, source: str, delay: PollDelay, failures: int
    ) -> None:
        if delay.source_failures != failures or delay.source_s:
            store.save_source(source, delay.source_failures, delay.source_s)
        if delay.source_s:
            self._log.warning(
                "circuit breaker opened",
                source=source,
                seconds=round(delay.source_s),
                failures=failures + 1,
            )

    def _request_due(self, store: PollStore) -> None:
        due_polls = (
            {
                (due_poll.source, due_poll.object_kind): due_poll
                for due_poll in store.find_due(self._poll_names)
            }
            if self._poll_names
            else {}
        )
        order_fetches = self._due_order_fetches(store)
        until = self._clock() + REQUEST_VALID_S
        for source, name in choose_requests(
            [(due_poll[0], due_poll) for due_poll in due_polls],
            order_fetches,
            self._workers.busy,
            self._fetched_last,
        ):
            config, kind = self._active[source].poll, self._vendors[source].kind
            if name is None:
                self._fetched_last.add(source)
                self._workers.submit(
                    PollRequest(kind, config, order_fetches=order_fetches[source], until=until)
                )
            else:
                self._fetched_last.discard(source)
                poll = due_polls[name]
                self._workers.submit(
                    PollRequest(
                        kind,
                        config,
                        poll.object_kind,
                        cursor=poll.cursor,
                        tags=poll.tags,
                        until=until,
                    )
                )

    def _due_order_fetches(self, store: PollStore) -> dict[str, list[tuple[str, int, int]]]:
        """Return the orders to fetch by source, as `PollRequest` takes them."""
        order_sources = [slug for slug in self._order_sources if slug not in self._denied]
        if not order_sources:
            return {}
        order_fetches = defaultdict[str, list[tuple[str, int, int]]](list)
        for due in store.find_due_order_fetches(order_sources, ORDER_FETCHES_PER_REQUEST_MAX):
            order_fetches[due.source].append(
                (due.order_id.partition(":")[2], due.requests, due.failures)
            )
        return order_fetches

    @property
    def _denied(self) -> set[str]:
        """Sources whose credentials were refused recently when an order was fetched."""
        return {slug for slug, until in self._denied_until.items() if until > self._clock()}

    def _report(self, store: PollStore) -> None:
        states = store.poll_states(self._poll_names) if self._poll_names else []
        suspended = (
            Counter({state.source: state.suspended for state in states})
            + Counter(self._refused)
            + Counter(self._denied)
        )
        POLLS_SUSPENDED.set_all(
            {(slug,): suspended[slug] for slug in {*self._active, *self._refused}}
        )
        POLL_WARNINGS.set_all({(state.source,): state.warnings for state in states})
        POLL_AGE.set_all({(state.source,): state.age_s for state in states})
        waiting = store.count_order_fetches([*self._active, *self._refused])
        ORDER_FETCHES_WAITING.set_all({(slug,): count for slug, count in waiting.items()})


def is_source_available(result: PollResult) -> bool:
    """Return whether the source answered at all, and did not end by asking for a pause."""
    outcomes = [fetch.outcome for fetch in result.order_fetches]
    if not outcomes:
        return isinstance(result.page, PollPage)
    last = outcomes[-1]
    wants_no_requests = isinstance(last, PollFailure) and last.problem in {
        PollProblem.UNAVAILABLE,
        PollProblem.RATE_LIMITED,
    }
    return any(isinstance(outcome, FoundObject) for outcome in outcomes) and not wants_no_requests


def add_drift_notice(store: PollStore, drift_notice: DriftNotice, key: str) -> None:
    IngestStore(store.session).add_drift_notices(
        {
            drift_notice._replace(cause=storable(drift_notice.cause, DRIFT_CHARS_MAX)): (
                1,
                storable(key),
            )
        }
    )


def clear_gauges() -> None:
    for gauge in GAUGES:
        gauge.set_all({})
