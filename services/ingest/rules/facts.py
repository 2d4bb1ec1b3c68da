"""What a source can report: facts of an order and facts of a payment, each with a version. Pure: no
clock, no randomness, no I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from schemas.fraud import FraudVerdict
from schemas.orders import Movement, Storefront
from schemas.structs import encode_checked
from schemas.text import rfc3339

# Names of facts; those that end in a colon are prefixes.
STOREFRONT, DELETION = "storefront", "deletion"
REACHED, MOVED, VERDICT = "reached:", "moved:", "verdict:"
# If two statuses have the same second, the one with the greater rank came later: terminal ones are
# last.
RANKS = {
    **dict.fromkeys(("new", "auto-draft", "draft", "checkout-draft"), 0),
    "pending": 10,
    "on-hold": 20,
    "failed": 30,  # a failed payment is tried again
    "processing": 50,
    "completed": 60,
    # If a gate closes and opens in one second, it is closed.
    "fraud-pending": 65,
    "fraud-unknown": 65,
    "cancelled": 70,
    "refunded": 80,
    "trash": 90,
}
RANK_OF_OTHERS = 40
RANK_RESTORED, RANK_DELETED = 0, 90
IS_DELETED = b"true"  # the content of DELETION
# Precedes what breaks a tie. Both sort after every hexadecimal digit, so a version of an earlier
# release, in which the hash follows the rank at once, is the older one of a tie.
TIE_BY_POSITION, TIE_BY_AMOUNT = "p", "s"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The year 10000, as in the dead letters' rows: a producer may set any time.
TIMESTAMP_MS_MAX = 253_402_300_800_000


class Fact(NamedTuple):
    """One thing that a source can report: "storefront", "reached:completed", "deletion",
    "moved:stripe:refund:re_1".

    The fact with the greatest version holds. Versions are compared as text and have the form
    `time/rank/[tie-breaker/]hash`: the source's time (RFC 3339), two digits, `p` with a position in
    the log or `s` with an amount, and SHA-256 of the content in hexadecimal.
    """

    name: str
    version: str
    content: bytes  # JSON, serialized once: it is hashed, stored and published as it is

    @property
    def digest(self) -> str:
        return self.version[-64:]


class RecordOrigin(NamedTuple):
    """The record of a callback, without its body: with it the callback can be replayed."""

    topic: str = ""
    partition: int = 0
    offset: int = 0
    timestamp_ms: int = -1
    key: bytes | None = None
    headers: bytes = b""  # packed


class DriftNotice(NamedTuple):
    """Something that a source sends and this release does not know, and that harms nothing:
    counted, with an example.
    """

    source: str
    kind: str  # "unknown-type", "unknown-status": one word for programs
    cause: str  # what is unknown; notices of one cause are counted together
    body: bytes = b""  # of the callback that brought it
    is_kept: bool = False  # the callback is not acted on, and kept whole
    is_reported: bool = True  # shown to operators as an incident; else the callback is only kept
    origin: RecordOrigin = RecordOrigin()  # of a kept callback; `vendors.parse` sets it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DriftNotice) and self[:3] == other[:3]

    def __hash__(self) -> int:
        return hash(self[:3])


class ParsedCallback(NamedTuple):
    """What a callback reports.

    Its `facts` are of the order that it names. Its `movements` are of a payment, and reach every
    order that names the payment, whichever comes first.
    """

    key: str  # the idempotency key: the same whenever its source sends it again
    # SHA-256 of all that it reports: other bytes with the same content are a duplicate.
    content_hash: bytes
    order_id: str | None  # None: it names only payments
    facts: tuple[Fact, ...] = ()
    payments: tuple[str, ...] = ()  # as `payment_name` names them
    movements: tuple[Fact, ...] = ()
    # Orders (`{source}:{external id}`) to fetch from their source, because the callback itself
    # has no proof.
    orders_to_fetch: tuple[str, ...] = ()
    drift: tuple[DriftNotice, ...] = ()
    received: str = ""  # when the endpoint received it, by its record
    # The name of its signature, and SHA-256 of the one body that this signature may prove.
    proof: tuple[str, bytes] | None = None


@lru_cache(1_024)
def log_time(timestamp_ms: int) -> str:
    """Return the broker's timestamp as RFC 3339. All records of a produced batch share one."""
    ms = timestamp_ms if 0 <= timestamp_ms < TIMESTAMP_MS_MAX else 0
    return rfc3339(EPOCH + timedelta(milliseconds=ms))


def log_position(timestamp_ms: int, offset: int, partition: int) -> str:
    """Return where a record is in the log, as sortable text: a greater position was appended later.

    The broker's timestamp comes first: when partitions are added, an order moves to one whose
    offsets begin at 0. Within a millisecond the offset decides.
    """
    # `%` takes half the time of an f-string with the same widths.
    return "%s/%019d/%06d" % (log_time(timestamp_ms), offset, partition)  # noqa: UP031 - faster


def reached_name(status: str) -> str:
    return REACHED + status


