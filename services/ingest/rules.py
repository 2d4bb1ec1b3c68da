"""What does a callback tell of its order that was not known? Pure: no clock, no chance, no I/O."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple

from schemas.orders import Storefront

STOREFRONT, REACHED, DELETION = "storefront", "reached:", "deletion"
FACTS_MAX = 100  # of an order: its statuses, for the rest is two
INCIDENTS_MAX = 100  # kept of an order; more of them say nothing new
RANKS = {  # of two statuses in the same second the greater came later: terminal ones are last
    **dict.fromkeys(("new", "auto-draft", "draft", "checkout-draft"), 0),
    "pending": 10,
    "on-hold": 20,
    "failed": 30,  # a payment that failed is tried again
    "processing": 50,
    "completed": 60,
    "cancelled": 70,
    "refunded": 80,
    "trash": 90,
}
RANK_OF_OTHERS = 40
RANK_RESTORED, RANK_DELETED = 0, 90


class Fact(NamedTuple):
    """One thing that a source can say of an order: "storefront", "reached:completed", "deletion"."""

    name: str
    version: str  # sorts as text: the source's time, rank of the status, hash of the content; so no two facts tie
    content: bytes  # JSON, written once: it is hashed, kept and said as it is

    @property
    def digest(self) -> str:
        return self.version[-64:]


class Callback(NamedTuple):
    key: str  # its name, the same whenever its source sends it again
    meaning: bytes  # SHA-256 of order, names and contents: other bytes that say the same are the same callback
    order_id: str
    facts: tuple[Fact, ...]


class Order(NamedTuple):
    """Everything that is known of an order."""

    order_id: str
    generation: int
    sequence: int
    digest: bytes | None  # of what was last said of it
    facts: Mapping[str, Fact]
    incidents: frozenset[str]  # keys that came with two meanings: they block nothing


class Verdict(Enum):  # in the order in which they are tried
    OVERFULL = auto()  # it would have more facts than an order can have
    APPLIED = auto()  # the order knows more than before
    KNOWN = auto()  # said before, in this callback or another
    OLDER = auto()  # never said before, but something newer was


def sortable(at: datetime) -> str:
    """The same instant is the same text, and later ones sort behind it."""
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat(timespec="microseconds")[:26] + "Z"


def reached(status: str) -> str:
    return REACHED + status


def storefront_facts(order: Storefront, modified_at: datetime) -> tuple[Fact, Fact]:
    """The order as it is told, and that its status was reached by then."""
    at = sortable(modified_at)
    begin = f"{at}/{RANKS.get(order.status, RANK_OF_OTHERS):02d}/"
    told, when = order.__pydantic_serializer__.to_json(order), b'"%b"' % at.encode()
    return (
        Fact(STOREFRONT, begin + hashlib.sha256(told).hexdigest(), told),
        Fact(reached(order.status), begin + hashlib.sha256(when).hexdigest(), when),
    )


def deletion_fact(at: datetime, *, is_deleted: bool) -> Fact:
    """Deleted and restored are one fact."""
    rank, said = (RANK_DELETED, b"true") if is_deleted else (RANK_RESTORED, b"false")
    return Fact(DELETION, f"{sortable(at)}/{rank:02d}/{hashlib.sha256(said).hexdigest()}", said)


def callback(key: str, order_id: str, facts: tuple[Fact, ...]) -> Callback:
    said = "\0".join([order_id, *(f"{fact.name}\0{fact.digest}" for fact in facts)])
    return Callback(key, hashlib.sha256(said.encode()).digest(), order_id, facts)


def fold(facts: Mapping[str, Fact], told: Iterable[Fact]) -> Mapping[str, Fact]:
    """The greatest version of a fact stays, so facts may come in any order. The same mapping when nothing changes."""
    newer = {}
    for fact in told:
        known = facts.get(fact.name)
        if known is None or known.version < fact.version:
            newer[fact.name] = fact
    return {**facts, **newer} if newer else facts


def judge(order: Order, callback: Callback, meanings: AbstractSet[bytes]) -> tuple[Order, Verdict]:
    """The order decides, not the inbox: trash, restore, trash again is one callback sent twice, and meant twice."""
    facts, repeated = fold(order.facts, callback.facts), callback.meaning in meanings
    if len(facts) > FACTS_MAX:
        return order, Verdict.OVERFULL
    incidents = order.incidents
    if meanings and not repeated and len(incidents) < INCIDENTS_MAX:
        incidents |= {callback.key}
    if facts is order.facts and incidents is order.incidents:
        told = order
    else:
        told = Order(order.order_id, order.generation, order.sequence, order.digest, facts, incidents)
    if has_news(order.facts, facts):
        return told, Verdict.APPLIED
    known = repeated or all(order.facts[fact.name].digest == fact.digest for fact in callback.facts)
    return told, Verdict.KNOWN if known else Verdict.OLDER


def judge_all(
    callbacks: Sequence[Callback], orders: Mapping[str, Order], seen: Iterable[tuple[str, bytes]]
) -> tuple[list[Verdict], dict[str, Order]]:
    """Each callback sees what those before it left. An order with news takes one new sequence, however many brought it."""
    after, heard, verdicts = dict(orders), defaultdict[str, set[bytes]](set), list[Verdict]()
    for key, meaning in seen:
        heard[key].add(meaning)
    for told in callbacks:
        meanings = heard[told.key]
        after[told.order_id], verdict = judge(after[told.order_id], told, meanings)
        meanings.add(told.meaning)
        verdicts.append(verdict)
    return verdicts, {order_id: spoken(order, orders[order_id]) for order_id, order in after.items()}


def spoken(order: Order, before: Order) -> Order:
    """With its next sequence when it has something to say that differs from what it last said."""
    if order.facts is before.facts or not has_news(before.facts, order.facts):
        return order
    return Order(
        order.order_id, order.generation, order.sequence + 1, digest(order.facts), order.facts, order.incidents
    )


def digest(facts: Mapping[str, Fact]) -> bytes:
    """Of what an order says: names and contents, not versions."""
    return hashlib.sha256("\0".join(f"{name}\0{facts[name].digest}" for name in sorted(facts)).encode()).digest()


def has_news(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> bool:
    if after is before:
        return False
    return not before or any(name not in before or before[name].digest != fact.digest for name, fact in after.items())


def news(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> list[str]:
    """The facts whose content differs: without one there is no event. A newer version of the same content is no news."""
    if not before:
        return sorted(after)
    return sorted(name for name, fact in after.items() if name not in before or before[name].digest != fact.digest)
