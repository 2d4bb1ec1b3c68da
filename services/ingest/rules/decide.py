"""Decides what a callback adds to what is known of its order and payments. Pure: no clock, no
randomness, no I/O.

An order has the facts that were reported of it and of the payments that it names. Both sets only
grow, and each fact only moves to a greater version. So an order is a function of the set of its
callbacks: their order, repeats and batches do not matter.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from typing import NamedTuple

from services.ingest.rules.facts import MOVED, VERDICT, Fact, ParsedCallback, merge_facts

FACTS_MAX = 100  # of an order itself: nearly all are statuses
PAYMENT_FACTS_MAX = 60  # of one payment: captures, refunds, disputes
JOINED_FACTS_MAX = 300  # of all payments that an order ever named
# Orders that one payment is joined to. A "payment" of more orders is a text that a shop writes into
# every order.
ORDERS_MAX = 20
INCIDENTS_MAX = 100  # kept of an order; more of them add nothing


class KnownOrder(NamedTuple):
    """All that is known of an order."""

    order_id: str
    generation: int
    sequence: int
    digest: bytes | None  # of what was published last
    facts: Mapping[str, Fact]
    incidents: frozenset[str]  # keys that came with different contents; they block nothing


class KnownPayment(NamedTuple):
    """What gateways reported of a payment, and which orders name it. It is kept while no order
    names it yet.
    """

    name: str
    orders: frozenset[str] = frozenset()
    facts: Mapping[str, Fact] = {}


class CallbackOutcome(Enum):  # in the order in which they are tried
    FORGED = auto()  # its proof came with another body before
    TOO_MANY_FACTS = auto()  # the order would have more facts than an order can have
    APPLIED = auto()  # a fact of the order or of a payment changed
    DUPLICATE = auto()  # its content was known, from this callback or another
    SUPERSEDED = auto()  # its content was not known, but newer content is


class DecidedBatch(NamedTuple):
    """What is known after a batch, and the outcome of each of its callbacks."""

    outcomes: list[CallbackOutcome]
    orders: dict[str, KnownOrder]
    payments: dict[str, KnownPayment]


def decide_order(
    order: KnownOrder, callback: ParsedCallback, content_hashes: AbstractSet[bytes]
) -> tuple[KnownOrder, CallbackOutcome]:
    """Decide a callback of one order. The order's facts decide, not the inbox: an order that is
    trashed, restored and trashed again sends the same callback twice, and both have an effect.
    """
    facts = merge_facts(order.facts, callback.facts)
    is_repeat = callback.content_hash in content_hashes
    if has_too_many_facts(facts):
        return order, CallbackOutcome.TOO_MANY_FACTS
    updated = with_facts(order, facts, _incidents(order, callback, content_hashes))
    if has_changed(order.facts, facts):
        return updated, CallbackOutcome.APPLIED
    is_known = is_repeat or all(
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
    """Return the order with these facts; the same object when nothing changes."""
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
    """Decide a callback that names payments. Return what changed and the outcome; one with too many
    facts changes nothing.
    """
    named_orders = (
        frozenset[str]() if callback.order_id is None else frozenset((callback.order_id,))
    )
    payments_after = [
        _with_callback(payments[name], callback, named_orders) for name in callback.payments
    ]
    order_ids = named_orders.union(*(payment.orders for payment in payments_after))
    after = {
        order_id: with_facts(
            orders[order_id],
            _joined_facts(orders[order_id], callback, payments_after),
            _incidents(orders[order_id], callback, content_hashes),
        )
        for order_id in sorted(order_ids)
    }
    if any(len(payment.facts) > PAYMENT_FACTS_MAX for payment in payments_after) or any(
        _is_over_a_limit(order, orders[name], callback) for name, order in after.items()
    ):
        return {}, {}, CallbackOutcome.TOO_MANY_FACTS
    changed = {
        payment.name: payment for payment in payments_after if payment is not payments[payment.name]
    }
    if any(has_changed(orders[name].facts, order.facts) for name, order in after.items()) or any(
        payment.orders != payments[name].orders or has_changed(payments[name].facts, payment.facts)
        for name, payment in changed.items()
    ):
        return after, changed, CallbackOutcome.APPLIED
    is_known = callback.content_hash in content_hashes or _is_known(
        callback, orders, payments_after
    )
    return after, changed, CallbackOutcome.DUPLICATE if is_known else CallbackOutcome.SUPERSEDED


def _joined_facts(
    order: KnownOrder, callback: ParsedCallback, payments: Sequence[KnownPayment]
) -> Mapping[str, Fact]:
    """Return the order's facts with those of the callback and of the payments that it names."""
    is_named = order.order_id == callback.order_id
    facts = merge_facts(order.facts, callback.facts if is_named else ())
    facts = merge_facts(facts, callback.movements)
    for payment in payments:
        if (
            order.order_id in payment.orders
            and len(facts) + len(payment.facts) <= JOINED_FACTS_MAX + FACTS_MAX
        ):
            facts = merge_facts(facts, payment.facts.values())
    return facts


