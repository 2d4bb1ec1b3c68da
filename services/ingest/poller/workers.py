"""Asks vendors, beside the lanes: a few threads, one request at a time for each source, answers
kept until a tick takes them.

Only a tick says what to ask, and its word is good for a few seconds: a process that lost the timer
stops asking by itself.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID, uuid4

import httpx

from services.clients.http import BoundedHttpClient, NotModifiedError, PartlyNotModifiedError
from services.ingest.metrics import POLL_FOUND, POLL_REQUESTS
from services.ingest.rules.polling import PAGE_MAX, PollProblem, page_size, retry_after
from services.ingest.vendors.polls import VENDORS
from services.ingest.vendors.shared.poll import (
    FoundObject,
    MalformedResponseError,
    OrderMissingError,
    PollConfig,
    PollPage,
    ResponseTooLargeError,
)
from services.runtime.observability import logs

THREADS = 4
REQUEST_VALID_S = 5.0
ORPHANED_AFTER_S = 60.0
TEXT_CHARS_MAX = 300
MISSING_STATUSES = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class PollRequest(NamedTuple):
    """What a tick found due."""

    kind: str
    polled: PollConfig
    what: str = ""  # which poll, or
    reads: Sequence[
        tuple[str, int, int]
    ] = ()  # orders to read: external id, how often asked for, how often failed
    cursor: str = ""
    tags: Mapping[str, str] = {}
    until: float = 0.0  # monotonic: later it may be somebody else's to ask


class PollFailure(NamedTuple):
    """No answer, and why: never with anything that a vendor wrote."""

    trouble: PollProblem
    text: str
    retry_after_s: float | None = None


class OrderRead(NamedTuple):
    """What came of an order that was to be read."""

    order: str
    asked: int
    failures: int
    came: FoundObject | PollFailure


@dataclass(frozen=True)
class PollResult:
    """What became of asking."""

    ask: PollRequest
    page: PollPage | PollFailure | None = (
        None  # None: it asked for orders, or nothing was asked any more
    )
    readings: Sequence[OrderRead] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid4)


class PollWorkers:
    """`ask` and `answers` are for the lane's thread, and never wait. The threads end with the
    process.
    """

    def __init__(
        self,
        *,
        client: Callable[[], BoundedHttpClient] = BoundedHttpClient,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        threads: int = THREADS,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        """`forget` is called when no tick came for a while: the timer is another process's now."""
        self._client, self._clock, self._wall, self._threads = client, clock, wall, threads
        self._asks: queue.SimpleQueue[PollRequest] = queue.SimpleQueue()
        self._answers = dict[str, PollResult]()  # one slot for each source
        self._busy = set[str]()  # a source from its asking until its answer is done with
        self._clients = dict[str, BoundedHttpClient]()
        self._sizes = dict[str, int]()  # of pages, by source: forgotten at a start
        self._lock = threading.Lock()
        self._is_running, self._told_at = False, float("-inf")
        self._forget = forget
        self._log = logs.get("polls")

    @property
    def busy(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._busy)

    @property
    def answers(self) -> list[PollResult]:
        """They stay until they are `done` with."""
        with self._lock:
            return [self._answers[slug] for slug in sorted(self._answers)]

    def done(self, answer: PollResult) -> None:
        with self._lock:
            self._answers.pop(answer.ask.polled.slug, None)
            self._busy.discard(answer.ask.polled.slug)

    def begin(self) -> None:
        """Each tick."""
        self._told_at = self._clock()
        if not self._is_running:
            self._is_running = True
            for number in range(self._threads):
                threading.Thread(target=self._work, name=f"polls-{number}", daemon=True).start()

    def ask(self, ask: PollRequest) -> None:
        """Only of a source that is not busy."""
        with self._lock:
            self._busy.add(ask.polled.slug)
        self._asks.put(ask)

    def _work(self) -> None:
        while True:
            try:
                ask = self._asks.get(timeout=REQUEST_VALID_S)
            except queue.Empty:
                if self._clock() - self._told_at > ORPHANED_AFTER_S:
                    self._forget()
                continue
            try:
                answer = self._answered(ask)
            except Exception as error:  # noqa: BLE001 - a defect of one poll must not end the thread
                self._log.exception("a poll met a defect", source=ask.polled.slug, what=ask.what)
                answer = PollResult(
                    ask, PollFailure(PollProblem.NONSENSE, f"a defect: {type(error).__name__}")
                )
            with self._lock:
                self._answers[ask.polled.slug] = answer

    def _answered(self, ask: PollRequest) -> PollResult:
        if self._clock() > ask.until:
            return PollResult(ask)
        slug = ask.polled.slug
        if slug not in self._clients:
            self._clients[slug] = self._client()
        client = self._clients[slug]
        if ask.reads:
            return PollResult(ask, readings=self._orders(client, ask))
        page = self._page(client, ask, ask.tags)
        return PollResult(
            ask,
            page,
            tags=client.tags
            if isinstance(page, PollPage) and is_same_request_next(ask, page)
            else {},
        )

    def _page(
        self, client: BoundedHttpClient, ask: PollRequest, tags: Mapping[str, str]
    ) -> PollPage | PollFailure:
        client.begin(tags)
        slug = ask.polled.slug
        size = self._sizes.get(slug, PAGE_MAX)
        try:
            polled = ask.polled._replace(page=size)
            page = VENDORS[ask.kind].polls[ask.what].read(client, polled, ask.cursor, self._wall())
        except NotModifiedError:
            client.tags = dict(tags)
            page = PollPage((), ask.cursor, is_last=True, is_unchanged=True)
        except PartlyNotModifiedError:
            return self._page(client, ask, {})
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError) as error:
            if isinstance(error, (ResponseTooLargeError, httpx.ReadTimeout)):
                self._sizes[slug] = page_size(size, is_too_much=True)
            return self._failed(ask, error)
        self._sizes[slug] = page_size(size, is_too_much=False)
        POLL_REQUESTS.add(1, source=slug, outcome="answered")
        POLL_FOUND.add(len(page.found), source=slug)
        return page

    def _orders(self, client: BoundedHttpClient, ask: PollRequest) -> list[OrderRead]:
        """One after the other, as long as the source answers."""
        read, came = VENDORS[ask.kind].read_order, list[OrderRead]()
        for order, asked, failures in ask.reads if read else ():
            client.begin({})
            try:
                found: FoundObject | PollFailure = (
                    read(client, ask.polled, order)
                    if read
                    else PollFailure(PollProblem.MISSING, "")
                )
                POLL_REQUESTS.add(1, source=ask.polled.slug, outcome="answered")
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError) as error:
                found = self._failed(ask, error)
            came.append(OrderRead(order, asked, failures, found))
            if isinstance(found, PollFailure) and found.trouble not in {
                PollProblem.MISSING,
                PollProblem.NONSENSE,
            }:
                break
        return came

    def _failed(self, ask: PollRequest, error: Exception) -> PollFailure:
        failure = failure_of(error, self._wall())
        POLL_REQUESTS.add(1, source=ask.polled.slug, outcome=failure.trouble.value)
        say = self._log.error if failure.trouble is PollProblem.DENIED else self._log.warning
        say(
            "a poll has no answer",
            source=ask.polled.slug,
            what=ask.what or "reads",
            why=failure.text,
        )
        return failure


