"""What every source declares, and what its functions receive."""

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
    """A request to the webhook endpoint of a configured source."""

    headers: Mapping[bytes, bytes]  # names in lower case
    body: bytes
    secrets: Sequence[bytes]  # all are valid while one is being replaced
    at: float = 0.0  # the endpoint's clock, in seconds since 1970
    tolerance_s: float = 300.0  # how far a signed time may be from the endpoint's clock
    path_suffix: str = ""  # of the path, after the source's slug
    options: Mapping[str, str] = {}  # of the source's section
    certificates: Mapping[str, bytes] = {}  # PEM by address: those that are cached


class CertificateNeededError(Exception):
    """Raised by `verify` when it needs the certificate at an address that it has checked. The
    endpoint fetches it and calls `verify` again.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class ReceivedCallback(NamedTuple):
    """A callback as it is in its record."""

    source: str
    id: str  # of its reception, or of the storefront's own event
    callback_type: str  # as the vendor names it; no signature covers it
    time: str  # when the webhook endpoint received it, by its own clock: it orders nothing
    key: bytes
    body: bytes
    orders_of: str = ""  # the source whose orders it reports on, from the sources file
    decimals: int | None = None  # digits of its amounts, from the sources file
    position: str = ""  # of its record (`facts.log_position`): orders what has no clock of its own

    @property
    def at(self) -> datetime:
        """When the log took it, by the broker's clock: one clock for all endpoints."""
        return datetime.fromisoformat(self.position.partition("/")[0])

    @property
    def order_source(self) -> str:
        """The source whose orders it reports on: its own slug, or `orders_of`."""
        return self.orders_of or self.source


def _never(_request: WebhookRequest) -> bool:
    return False


def _no_callback_type(_headers: Mapping[bytes, bytes]) -> str:
    return ""


def _order_unknown(_body: bytes) -> Sequence[str | None]:
    return (None,)


def _no_event_id(_request: WebhookRequest) -> str:
    return ""


def _single_piece(body: bytes) -> Sequence[bytes]:
    return (body,)


def _unchanged(body: bytes) -> bytes:
    return body


def _unchanged_options(options: Mapping[str, str], _folder: Path) -> Mapping[str, str]:
    return options


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of source, as a vendor's folder declares it: `SOURCE = Source(...)`.

    `verify` and `normalise` are required. `identify`, which every module has too, returns the
    idempotency key of a callback and of all its repeats.
    """

    kind: str  # its name in the sources file
    type: str  # ce_type of its callbacks: stubline.callback.<kind>.v1
    normalise: Callable[[ReceivedCallback], ParsedCallback]
    """Return the key by `identify`, the order and its facts. Raises ValueError or Poison; pure."""

    verify: Callable[[WebhookRequest], bool] = _never
    """Return whether the sender knows one of the secrets, in constant time. Pure; may raise
    CertificateNeededError.
    """

    split_events: Callable[[bytes], Sequence[bytes]] = _single_piece
    """Split a body with several events into bodies with one; each becomes a record. Never
    raises.
    """

    order_ids: Callable[[bytes], Sequence[str | None]] = _order_unknown
    """Return the order's id for each piece, where it can be read cheaply: it only chooses the
    partition, and the worker reads for itself. Never raises.
    """

    callback_type: Callable[[Mapping[bytes, bytes]], str] = _no_callback_type
    """Return the callback's type as the vendor names it, if a header has it."""

    uses_path_suffix: bool = False
    """Whether `verify` reads the path after the slug. For every other source such a path is 404."""

    is_ping: Callable[[WebhookRequest], bool] = _never
    """Return whether the request is an unsigned ping, which is answered with success and published
    nowhere.
    """

    signing_key: Callable[[str], bytes] = str.encode
    """Return the vendor's signing key from the secret as its page shows it. Raises ValueError if it
    cannot be one.
    """

    without_cards: Callable[[bytes], bytes] = _unchanged
    """Return the verified body without card data, which nobody here needs and no dead letter or log
    may show.
    """

    event_id: Callable[[WebhookRequest], str] = _no_event_id
    """Return the sender's event id, if it is signed and the same in every repeat. Else each
    reception has its own id.
    """

    unwrap: Callable[[bytes], bytes] = _unchanged
    """Return the part of a verified body that is kept, if it has an envelope of its own. Never
    raises.
    """

    media: bytes = JSON
    other_media: bytes = b""  # another media type, when there are two
    response_body: bytes = b"ok\n"
    needs_orders_of: bool = False
    """Whether the section must name the source of the orders: of gateways and fraud checkers."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Further keys that its section may have, with their descriptions."""

    read_options: Callable[[Mapping[str, str], Path], Mapping[str, str]] = _unchanged_options
    """Return the options as `verify` needs them, read once at the start; files are relative to the
    folder of the sources file. Raises ValueError.
    """

    has_decimal_amounts: bool = False
    """Whether amounts are decimal numbers, so that the section may set their `decimals`."""

    has_webhook: bool = True


def bounded_time(at: datetime) -> datetime:
    """Return the time in UTC. A time out of bounds is refused: it would pin its order's version for
    ever.
    """
    if at.tzinfo is None:
        raise CallbackUnreadable("a time has no offset")
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    if not EARLIEST <= at < LATEST:
        raise CallbackUnreadable(f"a time is out of bounds: {at.isoformat()}")
    return at


def bounded_time_or_none(at: datetime | None) -> datetime | None:
    """Return the time, or None if it is out of bounds, for times that order nothing."""
    try:
        return None if at is None else bounded_time(at)
    except CallbackUnreadable:
        return None


def bounded_amount(minor: int) -> int:
    if not -AMOUNT_MAX <= minor <= AMOUNT_MAX:
        raise CallbackUnreadable("an amount is out of bounds")
    return minor


def checked_identifier(identifier: str, field: str) -> str:
    """Return an id that can stand in keys, logs and addresses: no blanks, nothing invisible."""
    if not identifier.isprintable() or " " in identifier:
        raise CallbackUnreadable(f"{field} has a blank or a character that cannot be printed")
    return identifier


def normalised_status(text: str) -> str:
    """Return the status in one form: `wc-Completed` and `completed` are one."""
    plain = text.strip().lower().removeprefix("wc-")
    if not plain or not plain.isprintable():
        raise CallbackUnreadable("the status is empty or cannot be printed")
    return plain


def refuse_duplicate_lines(line_ids: Sequence[str]) -> None:
    if len(set(line_ids)) != len(line_ids):
        raise CallbackUnreadable("two lines have the same id")
