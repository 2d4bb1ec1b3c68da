"""What does a callback tell of its order that was not known? Pure: no clock, no chance, no I/O.

An order knows what was told of it, and what was told of the payments that it names. Both only grow,
each fact by its greatest version, so an order is a function of the set of its callbacks: however
they come, however often, in whatever batches.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from typing import NamedTuple

from services.ingest.rules.facts import MOVED, VERDICT, Fact, ParsedCallback, merge_facts

FACTS_MAX = 100  # that are told of an order itself: its statuses, for the rest is two
PAYMENT_FACTS_MAX = 60  # that a gateway tells of one payment: captures, refunds, disputes
JOINED_FACTS_MAX = 300  # of all payments that an order ever named
ORDERS_MAX = (
    20  # that one payment is joined to; a "payment" of more is a word that a shop writes everywhere
)
INCIDENTS_MAX = 100  # kept of an order; more of them say nothing new


class KnownOrder(NamedTuple):
    """Everything that is known of an order."""

    order_id: str
    generation: int
    sequence: int
    digest: bytes | None  # of what was last said of it
    facts: Mapping[str, Fact]
    incidents: frozenset[str]  # keys that came with two meanings: they block nothing


class KnownPayment(NamedTuple):
    """What gateways told of a payment, and which orders name it. Kept also while no order does: it
    waits for one.
    """

    name: str
    orders: frozenset[str] = frozenset()
    facts: Mapping[str, Fact] = {}


class CallbackOutcome(Enum):  # in the order in which they are tried
    FORGED = auto()  # what proves it has proved another body before
    TOO_MANY_FACTS = auto()  # it would have more facts than an order can have
    APPLIED = auto()  # the order knows more than before
    DUPLICATE = auto()  # said before, in this callback or another
    SUPERSEDED = auto()  # never said before, but something newer was


class DecidedBatch(NamedTuple):
    """What is known after a batch, and how each of its callbacks ended."""

    outcomes: list[CallbackOutcome]
    orders: dict[str, KnownOrder]
    payments: dict[str, KnownPayment]


def decide_order(
    order: KnownOrder, callback: ParsedCallback, content_hashes: AbstractSet[bytes]
) -> tuple[KnownOrder, CallbackOutcome]:
    """The order decides, not the inbox: trash, restore, trash again is one callback sent twice, and
    meant twice.
    """
    facts, repeated = (
        merge_facts(order.facts, callback.facts),
        callback.content_hash in content_hashes,
    )
    if has_too_many_facts(facts):
        return order, CallbackOutcome.TOO_MANY_FACTS
    updated = with_facts(order, facts, _incidents(order, callback, content_hashes))
    if has_changed(order.facts, facts):
        return updated, CallbackOutcome.APPLIED
    is_known = repeated or all(
        order.facts[fact.name].digest == fact.digest for fact in callback.facts
    )
    return updated, CallbackOutcome.DUPLICATE if is_known else CallbackOutcome.SUPERSEDED


def _incidents(
    order: KnownOrder, callback: ParsedCallback, content_hashes: AbstractSet[bytes]
) -> frozenset[str]:
    if (
        content_hashes
        and callback.content_hash not in content_hashes
        and len(order.incidents) < INCIDENTS_MAX
    ):
        return order.incidents | {callback.key}
    return order.incidents


def with_facts(
    order: KnownOrder, facts: Mapping[str, Fact], incidents: frozenset[str]
) -> KnownOrder:
    """The same one when there is nothing to keep."""
    if facts is order.facts and incidents is order.incidents:
        return order
    return KnownOrder(
        order.order_id, order.generation, order.sequence, order.digest, facts, incidents
    )


def decide_joined(
    callback: ParsedCallback,
    orders: Mapping[str, KnownOrder],
    payments: Mapping[str, KnownPayment],
    content_hashes: AbstractSet[bytes],
) -> tuple[dict[str, KnownOrder], dict[str, KnownPayment], CallbackOutcome]:
    """Of a callback that names payments: what changed, and how it ended. An overfull one changes
    nothing at all.
    """
    named_orders = (
        frozenset[str]() if callback.order_id is None else frozenset((callback.order_id,))
    )
    payments_after = [
        _with_callback(payments[name], callback, named_orders) for name in callback.payments
    ]
    order_ids = named_orders.union(*(payment.orders for payment in payments_after))
    after = dict[str, KnownOrder]()
    for order_id in sorted(order_ids):
        order = orders[order_id]
        facts = merge_facts(order.facts, callback.facts if order_id in named_orders else ())
        facts = merge_facts(facts, callback.movements)
        for payment in payments_after:
            if (
                order_id in payment.orders
                and len(facts) + len(payment.facts) <= JOINED_FACTS_MAX + FACTS_MAX
            ):
                facts = merge_facts(facts, payment.facts.values())
        after[order_id] = with_facts(order, facts, _incidents(order, callback, content_hashes))
    if any(len(payment.facts) > PAYMENT_FACTS_MAX for payment in payments_after) or any(
        has_too_many_facts(order.facts)
        or (callback.movements and has_too_many_joined_facts(order, orders[name]))
        for name, order in after.items()
    ):
        return {}, {}, CallbackOutcome.TOO_MANY_FACTS
    changed = {
        payment.name: payment for payment in payments_after if payment is not payments[payment.name]
    }
    is_new = any(
        has_changed(orders[name].facts, order.facts) for name, order in after.items()
    ) or any(
        payment.orders != payments[name].orders or has_changed(payments[name].facts, payment.facts)
        for name, payment in changed.items()
    )
    if is_new:
        return after, changed, CallbackOutcome.APPLIED
    is_known = callback.content_hash in content_hashes or _is_known(
        callback, orders, payments_after
    )
    return after, changed, CallbackOutcome.DUPLICATE if is_known else CallbackOutcome.SUPERSEDED


def has_too_many_facts(facts: Mapping[str, Fact]) -> bool:
    """By an order's own facts alone: a gateway that tells too much must not cost the shop's
    word.
    """
    return (
        len(facts) > FACTS_MAX
        and sum(not name.startswith((MOVED, VERDICT)) for name in facts) > FACTS_MAX
    )


def has_too_many_joined_facts(order: KnownOrder, before: KnownOrder) -> bool:
    """Gateways have told more of it than anybody can mean: a shop gives all its payments one
    order's id, for example.
    """
    return len(order.facts) > max(len(before.facts), JOINED_FACTS_MAX + FACTS_MAX)


def _with_callback(
    payment: KnownPayment, callback: ParsedCallback, order_ids: frozenset[str]
) -> KnownPayment:
    """The same one when the callback tells nothing of it."""
    orders, facts = payment.orders, merge_facts(payment.facts, callback.movements)
    if len(orders) < ORDERS_MAX:
        orders |= order_ids
    if facts is payment.facts and orders == payment.orders:
        return payment
    return KnownPayment(payment.name, orders, facts)


def _is_known(
    callback: ParsedCallback,
    orders: Mapping[str, KnownOrder],
    payments_after: Sequence[KnownPayment],
) -> bool:
    places = [payment.facts for payment in payments_after]
    if callback.order_id is not None:
        order_facts = orders[callback.order_id].facts
        if any(order_facts[fact.name].digest != fact.digest for fact in callback.facts):
            return False
        places.append(order_facts)
    return all(
        facts[fact.name].digest == fact.digest for fact in callback.movements for facts in places
    )


def decide_batch(
    callbacks: Sequence[ParsedCallback],
    orders: Mapping[str, KnownOrder],
    seen: Iterable[tuple[str, bytes]],
    payments: Mapping[str, KnownPayment] | None = None,
) -> DecidedBatch:
    """Each callback sees what those before it left. An order with news takes one new sequence,
    however many brought it.

    `orders` and `payments` are all that the callbacks name, and the orders that name the payments;
    what nobody has told of yet is in them too, empty.
    """
    after, payments_after, seen_hashes, outcomes = (
        dict(orders),
        dict(payments or {}),
        defaultdict[str, set[bytes]](set),
        list[CallbackOutcome](),
    )
    for key, content_hash in seen:
        seen_hashes[key].add(content_hash)
    for callback in callbacks:
        if callback.proof is not None:
            name, body = callback.proof
            if seen_hashes[name] - {body}:
                outcomes.append(CallbackOutcome.FORGED)
                continue
            seen_hashes[name].add(body)
        content_hashes = seen_hashes[callback.key]
        if not (
            callback.facts or callback.payments or callback.movements
        ):  # it only asks, or is only kept
            outcome = (
                CallbackOutcome.DUPLICATE
                if callback.content_hash in content_hashes
                else CallbackOutcome.APPLIED
            )
        elif callback.order_id is not None and not callback.payments and not callback.movements:
            after[callback.order_id], outcome = decide_order(
                after[callback.order_id], callback, content_hashes
            )
        else:
            changed_orders, changed_payments, outcome = decide_joined(
                callback, after, payments_after, content_hashes
            )
            after.update(changed_orders)
            payments_after.update(changed_payments)
        content_hashes.add(callback.content_hash)
        outcomes.append(outcome)
    return DecidedBatch(
        outcomes,
        {
            order_id: with_next_sequence(order, orders[order_id])
            for order_id, order in after.items()
        },
        payments_after,
    )


def with_next_sequence(order: KnownOrder, before: KnownOrder) -> KnownOrder:
    """With its next sequence when it has something to say that differs from what it last said."""
    if order.facts is before.facts or not has_changed(before.facts, order.facts):
        return order
    return KnownOrder(
        order.order_id,
        order.generation,
        order.sequence + 1,
        content_digest(order.facts),
        order.facts,
        order.incidents,
    )


def content_digest(facts: Mapping[str, Fact]) -> bytes:
    """Of what an order says: names and contents, not versions."""
    return hashlib.sha256(
        "\0".join(f"{name}\0{facts[name].digest}" for name in sorted(facts)).encode()
    ).digest()


def has_changed(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> bool:
    if after is before:
        return False
    return not before or any(
        name not in before or before[name].digest != fact.digest for name, fact in after.items()
    )


def changed_facts(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> list[str]:
    """The facts whose content differs: without one there is no event. A newer version of the same
    content is no news.
    """
    if not before:
        return sorted(after)
    return sorted(
        name
        for name, fact in after.items()
        if name not in before or before[name].digest != fact.digest
    )


def is_verdict(name: str) -> bool:
    """Verdicts are said on a stream of their own."""
    return name.startswith(VERDICT)
