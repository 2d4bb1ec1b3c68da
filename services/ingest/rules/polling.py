"""When a source is polled next, after a response and after a failure. Pure: the caller has the
clock and the randomness.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple, TypeVar

from services.runtime.failures.backoff import ExponentialDelay

DENIED_RETRY_S = 3_600.0  # until refused credentials are tried again
RETRY_AFTER_MAX_S = 3_600.0  # the longest Retry-After that is respected
FAILURES_TO_OPEN = 3  # consecutive failures of a source, whatever was requested
JITTER = 0.1
# The objects of a page: after one that was too large or too slow, smaller ones are requested.
PAGE_MAX, PAGE_MIN, PAGE_GROWTH = 100, 5, 2
ORDER_FETCH_TRIES_MAX = 5  # of an order that its source does not have

FAILURE_DELAY = ExponentialDelay(first_s=10.0, longest_s=900.0)

PollT = TypeVar("PollT")


class PollProblem(Enum):
    """Why there is no response."""

    UNAVAILABLE = "unavailable"  # no connection, a timeout, or an error of the server
    RATE_LIMITED = "rate_limited"  # the vendor asks for a pause
    DENIED = "denied"  # the vendor refuses our credentials
    MALFORMED = "malformed"  # a response that cannot be what was requested
    MISSING = "missing"  # the vendor has no such object


class PollDelay(NamedTuple):
    """How long a poll waits, and how long its whole source does."""

    poll_s: float
    failures: int
    source_s: float
    source_failures: int
    is_suspended: bool  # until its credentials are repaired


def interval(every_s: float, *, is_last: bool, jitter: float) -> float:
    """Return the wait until the next page. `jitter` is from 0 to 1. While pages remain, the next is
    requested at once, limited only by the source's request rate.
    """
    return every_s * (1 + JITTER * (2 * jitter - 1)) if is_last else 0.0


def after_failure(
    problem: PollProblem,
    failures: int,
    source_failures: int,
    *,
    retry_after_s: float | None = None,
    jitter: float = 0.0,
) -> PollDelay:
    """Return the waits after a failure. A source that keeps failing opens its circuit breaker,
    whatever else is due; then one request tries it.
    """
    failures += 1
    waits_s = FAILURE_DELAY.delay_s(failures, jitter)
    match problem:
        case PollProblem.UNAVAILABLE:
            source_failures += 1
            is_open = source_failures >= FAILURES_TO_OPEN
            open_s = FAILURE_DELAY.delay_s(source_failures, jitter) if is_open else 0.0
            return PollDelay(
                waits_s,
                failures,
                max(open_s, retry_after_s or 0.0),
                source_failures,
                is_suspended=False,
            )
        case PollProblem.RATE_LIMITED:
            wanted_s = retry_after_s or waits_s  # zero, or a time that has passed: clocks differ
            return PollDelay(wanted_s, failures, wanted_s, source_failures + 1, is_suspended=False)
        case PollProblem.DENIED:
            return PollDelay(DENIED_RETRY_S, failures, 0.0, source_failures, is_suspended=True)
        case PollProblem.MALFORMED | PollProblem.MISSING:
            return PollDelay(waits_s, failures, 0.0, source_failures, is_suspended=False)


def page_size(size: int, *, is_too_much: bool) -> int:
    """Return the next page size: half after one that was too large or too slow, else a
    little more.
    """
    return max(PAGE_MIN, size // 2) if is_too_much else min(PAGE_MAX, size + PAGE_GROWTH)


def retry_after(text: str, now: float) -> float | None:
    """Return the wait that a Retry-After header asks for, in seconds or as an HTTP date; None if it
    is malformed. `now` is in seconds since 1970.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(RETRY_AFTER_MAX_S, float(text[:9]))
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    until = (date.replace(tzinfo=UTC) if date.tzinfo is None else date).timestamp()
    return min(RETRY_AFTER_MAX_S, max(0.0, until - now))


def choose_requests(
    polls: Iterable[tuple[str, PollT]],
    order_fetches: Collection[str],
    busy: Collection[str],
    fetched_last: Collection[str],
) -> list[tuple[str, PollT | None]]:
    """Choose one request per source: the poll that is due for longest, or (None) its order
    fetches. If both are due they alternate.
    """
    first_poll = dict[str, PollT]()
    for source, poll in polls:
        first_poll.setdefault(source, poll)
    chosen = list[tuple[str, PollT | None]]()
    for source in sorted({*first_poll, *order_fetches}.difference(busy)):
        fetches_orders = source in order_fetches and (
            source not in first_poll or source not in fetched_last
        )
        chosen.append((source, None if fetches_orders else first_poll[source]))
    return chosen
