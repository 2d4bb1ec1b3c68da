"""What a source can say: facts of an order, and facts of a payment, each with a version. Pure: no
clock, no chance, no I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from schemas.fraud import FraudVerdict
from schemas.orders import Movement, Storefront
from schemas.text import rfc3339

STOREFRONT, REACHED, DELETION, MOVED, VERDICT = (
    "storefront",
    "reached:",
    "deletion",
    "moved:",
    "verdict:",
)
RANKS = {  # of two statuses in the same second the greater came later: terminal ones are last
    **dict.fromkeys(("new", "auto-draft", "draft", "checkout-draft"), 0),
    "pending": 10,
    "on-hold": 20,
    "failed": 30,  # a payment that failed is tried again
    "processing": 50,
    "completed": 60,
    **dict.fromkeys(
        ("fraud-pending", "fraud-unknown"), 65
    ),  # a gate that closes and one that opens: it is closed
    "cancelled": 70,
    "refunded": 80,
    "trash": 90,
}
RANK_OF_OTHERS = 40
RANK_RESTORED, RANK_DELETED = 0, 90
# Before what breaks a tie. Both sort after every hexadecimal digit, so a version that an earlier
# release wrote, in which the hash follows the rank at once, is the older one of a tie.
TIE_BY_POSITION, TIE_BY_AMOUNT = "p", "s"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP_MS_MAX = (
    253_402_300_800_000  # the year 10000, as in the letters' rows: a producer may claim any time
)


class Fact(NamedTuple):
    """One thing that a source can say: "storefront", "reached:completed", "deletion",
    "moved:stripe:refund:re_1".
    """

    name: str
    # sorts as text: the source's time, a rank, what breaks a tie of both, hash of the content
    version: str
    content: bytes  # JSON, written once: it is hashed, kept and said as it is

    @property
    def digest(self) -> str:
        return self.version[-64:]


class RecordOrigin(NamedTuple):
    """The record in which a callback came, beside its body: with it the callback can be worked once
    more.
    """

    topic: str = ""
    partition: int = 0
    offset: int = 0
    timestamp_ms: int = -1
    key: bytes | None = None
    headers: bytes = b""  # packed


class DriftNotice(NamedTuple):
    """Something that a source says and this release does not know, which harms nothing: counted,
    with an example.
    """

    source: str
    kind: str  # "unknown-type", "unknown-status": one word for programs
    what: (
        str  # which one, in words that are the same for all of its kind: they are counted together
    )
    body: bytes = b""  # of the callback that brought it
    is_kept: bool = False  # the callback is not acted on: it is kept whole
    is_reported: bool = True  # a person should look at it; else it is only kept
    origin: RecordOrigin = RecordOrigin()  # of a callback that is kept; `sources.read` sets it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DriftNotice) and self[:3] == other[:3]

    def __hash__(self) -> int:
        return hash(self[:3])


class ParsedCallback(NamedTuple):
    """What a callback tells.

    Its `facts` are of the order that it names. What it tells of a payment (`moved`) reaches every
    order that names the payment too, in whichever order both come.
    """

    key: str  # its name, the same whenever its source sends it again
    content_hash: (
        bytes  # SHA-256 of all that it says: other bytes that say the same are the same callback
    )
    order_id: str | None  # None: it names only payments
    facts: tuple[Fact, ...] = ()
    payments: tuple[str, ...] = ()  # as `payment_name` names them
    movements: tuple[Fact, ...] = ()
    reads: tuple[
        str, ...
        # orders (`{source}:{external id}`) to read again at their source: it has no proof itself
    ] = ()
    drift: tuple[DriftNotice, ...] = ()
    received: str = ""  # when the door took it, as its record says
    proof: tuple[str, bytes] | None = (
        None  # what proved it, by name, and SHA-256 of the one body that it may prove
    )


@lru_cache(1_024)
def log_time(timestamp_ms: int) -> str:
    """The broker's timestamp as sortable text. All records of a produced batch share one."""
    ms = timestamp_ms if 0 <= timestamp_ms < TIMESTAMP_MS_MAX else 0
    return rfc3339(EPOCH + timedelta(milliseconds=ms))


def log_position(timestamp_ms: int, offset: int, partition: int) -> str:
    """Where a record stands in the log, as sortable text: a greater position was appended later.

    The broker's timestamp comes first: when partitions are added, an order moves to one whose
    offsets begin at 0. Within a millisecond the offset decides.
    """
    return f"{log_time(timestamp_ms)}/{offset:019d}/{partition:06d}"


def reached_name(status: str) -> str:
    return REACHED + status


def storefront_facts(
    order: Storefront, modified_at: datetime, at_position: str = ""
) -> tuple[Fact, Fact]:
    """The order as its source shows it, and that its status was reached by then. See
    `serialized_storefront_facts`.
    """
    return serialized_storefront_facts(
        order.__pydantic_serializer__.to_json(order), order.status, modified_at, at_position
    )


