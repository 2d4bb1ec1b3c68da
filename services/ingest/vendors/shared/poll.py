"""What every poll is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import httpx

from services.ingest.rules.polling import PAGE_MAX

FIRST_DAYS = 2.0
DAY_S = 86_400.0


class PollConfig(NamedTuple):
    """A source that is asked, as its settings block says. What is printed of it holds no secret."""

    slug: str
    url: str  # of the vendor's API, without a slash at its end
    key: str = ""  # its user, token or consumer key
    secret: str = ""
    orders_of: str = ""
    options: Mapping[str, str] = {}  # of the source's block
    every_s: float | None = None  # instead of each poll's own interval
    first_days: float = FIRST_DAYS  # how far back the first asking goes
    page: int = (
        PAGE_MAX  # how many of a list are asked for at once; some vendors take no other number
    )

    def __repr__(self) -> str:
        return f"Polled({self.slug!r}, {self.url!r})"


class FoundObject(NamedTuple):
    """Something that the vendor answered: it becomes a callback, as if the vendor had called."""

    external_id: str | None  # the order's, for the partition
    type: str  # ce_type
    body: bytes
    topic: str = ""


class PollPage(NamedTuple):
    """One answer. Its cursor is kept in the same commit in which what it found is published."""

    found: Sequence[FoundObject]
    cursor: str  # JSON; from where the next asking begins
    is_last: bool  # nothing more for now
    warning: str = ""  # a disabled webhook, for example: said loudly, blocks nothing
    is_unchanged: bool = False  # nothing is new: the warning of the last one holds


class OrderMissingError(LookupError):
    """Raised by `read_order`: the vendor has no such order (404 or 410 may be raised as they are,
    too).
    """


@dataclass(frozen=True, slots=True)
class Poll:
    """One thing that can be asked of a kind of source."""

    kind: str
    what: str  # "orders", "events", "webhook": one word, part of its cursor's name
    every_s: float
    read: Callable[[httpx.Client, PollConfig, str, float], PollPage]
    """One page from a cursor ("" at first), at a time (seconds since 1970). One to three requests.
    Raises httpx.HTTPError (HTTPStatusError by `raise_for_status`), or ValueError when the answer
    makes no sense.
    """
