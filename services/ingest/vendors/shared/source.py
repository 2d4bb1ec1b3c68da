"""What every source is asked, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.facts import ParsedCallback
from services.ingest.vendors.shared.money import AMOUNT_MAX

EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"


class WebhookRequest(NamedTuple):
    """A callback as it stands at the door, of a source that the door knows."""

    headers: Mapping[bytes, bytes]  # names in lower case
    body: bytes
    secrets: Sequence[bytes]  # all of them are valid, while one is being replaced
    at: float = 0.0  # the door's clock, in seconds since 1970
    tolerance_s: float = (
        300.0  # how far the sender's clock, where he signs it, may be from the door's
    )
    path_suffix: str = ""  # of the path, behind the source's slug
    options: Mapping[str, str] = {}  # of the source's settings block
    certificates: Mapping[str, bytes] = {}  # PEM by address: what was fetched so far


class CertificateNeededError(Exception):
    """Raised by `verify`: it needs this certificate, whose address it has found good. The door
    fetches it, and asks again.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class ReceivedCallback(NamedTuple):
    """A callback as it stands in its record."""

    source: str
    id: str  # of its reception, or of the storefront's own event
    topic: str  # what the vendor calls it; no signature covers it
    time: str  # when the webhook endpoint received it, by its own clock: nothing is ordered by it
    key: bytes
    body: bytes
    orders_of: str = ""  # the shop of which a gateway or checker speaks, by the sources file
    decimals: int | None = None  # digits of its amounts, where the sources file says so
    # of its record in the log (`facts.position`): what has no clock of its own is ordered by it
    position: str = ""

    @property
    def at(self) -> datetime:
        """When the log took it, by the broker's clock: one for all endpoints."""
        return datetime.fromisoformat(self.position.partition("/")[0])

    @property
    def order_source(self) -> str:
        """Whose orders it tells of: its own, or those of the shop that it serves."""
        return self.orders_of or self.source


def _never(_delivery: WebhookRequest) -> bool:
    return False


def _no_topic(_headers: Mapping[bytes, bytes]) -> str:
    return ""


def _order_unknown(_body: bytes) -> Sequence[str | None]:
    return (None,)


def _no_event_id(_delivery: WebhookRequest) -> str:
    return ""


def _single_piece(body: bytes) -> Sequence[bytes]:
    return (body,)


def _unchanged(body: bytes) -> bytes:
    return body


def _unchanged_options(options: Mapping[str, str], _folder: Path) -> Mapping[str, str]:
    return options


@dataclass(frozen=True, slots=True)
class Source:
    """A vendor, as its module in this package declares it (`SOURCE = Source(...)`): that makes it
    one.

    `verify` and `normalise` are what it must have; `identify`, which every module has too, is what
    its callback and every repeat of it are called.
    """

    kind: str  # its name in the sources file
    type: str  # ce_type of its callbacks: stubline.callback.<kind>.v1
    normalise: Callable[[ReceivedCallback], ParsedCallback]
    """Its key by `identify`, its order and its facts. Raises ValueError or Poison; pure."""

    verify: Callable[[WebhookRequest], bool] = _never
    """Whether the sender knows one of the secrets. In constant time, whichever fits. Pure; may
    raise CertificateNeededError.
    """

    pieces: Callable[[bytes], Sequence[bytes]] = _single_piece
    """A body that tells of several things, taken apart into bodies that tell of one: each becomes a
    record. Never raises.
    """

    orders: Callable[[bytes], Sequence[str | None]] = _order_unknown
    """The order's id, one for each piece, where it can be read cheaply: it only chooses the
    partition, the worker reads for itself. Never raises."""

    topic: Callable[[Mapping[bytes, bytes]], str] = _no_topic
    """What the vendor calls the callback, where it says so beside the body."""

    uses_tail: bool = False
    """Whether `verify` reads the path behind the slug. Of every other source such a path is 404."""

    is_ping: Callable[[WebhookRequest], bool] = _never
    """An unsigned greeting that wants an answer and says nothing."""

    key_of: Callable[[str], bytes] = str.encode
    """The key with which the vendor signs, from the secret as its page shows it. ValueError: it
    cannot be one.
    """

    without_cards: Callable[[bytes], bytes] = _unchanged
    """The verified body without data of a card, which nobody here needs and no letter or log may
    show.
    """

    event_id: Callable[[WebhookRequest], str] = _no_event_id
    """How the sender calls this event, where that is signed and the same in every repeat. Else each
    reception is its own.
    """

    unwrapped: Callable[[bytes], bytes] = _unchanged
    """What of a verified body is kept, when it stands in a wrapping of its own. Never raises."""

    media: bytes = JSON
    other_media: bytes = b""  # another media type, when there are two
    response_body: bytes = b"ok\n"
    needs_orders_of: bool = (
        False  # gateways and checkers: whose orders they speak of stands in the settings block
    )
    options: Mapping[str, str] = field(
        default_factory=dict
    )  # keys that its settings block may have -> what they mean
    read_options: Callable[[Mapping[str, str], Path], Mapping[str, str]] = _unchanged_options
    """Its options as `verify` wants them, read once, when the door opens: files are found from the
    folder of the sources file. ValueError: they are wrong."""

    has_decimal_amounts: bool = False
    """It writes amounts as decimal numbers, so the settings block may say how many `decimals` they
    have.
    """

    has_webhook: bool = True


def bounded_time(at: datetime) -> datetime:
    """In UTC. A clock that stands beyond all reason would pin its order for ever."""
    if at.tzinfo is None:
        raise CallbackUnreadable("a time has no offset")
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    if not EARLIEST <= at < LATEST:
        raise CallbackUnreadable(f"a time is out of bounds: {at.isoformat()}")
    return at


def bounded_time_or_none(at: datetime | None) -> datetime | None:
    """A time by which nothing is ordered: out of bounds it is none, and costs no order."""
    try:
        return None if at is None else bounded_time(at)
    except CallbackUnreadable:
        return None


def bounded_amount(minor: int) -> int:
    if not -AMOUNT_MAX <= minor <= AMOUNT_MAX:
        raise CallbackUnreadable("an amount is out of bounds")
    return minor


def checked_identifier(identifier: str, what: str) -> str:
    """An id that can stand in keys, logs and addresses: no blanks, nothing invisible."""
    if not identifier.isprintable() or " " in identifier:
        raise CallbackUnreadable(f"{what} has a blank or a character that cannot be printed")
    return identifier


def normalised_status(text: str) -> str:
    """`wc-Completed` and `completed` are one status."""
    plain = text.strip().lower().removeprefix("wc-")
    if not plain or not plain.isprintable():
        raise CallbackUnreadable("the status is empty or cannot be printed")
    return plain


def refuse_duplicate_lines(line_ids: Sequence[str]) -> None:
    if len(set(line_ids)) != len(line_ids):
        raise CallbackUnreadable("two lines have the same id")