def serialized_storefront_facts(
    storefront: bytes, status: str, modified_at: datetime, at_position: str = ""
) -> tuple[Fact, Fact]:
    """Facts of a Storefront that is already serialized, byte for byte as the model does it.

    `at_position`: of the record, when its source sends an order as it stands at the sending. Of two
    that agree in time and rank, the one that was appended to the log later counts. Without it their
    hashes decide.
    """
    at = rfc3339(modified_at)
    begin, when = f"{at}/{RANKS.get(status, RANK_OF_OTHERS):02d}/", f'"{at}"'.encode()
    tie = f"{TIE_BY_POSITION}{at_position}/" if at_position else ""
    return (
        Fact(STOREFRONT, f"{begin}{tie}{hashlib.sha256(storefront).hexdigest()}", storefront),
        Fact(REACHED + status, begin + hashlib.sha256(when).hexdigest(), when),
    )


def reached_fact(status: str, at: datetime) -> Fact:
    """That a status was reached, which the order is not told in: a gate that closes takes back what
    was reached before.
    """
    at_text = rfc3339(at)
    content = b'"%b"' % at_text.encode()
    return Fact(
        reached_name(status),
        f"{at_text}/{RANKS.get(status, RANK_OF_OTHERS):02d}/{hashlib.sha256(content).hexdigest()}",
        content,
    )


def deletion_fact(at: str, *, is_deleted: bool) -> Fact:
    """Deleted and restored are one fact. `at`: the source's own time (`sortable`), or the record's
    position in the log.
    """
    rank, content = (RANK_DELETED, b"true") if is_deleted else (RANK_RESTORED, b"false")
    return Fact(DELETION, f"{at}/{rank:02d}/{hashlib.sha256(content).hexdigest()}", content)


def movement_fact(movement: Movement, *, rank: int = 50) -> Fact:
    """Money that moved, or is about to: one fact for each that a gateway names. The later one of a
    name counts; in the same instant the greater rank (0 to 99), then the greater amount: what is
    captured or refunded so far only grows. When the record was received says nothing: gateways send
    an object as it stood at its event, and send it again for days.
    """
    content = movement.__pydantic_serializer__.to_json(movement)
    amount = f"{TIE_BY_AMOUNT}{max(0, movement.amount_minor or 0):016d}"
    version = f"{rfc3339(movement.at)}/{rank:02d}/{amount}/{hashlib.sha256(content).hexdigest()}"
    return Fact(f"{MOVED}{movement.gateway}:{movement.kind}:{movement.reference}", version, content)


def verdict_fact(
    verdict: FraudVerdict, *, rank: int = 50, about: str = "", at_position: str = ""
) -> Fact:
    """The verdict of a fraud checker on an order. `about`: which of its checks, when an order can
    have several. `at_position`: as in `serialized_storefront_facts`.
    """
    content = verdict.__pydantic_serializer__.to_json(verdict)
    tie = f"{TIE_BY_POSITION}{at_position}/" if at_position else ""
    version = f"{rfc3339(verdict.at)}/{rank:02d}/{tie}{hashlib.sha256(content).hexdigest()}"
    return Fact(f"{VERDICT}{verdict.source}{about and ':'}{about}", version, content)


def payment_name(shop: str, reference: str) -> str:
    """A payment's name: a gateway's reference, in the shop whose orders it pays."""
    return f"{shop}/{reference}"


def parsed_callback(
    key: str,
    order_id: str | None,
    facts: tuple[Fact, ...] = (),
    *,
    payments: Sequence[str] = (),
    movements: tuple[Fact, ...] = (),
    reads: tuple[str, ...] = (),
    drift: tuple[DriftNotice, ...] = (),
) -> ParsedCallback:
    named = tuple(sorted(set(payments)))
    parts = [order_id or "", *(f"{fact.name}\0{fact.digest}" for fact in facts)]
    if named or movements or reads:
        parts += ["\1", *named, *(f"{fact.name}\0{fact.digest}" for fact in movements), *reads]
    content_hash = hashlib.sha256("\0".join(parts).encode()).digest()
    return ParsedCallback(key, content_hash, order_id, facts, named, movements, reads, drift)


def merge_facts(facts: Mapping[str, Fact], new_facts: Iterable[Fact]) -> Mapping[str, Fact]:
    """The greatest version of a fact stays, so facts may come in any order. The same mapping when
    nothing changes.
    """
    newer = dict[str, Fact]()
    for fact in new_facts:
        known = newer.get(fact.name) or facts.get(fact.name)
        if known is None or known.version < fact.version:
            newer[fact.name] = fact
    return {**facts, **newer} if newer else facts
