"""What every source is asked, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from schemas.envelope import NotAnEvent
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules import Callback

EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
AMOUNT_MAX = 10**15  # minor units; beyond it somebody sends numbers, not money


class Received(NamedTuple):
    """A callback as it stands in its record."""

    source: str
    id: str  # of its reception, or of the storefront's own event
    topic: str  # what the vendor calls it; no signature covers it
    time: str  # when the door received it
    key: bytes
    body: bytes

    @property
    def at(self) -> datetime:
        try:
            return bounded(datetime.fromisoformat(self.time))
        except (ValueError, OverflowError):
            raise NotAnEvent("ce_time is missing or no time, and the fact is ordered by it") from None


class Source(Protocol):
    """A vendor's module. `identify` is what its callback and every repeat of it are called, `normalise` what they say."""

    def verify(self, headers: Mapping[bytes, bytes], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Whether the sender knows one of the secrets. In constant time; several are valid while one is being replaced."""
        ...

    def key_of(self, secret: str) -> bytes:
        """The key with which the vendor signs, from the secret as the shop's page shows it."""
        ...

    def is_ping(self, headers: Mapping[bytes, bytes], body: bytes) -> bool:
        """An unsigned greeting that wants an answer and says nothing."""
        ...

    def topic(self, headers: Mapping[bytes, bytes]) -> str:
        """What the vendor calls the callback, where it says so beside the body."""
        ...

    def external_id(self, body: bytes) -> str | None:
        """The order's id where it can be read cheaply: it only chooses the partition, the worker reads for itself."""
        ...

    def normalise(self, received: Received) -> Callback:
        """Its key by `identify`, its order and its facts. Raises ValueError or Poison."""
        ...


def bounded(at: datetime) -> datetime:
    """In UTC. A clock that stands beyond all reason would pin its order for ever."""
    if at.tzinfo is None:
        raise CallbackUnreadable("a time has no offset")
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    if not EARLIEST <= at < LATEST:
        raise CallbackUnreadable(f"a time is out of bounds: {at.isoformat()}")
    return at


def amount(minor: int) -> int:
    if not -AMOUNT_MAX <= minor <= AMOUNT_MAX:
        raise CallbackUnreadable("an amount is out of bounds")
    return minor


def named(identifier: str, what: str) -> str:
    """An id that can stand in keys, logs and addresses: no blanks, nothing invisible."""
    if not identifier.isprintable() or " " in identifier:
        raise CallbackUnreadable(f"{what} has a blank or a character that cannot be printed")
    return identifier


def status(text: str) -> str:
    """`wc-Completed` and `completed` are one status."""
    plain = text.strip().lower().removeprefix("wc-")
    if not plain or not plain.isprintable():
        raise CallbackUnreadable("the status is empty or cannot be printed")
    return plain


def distinct(line_ids: Sequence[str]) -> None:
    if len(set(line_ids)) != len(line_ids):
        raise CallbackUnreadable("two lines have the same id")