def is_same_request_next(ask: PollRequest, page: PollPage) -> bool:
    """The next asking will be the same request, so its tags are worth keeping."""
    return page.is_last and page.cursor == ask.cursor


def failure_of(error: Exception, now: float) -> PollFailure:
    """Httpx's own texts name addresses, with what stands in them."""
    match error:
        case httpx.HTTPStatusError():
            return failure_of_status(
                error.response.status_code,
                retry_after(error.response.headers.get("retry-after", ""), now),
            )
        case httpx.TransportError():
            return PollFailure(PollProblem.AWAY, type(error).__name__)
        case OrderMissingError():
            return PollFailure(PollProblem.MISSING, "it has no such order")
        case MalformedResponseError():
            return PollFailure(PollProblem.NONSENSE, str(error)[:TEXT_CHARS_MAX])
        case _:
            return PollFailure(PollProblem.NONSENSE, type(error).__name__)


def failure_of_status(status: int, wait_s: float | None) -> PollFailure:
    text = f"it answers {status}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return PollFailure(
            PollProblem.DENIED, f"{text}: the credentials are not taken, or may not read this"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS or (
        wait_s is not None and status == HTTPStatus.SERVICE_UNAVAILABLE
    ):
        return PollFailure(PollProblem.SLOWED, text, wait_s)
    if status in MISSING_STATUSES:
        return PollFailure(PollProblem.MISSING, text)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return PollFailure(PollProblem.AWAY, text, wait_s)
    return PollFailure(PollProblem.NONSENSE, text)