def _is_over_a_limit(order: KnownOrder, before: KnownOrder, callback: ParsedCallback) -> bool:
    return has_too_many_facts(order.facts) or (
        bool(callback.movements) and has_too_many_joined_facts(order, before)
    )


def has_too_many_facts(facts: Mapping[str, Fact]) -> bool:
    """Return whether the order's own facts are too many. A gateway that reports too much must not
    cost the shop's facts.
    """
    return (
        len(facts) > FACTS_MAX
        and sum(not name.startswith((MOVED, VERDICT)) for name in facts) > FACTS_MAX
    )


def has_too_many_joined_facts(order: KnownOrder, before: KnownOrder) -> bool:
    """Return whether gateways reported more than an order can have, for example because a shop
    gives all payments one order's id.
    """
    return len(order.facts) > max(len(before.facts), JOINED_FACTS_MAX + FACTS_MAX)


def _with_callback(
    payment: KnownPayment, callback: ParsedCallback, order_ids: frozenset[str]
) -> KnownPayment:
    """Return the payment with the callback's facts; the same object when nothing changes."""
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
    fact_sets = [payment.facts for payment in payments_after]
    if callback.order_id is not None:
        order_facts = orders[callback.order_id].facts
        if any(order_facts[fact.name].digest != fact.digest for fact in callback.facts):
            return False
        fact_sets.append(order_facts)
    return all(
        facts[fact.name].digest == fact.digest for fact in callback.movements for facts in fact_sets
    )


def decide_batch(
    callbacks: Sequence[ParsedCallback],
    orders: Mapping[str, KnownOrder],
    seen: Iterable[tuple[str, bytes]],
    payments: Mapping[str, KnownPayment] | None = None,
) -> DecidedBatch:
    """Decide callbacks in order, each on what those before it left. A changed order takes one new
    sequence, however many callbacks changed it.

    `orders` and `payments` hold all that the callbacks name, and the orders that name the payments;
    unknown ones are in them, empty.
    """
    after, payments_after = dict(orders), dict(payments or {})
    seen_hashes = defaultdict[str, set[bytes]](set)
    outcomes = list[CallbackOutcome]()
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
        outcomes.append(_decide(callback, after, payments_after, content_hashes))
        content_hashes.add(callback.content_hash)
    return DecidedBatch(
        outcomes,
        {
            order_id: with_next_sequence(order, orders[order_id])
            for order_id, order in after.items()
        },
        payments_after,
    )


def _decide(
    callback: ParsedCallback,
    orders: dict[str, KnownOrder],
    payments: dict[str, KnownPayment],
    content_hashes: AbstractSet[bytes],
) -> CallbackOutcome:
    """Decide one callback, and put what it changes into `orders` and `payments`."""
    # without facts it only requests an order fetch, or is only kept
    if not (callback.facts or callback.payments or callback.movements):
        is_known = callback.content_hash in content_hashes
        return CallbackOutcome.DUPLICATE if is_known else CallbackOutcome.APPLIED
    if callback.order_id is not None and not callback.payments and not callback.movements:
        orders[callback.order_id], outcome = decide_order(
            orders[callback.order_id], callback, content_hashes
        )
        return outcome
    changed_orders, changed_payments, outcome = decide_joined(
        callback, orders, payments, content_hashes
    )
    orders.update(changed_orders)
    payments.update(changed_payments)
    return outcome


def with_next_sequence(order: KnownOrder, before: KnownOrder) -> KnownOrder:
    """Return the order with its next sequence if its content differs from what was published
    last.
    """
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
    """Return a digest of names and contents, without versions."""
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
    """Return the names of the facts whose content differs. A newer version of the same content is
    not a change, and publishes no event.
    """
    if not before:
        return sorted(after)
    return sorted(
        name
        for name, fact in after.items()
        if name not in before or before[name].digest != fact.digest
    )


def is_verdict(name: str) -> bool:
    """Return whether the fact is a verdict; verdicts have a topic of their own."""
    return name.startswith(VERDICT)
