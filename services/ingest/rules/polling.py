"""When a source is asked next, after an answer and after none. Pure: the caller has the clock and
the dice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple, TypeVar

BACKOFF_FIRST_S, BACKOFF_MAX_S = 10.0, 900.0  # of waits that double
DENIED_RETRY_S = 3_600.0  # until credentials that were refused are tried again
RETRY_AFTER_MAX_S = 3_600.0  # longer than that nobody is obeyed
FAILURES_TO_OPEN = 3  # failures of a source in a row, whatever was asked
JITTER = 0.1
PAGE_MAX, PAGE_MIN, PAGE_GROWTH = (
    100,
    5,
    2,
)  # of a list; what was too much at once is asked for in smaller parts
READ_TRIES_MAX = 5  # of an order that its source does not have

PollT = TypeVar("PollT")


class PollProblem(Enum):
    """Why there is no answer."""

    UNAVAILABLE = "unavailable"  # nobody there, too slow, or an error of theirs
    RATE_LIMITED = "rate_limited"  # they ask for patience
    DENIED = "denied"  # they do not take our credentials
    MALFORMED = "malformed"  # an answer that cannot be what was asked for
    MISSING = "missing"  # there is no such thing


class PollDelay(NamedTuple):
    """How long what was asked rests, and how long its whole source does."""

    poll_s: float
    failures: int
    source_s: float
    source_failures: int
    is_suspended: bool  # until somebody repairs something


def interval(every_s: float, *, is_last: bool, jitter: float) -> float:
    """Until the next page. `chance` is of 0 to 1. A walk goes on at once; the source's own pace
    holds it back.
    """
    return every_s * (1 + JITTER * (2 * jitter - 1)) if is_last else 0.0


def backoff(failures: int, jitter: float) -> float:
    """Doubles, up to a ceiling, and no two wait alike."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 20)) * (1 - jitter / 2)


def after_failure(
    problem: PollProblem,
    failures: int,
    source_failures: int,
    *,
    retry_after_s: float | None = None,
    jitter: float = 0.0,
) -> PollDelay:
    """A source that fails again and again is left alone, whatever else would be due; then one
    asking tries it.
    """
    failures += 1
    waits_s = backoff(failures, jitter)
    match problem:
        case PollProblem.UNAVAILABLE:
            source_failures += 1
            is_open = source_failures >= FAILURES_TO_OPEN
            open_s = backoff(source_failures, jitter) if is_open else 0.0
            return PollDelay(
                waits_s,
                failures,
                max(open_s, retry_after_s or 0.0),
                source_failures,
                is_suspended=False,
            )
        case PollProblem.RATE_LIMITED:
            wanted_s = retry_after_s or waits_s  # at once, or a time that has passed: clocks differ
            return PollDelay(wanted_s, failures, wanted_s, source_failures + 1, is_suspended=False)
        case PollProblem.DENIED:
            return PollDelay(DENIED_RETRY_S, failures, 0.0, source_failures, is_suspended=True)
        case PollProblem.MALFORMED | PollProblem.MISSING:
            return PollDelay(waits_s, failures, 0.0, source_failures, is_suspended=False)


def page_size(size: int, *, is_too_much: bool) -> int:
    """Of the next page: half of one that was too large or too slow; after one that came a little
    more.
    """
    return max(PAGE_MIN, size // 2) if is_too_much else min(PAGE_MAX, size + PAGE_GROWTH)


def retry_after(text: str, now: float) -> float | None:
    """Seconds or an HTTP date, as a wait from now (seconds since 1970). None: it says neither."""
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
    reads: Collection[str],
    busy: Collection[str],
    read_last: Collection[str],
) -> list[tuple[str, PollT | None]]:
    """What each source is asked now, one thing at a time: of what is due (longest first) the first,
    or (None) its reads. Where both are due they take turns.
    """
    first_poll = dict[str, PollT]()
    for source, poll in polls:
        first_poll.setdefault(source, poll)
    chosen = list[tuple[str, PollT | None]]()
    for source in sorted({*first_poll, *reads}.difference(busy)):
        takes_read = source in reads and (source not in first_poll or source not in read_last)
        chosen.append((source, None if takes_read else first_poll[source]))
    return chosen