def storefront_facts(
    order: Storefront, modified_at: datetime, record_position: str = ""
) -> tuple[Fact, Fact]:
    """Return the order as its source shows it, and the fact that its status was reached by then.
    See `serialized_storefront_facts`.
    """
    content = encode_checked(order)
    return serialized_storefront_facts(content, order.status, rfc3339(modified_at), record_position)


def serialized_storefront_facts(
    storefront: bytes, status: str, at: str, record_position: str = ""
) -> tuple[Fact, Fact]:
    """Return the facts of a Storefront that is already serialized, byte for byte as the model does
    it. `at` is when it was modified (RFC 3339).

    `record_position` is given if the source sends an order as it is at the time of sending. If two
    agree in time and rank, the one that was appended to the log later wins. Without it their hashes
    decide.
    """
    begin, when = f"{at}/{RANKS.get(status, RANK_OF_OTHERS):02d}/", f'"{at}"'.encode()
    tie = f"{TIE_BY_POSITION}{record_position}/" if record_position else ""
    return (
        Fact(STOREFRONT, f"{begin}{tie}{hashlib.sha256(storefront).hexdigest()}", storefront),
        Fact(REACHED + status, begin + hashlib.sha256(when).hexdigest(), when),
    )


def reached_fact(status: str, at: datetime) -> Fact:
    """Return the fact that a status was reached which the order does not show: a gate that closes
    takes back what was reached before.
    """
    at_text = rfc3339(at)
    content = b'"%b"' % at_text.encode()
    return Fact(
        reached_name(status),
        f"{at_text}/{RANKS.get(status, RANK_OF_OTHERS):02d}/{hashlib.sha256(content).hexdigest()}",
        content,
    )


def deletion_fact(at: str, *, is_deleted: bool) -> Fact:
    """Return the fact that an order was deleted or restored; both are one fact. `at` is the
    source's own time (RFC 3339), or the record's position in the log.
    """
    rank, content = (RANK_DELETED, IS_DELETED) if is_deleted else (RANK_RESTORED, b"false")
    return Fact(DELETION, f"{at}/{rank:02d}/{hashlib.sha256(content).hexdigest()}", content)


def movement_fact(movement: Movement, *, rank: int = 50) -> Fact:
    """Return the fact that money moved or is about to: one for each movement that a gateway names.

    The latest version of a name wins; in the same instant the greater rank (0 to 99), then the
    greater amount, because what is captured or refunded so far only grows. The time of reception
    means nothing: gateways send an object as it was at its event, and repeat it for days.
    """
    content = encode_checked(movement)
    amount = f"{TIE_BY_AMOUNT}{max(0, movement.amount_minor or 0):016d}"
    version = f"{rfc3339(movement.at)}/{rank:02d}/{amount}/{hashlib.sha256(content).hexdigest()}"
    return Fact(f"{MOVED}{movement.gateway}:{movement.kind}:{movement.reference}", version, content)


def verdict_fact(
    verdict: FraudVerdict, *, rank: int = 50, check_id: str = "", record_position: str = ""
) -> Fact:
    """Return the verdict of a fraud checker on an order. `check_id` distinguishes several checks of
    an order by one checker. `record_position` is as in `serialized_storefront_facts`.
    """
    content = encode_checked(verdict)
    tie = f"{TIE_BY_POSITION}{record_position}/" if record_position else ""
    version = f"{rfc3339(verdict.at)}/{rank:02d}/{tie}{hashlib.sha256(content).hexdigest()}"
    return Fact(f"{VERDICT}{verdict.source}{check_id and ':'}{check_id}", version, content)


def payment_name(shop: str, reference: str) -> str:
    """Return a payment's name: a gateway's reference within the source whose orders it pays."""
    return f"{shop}/{reference}"


def parsed_callback(
    key: str,
    order_id: str | None,
    facts: tuple[Fact, ...] = (),
    *,
    payments: Sequence[str] = (),
    movements: tuple[Fact, ...] = (),
    orders_to_fetch: tuple[str, ...] = (),
    drift: tuple[DriftNotice, ...] = (),
) -> ParsedCallback:
    named = tuple(sorted(set(payments)))
    parts = [order_id or "", *(f"{fact.name}\0{fact.digest}" for fact in facts)]
    if named or movements or orders_to_fetch:
        parts += [
            "\1",
            *named,
            *(f"{fact.name}\0{fact.digest}" for fact in movements),
            *orders_to_fetch,
        ]
    content_hash = hashlib.sha256("\0".join(parts).encode()).digest()
    return ParsedCallback(
        key, content_hash, order_id, facts, named, movements, orders_to_fetch, drift
    )


def merge_facts(facts: Mapping[str, Fact], new_facts: Iterable[Fact]) -> Mapping[str, Fact]:
    """Return the facts with the greatest version of each, so that facts may come in any order; the
    same mapping when nothing changes.
    """
    newer = dict[str, Fact]()
    for fact in new_facts:
        known = newer.get(fact.name) or facts.get(fact.name)
        if known is None or known.version < fact.version:
            newer[fact.name] = fact
    return {**facts, **newer} if newer else facts
