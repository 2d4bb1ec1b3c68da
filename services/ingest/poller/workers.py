"""Polls vendors beside the lanes: a few threads, one request at a time per source, results kept
until a tick takes them.

Only a tick submits requests, and a request is valid for a few seconds: a process that lost the
timer lane stops polling by itself.
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

from services.clients.http import (
    BoundedHttpClient,
    MalformedResponseError,
    NotModifiedError,
    PartlyNotModifiedError,
    ResponseTooLargeError,
)
from services.ingest.metrics import POLL_FOUND, POLL_REQUESTS
from services.ingest.rules.polling import PAGE_MAX, PollProblem, page_size, retry_after
from services.ingest.vendors.polls import VENDORS
from services.ingest.vendors.shared.poll import FoundObject, OrderMissingError, PollConfig, PollPage
from services.runtime.observability import logs

THREADS = 4
REQUEST_VALID_S = 5.0
ORPHANED_AFTER_S = 60.0
TEXT_CHARS_MAX = 300
MISSING_STATUSES = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class PollRequest(NamedTuple):
    """A request that a tick found due."""

    kind: str
    config: PollConfig
    object_kind: str = ""  # of its poll; empty: it fetches these
    # orders to fetch: external id, number of requests, number of failures
    order_fetches: Sequence[tuple[str, int, int]] = ()
    cursor: str = ""
    tags: Mapping[str, str] = {}
    until: float = 0.0  # monotonic; after it another process may poll the source


class PollFailure(NamedTuple):
    """Why there is no result. The text quotes nothing that a vendor wrote."""

    problem: PollProblem
    text: str
    retry_after_s: float | None = None


class OrderFetch(NamedTuple):
    """The outcome of fetching one order."""

    order: str
    requests: int
    failures: int
    outcome: FoundObject | PollFailure


@dataclass(frozen=True)
class PollResult:
    """The outcome of a request."""

    request: PollRequest
    page: PollPage | PollFailure | None = None  # None: it fetched orders, or was no longer valid
    order_fetches: Sequence[OrderFetch] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid4)


class PollWorkers:
    """The threads. `submit` and `results` are for the lane's thread and never wait. The threads end
    with the process.
    """

    def __init__(
        self,
        *,
        client: Callable[[], BoundedHttpClient] = BoundedHttpClient,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        threads: int = THREADS,
        on_orphaned: Callable[[], None] = lambda: None,
    ) -> None:
        """Call `on_orphaned` when no tick came for a while, because another process owns the timer
        lane now.
        """
        self._client, self._clock, self._wall, self._threads = client, clock, wall, threads
        self._requests: queue.SimpleQueue[PollRequest] = queue.SimpleQueue()
        self._results = dict[str, PollResult]()  # one per source
        self._busy = set[str]()  # a source from submission until its result is released
        self._clients = dict[str, BoundedHttpClient]()
        self._sizes = dict[str, int]()  # page sizes by source, forgotten at a restart
        self._lock = threading.Lock()
        self._is_running, self._ticked_at = False, float("-inf")
        self._on_orphaned = on_orphaned
        self._log = logs.get("polls")

    @property
    def busy(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._busy)

    @property
    def results(self) -> list[PollResult]:
        """Results that are not yet released."""
        with self._lock:
            return [self._results[slug] for slug in sorted(self._results)]

    def release(self, result: PollResult) -> None:
        with self._lock:
            self._results.pop(result.request.config.slug, None)
            self._busy.discard(result.request.config.slug)

    def keep_alive(self) -> None:
        """Start the threads if needed. Called by each tick."""
        self._ticked_at = self._clock()
        if not self._is_running:
            self._is_running = True
            for number in range(self._threads):
                threading.Thread(target=self._work, name=f"polls-{number}", daemon=True).start()

    def submit(self, request: PollRequest) -> None:
        """Submit a request. Its source must not be busy."""
        with self._lock:
            self._busy.add(request.config.slug)
        self._requests.put(request)

    def _work(self) -> None:
        while True:
            try:
                request = self._requests.get(timeout=REQUEST_VALID_S)
            except queue.Empty:
                if self._clock() - self._ticked_at > ORPHANED_AFTER_S:
                    self._on_orphaned()
                continue
            try:
                result = self._result_of(request)
            except Exception as error:  # noqa: BLE001 - a defect of one poll must not end the thread
                self._log.exception(
                    "unhandled error in poll",
                    source=request.config.slug,
                    object_kind=request.object_kind,
                )
                result = PollResult(
                    request,
                    PollFailure(PollProblem.MALFORMED, f"unhandled error: {type(error).__name__}"),
                )
            with self._lock:
                self._results[request.config.slug] = result

    def _result_of(self, request: PollRequest) -> PollResult:
        if self._clock() > request.until:
            return PollResult(request)
        slug = request.config.slug
        if slug not in self._clients:
            self._clients[slug] = self._client()
        client = self._clients[slug]
        if request.order_fetches:
            return PollResult(request, order_fetches=self._request_orders(client, request))
        page = self._request_page(client, request, request.tags)
        return PollResult(
            request,
            page,
            tags=client.tags
            if isinstance(page, PollPage) and is_same_request_next(request, page)
            else {},
        )

    def _request_page(
        self, client: BoundedHttpClient, request: PollRequest, tags: Mapping[str, str]
    ) -> PollPage | PollFailure:
        client.begin_page(tags)
        slug = request.config.slug
        size = self._sizes.get(slug, PAGE_MAX)
        try:
            config = request.config._replace(page=size)
            page = (
                VENDORS[request.kind]
                .polls[request.object_kind]
                .read(client, config, request.cursor, self._wall())
            )
        except NotModifiedError:
            client.tags = dict(tags)
            page = PollPage((), request.cursor, is_last=True, is_unchanged=True)
        except PartlyNotModifiedError:
            return self._request_page(client, request, {})
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError) as error:
            if isinstance(error, (ResponseTooLargeError, httpx.ReadTimeout)):
                self._sizes[slug] = page_size(size, is_too_much=True)
            return self._failure(request, error)
        self._sizes[slug] = page_size(size, is_too_much=False)
        POLL_REQUESTS.add(1, source=slug, outcome="ok")
        POLL_FOUND.add(len(page.objects), source=slug)
        return page

    def _request_orders(self, client: BoundedHttpClient, request: PollRequest) -> list[OrderFetch]:
        """Fetch the orders one by one, as long as the source answers."""
        fetch, order_fetches = VENDORS[request.kind].fetch_order, list[OrderFetch]()
        for order, requests, failures in request.order_fetches if fetch else ():
            client.begin_page({})
            try:
                outcome: FoundObject | PollFailure = (
                    fetch(client, request.config, order)
                    if fetch
                    else PollFailure(PollProblem.MISSING, "")
                )
                POLL_REQUESTS.add(1, source=request.config.slug, outcome="ok")
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError) as error:
                outcome = self._failure(request, error)
            order_fetches.append(OrderFetch(order, requests, failures, outcome))
            if isinstance(outcome, PollFailure) and outcome.problem not in {
                PollProblem.MISSING,
                PollProblem.MALFORMED,
            }:
                break
        return order_fetches

    def _failure(self, request: PollRequest, error: Exception) -> PollFailure:
        failure = failure_of(error, self._wall())
        POLL_REQUESTS.add(1, source=request.config.slug, outcome=failure.problem.value)
        log = self._log.error if failure.problem is PollProblem.DENIED else self._log.warning
        log(
            "poll failed",
            source=request.config.slug,
            object_kind=request.object_kind or "order fetches",
            why=failure.text,
        )
        return failure


def is_same_request_next(request: PollRequest, page: PollPage) -> bool:
    """Return whether the next request will be the same, so that its ETags are worth keeping."""
    return page.is_last and page.cursor == request.cursor


def failure_of(error: Exception, now: float) -> PollFailure:
    """Return the failure for an error. httpx's own texts are not used: they contain addresses with
    their parameters.
    """
    match error:
        case httpx.HTTPStatusError():
            return failure_of_status(
                error.response.status_code,
                retry_after(error.response.headers.get("retry-after", ""), now),
            )
        case httpx.TransportError():
            return PollFailure(PollProblem.UNAVAILABLE, type(error).__name__)
        case OrderMissingError():
            return PollFailure(PollProblem.MISSING, "it has no such order")
        case MalformedResponseError():
            return PollFailure(PollProblem.MALFORMED, str(error)[:TEXT_CHARS_MAX])
        case _:
            return PollFailure(PollProblem.MALFORMED, type(error).__name__)


def failure_of_status(status: int, wait_s: float | None) -> PollFailure:
    text = f"response {status}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return PollFailure(
            PollProblem.DENIED, f"{text}: the credentials are refused, or may not read this"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS or (
        wait_s is not None and status == HTTPStatus.SERVICE_UNAVAILABLE
    ):
        return PollFailure(PollProblem.RATE_LIMITED, text, wait_s)
    if status in MISSING_STATUSES:
        return PollFailure(PollProblem.MISSING, text)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return PollFailure(PollProblem.UNAVAILABLE, text, wait_s)
    return PollFailure(PollProblem.MALFORMED, text)
