"""What every poll receives and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import httpx

from services.ingest.rules.polling import PAGE_MAX

FIRST_DAYS = 2.0
DAY_S = 86_400.0


class PollConfig(NamedTuple):
    """A polled source, as its section of the sources file has it. Its repr holds no secret."""

    slug: str
    url: str  # of the vendor's API, without a slash at its end
    key: str = ""  # the API's user, token or consumer key
    secret: str = ""
    orders_of: str = ""
    options: Mapping[str, str] = {}  # of the source's section
    every_s: float | None = None  # instead of each poll's own interval
    first_days: float = FIRST_DAYS  # how far back the first poll goes
    page: int = PAGE_MAX  # page size; some vendors accept no other

    def __repr__(self) -> str:
        return f"PollConfig({self.slug!r}, {self.url!r})"


class FoundObject(NamedTuple):
    """An object that a poll found: it becomes a callback, as if the vendor had sent it."""

    external_id: str | None  # the order's, which chooses the partition
    type: str  # ce_type
    body: bytes
    callback_type: str = ""


class PollPage(NamedTuple):
    """One page. Its cursor is saved in the transaction that publishes what the page found."""

    objects: Sequence[FoundObject]
    cursor: str  # JSON; where the next request begins
    is_last: bool  # nothing more for now
    warning: str = ""  # a disabled webhook, for example; reported, and blocks nothing
    is_unchanged: bool = False  # nothing changed: the last page's warning still applies


class OrderMissingError(LookupError):
    """Raised by `fetch_order` if the vendor has no such order; a 404 or 410 may be raised as it is,
    too.
    """


@dataclass(frozen=True, slots=True)
class Poll:
    """One thing that can be polled of a kind of source."""

    kind: str
    object_kind: str  # "orders", "events", "webhook": one word, part of its cursor's name
    every_s: float
    read: Callable[[httpx.Client, PollConfig, str, float], PollPage]
    """Read one page from a cursor ("" at first) at a time (seconds since 1970), in one to three
    requests. Raises httpx.HTTPError (HTTPStatusError by `raise_for_status`), or ValueError when the
    response is malformed.
    """
