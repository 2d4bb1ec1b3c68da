"""A payment and its order meet, whichever comes first: an order knows what was reported of it and
of the payments that it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import structs
from schemas.fraud import FraudVerdict
from schemas.orders import Movement, MovementKind, Person, Storefront
from services.ingest.rules import facts
from services.ingest.rules.decide import (
    FACTS_MAX,
    JOINED_FACTS_MAX,
    ORDERS_MAX,
    PAYMENT_FACTS_MAX,
    CallbackOutcome,
    KnownOrder,
    KnownPayment,
    decide_batch,
)
from services.ingest.rules.facts import Fact, ParsedCallback

BEGIN = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
ORDERS, PAYMENTS = ("shop:1", "shop:2"), ("shop/pi_1", "shop/ch_1", "shop/pi_2")


def movement(
    reference: str = "re_1", kind: MovementKind = "refund", second: int = 0, amount: int = 500
) -> Fact:
    at = BEGIN + timedelta(seconds=second)
    return facts.movement_fact(
        Movement(
            gateway="gate",
            kind=kind,
            reference=reference,
            payment="pi_1",
            state="done",
            amount_minor=amount,
            at=at,
        )
    )


def from_shop(
    order_id: str, status: str = "completed", second: int = 0, payments: Sequence[str] = ()
) -> ParsedCallback:
    order = Storefront(
        status=status, currency="EUR", total_minor=100, buyer=Person(name="Ada"), lines=()
    )
    order_facts = facts.storefront_facts(order, BEGIN + timedelta(seconds=second))
    return facts.parsed_callback(
        f"{order_id} {second} {status}", order_id, order_facts, payments=payments
    )


def from_gateway(
    movements: Fact, payments: Sequence[str], order_id: str | None = None
) -> ParsedCallback:
    return facts.parsed_callback(
        f"gate {movements.name} {movements.version[:26]}",
        order_id,
        payments=payments,
        movements=(movements,),
    )


def checked(verdict: str, second: int, payments: Sequence[str]) -> ParsedCallback:
    at = BEGIN + timedelta(seconds=second)
    fraud_verdict = structs.convert(FraudVerdict, {"source": "gate", "verdict": verdict, "at": at})
    return from_gateway(facts.verdict_fact(fraud_verdict, check_id="prv_1"), payments)


class IngestTables(NamedTuple):
    """The tables, as they stand between two batches."""

    orders: dict[str, KnownOrder]
    payments: dict[str, KnownPayment]
    seen: list[tuple[str, bytes]]


def worked(
    batches: Sequence[Sequence[ParsedCallback]],
) -> tuple[IngestTables, list[CallbackOutcome]]:
    """As the worker does it: payments first, then the orders that are named and those that name the
    payments.
    """
    state, outcomes = IngestTables({}, {}, []), list[CallbackOutcome]()
    for batch in batches:
        payments = {
            name: state.payments.get(name, KnownPayment(name))
            for callback in batch
            for name in callback.payments
        }
        named = {callback.order_id for callback in batch if callback.order_id} | {
            o for payment in payments.values() for o in payment.orders
        }
        orders = {
            name: state.orders.get(name, KnownOrder(name, 1, 0, None, {}, frozenset()))
            for name in sorted(named)
        }
        decided = decide_batch(batch, orders, seen=state.seen, payments=payments)
        state.orders.update(decided.orders)
        state.payments.update(decided.payments)
        state.seen.extend((callback.key, callback.content_hash) for callback in batch)
        outcomes += decided.outcomes
    return state, outcomes


def known(state: IngestTables) -> dict[str, tuple[dict[str, Fact], bytes | None]]:
    """Return each order's facts, and the digest of what was published last."""
    return {name: (dict(order.facts), order.digest) for name, order in state.orders.items()}


some_payments = st.lists(st.sampled_from(PAYMENTS), max_size=2, unique=True)
named_payments = st.lists(st.sampled_from(PAYMENTS), min_size=1, max_size=2, unique=True)
callbacks = st.one_of(
    st.builds(
        from_shop,
        st.sampled_from(ORDERS),
        st.sampled_from(["pending", "processing", "refunded"]),
        st.integers(0, 2),
        some_payments,
    ),
    st.builds(
        from_gateway,
        st.builds(
            movement,
            st.sampled_from(["re_1", "re_2"]),
            second=st.integers(0, 2),
            amount=st.integers(1, 2),
        ),
        named_payments,
        st.none() | st.sampled_from(ORDERS),
    ),
    st.builds(checked, st.sampled_from(["pending", "approved"]), st.integers(0, 2), named_payments),
)


@st.composite
def two_tellings(draw: st.DrawFn) -> tuple[list[list[ParsedCallback]], list[list[ParsedCallback]]]:
    """One history, once in order, and again interleaved, repeated and cut into other batches."""
    history = draw(st.lists(callbacks, min_size=1, max_size=8))
    repeated = draw(st.permutations(history + draw(st.lists(st.sampled_from(history), max_size=4))))
    cuts = draw(st.lists(st.integers(1, 4), min_size=len(repeated), max_size=len(repeated)))
    batches, at = list[list[ParsedCallback]](), 0
    for size in cuts:
        if at < len(repeated):
            batches.append(repeated[at : at + size])
            at += size
    return [[callback] for callback in history], batches


@pytest.mark.feature("SF-014")
@settings(max_examples=1_000)
@given(two_tellings())
def test_any_interleaving_repetition_and_partitioning_of_a_history_gives_the_same_orders(
    tellings: tuple[list[list[ParsedCallback]], list[list[ParsedCallback]]],
) -> None:
    (once, _), (shuffled, _) = (worked(batches) for batches in tellings)
    assert known(once) == known(shuffled)
    assert {
        name: (payment.orders, dict(payment.facts)) for name, payment in once.payments.items()
    } == {
        name: (payment.orders, dict(payment.facts)) for name, payment in shuffled.payments.items()
    }


@given(two_tellings())
def test_an_order_knows_what_was_reported_of_the_payments_that_it_names_and_nothing_else(
    tellings: tuple[list[list[ParsedCallback]], list[list[ParsedCallback]]],
) -> None:
    """The same in one sentence, without the machinery."""
    state, _ = worked(tellings[1])
    history = [callback for batch in tellings[1] for callback in batch]
    for order_id, order in state.orders.items():
        own = [callback for callback in history if callback.order_id == order_id]
        paid = {name for callback in own for name in callback.payments}
        order_facts = [fact for callback in own for fact in callback.facts]
        order_facts += [
            fact
            for callback in history
            if callback.order_id == order_id or paid & set(callback.payments)
            for fact in callback.movements
        ]
        assert dict(order.facts) == dict(facts.merge_facts({}, order_facts))


@given(two_tellings())
def test_what_was_reported_before_changes_nothing(
    tellings: tuple[list[list[ParsedCallback]], list[list[ParsedCallback]]],
) -> None:
    once, _ = worked(tellings[1])
    twice, outcomes = worked([*tellings[1], *tellings[1]])
    assert {name: order.sequence for name, order in twice.orders.items()} == {
        name: order.sequence for name, order in once.orders.items()
    }
    assert set(outcomes[len(outcomes) // 2 :]) == {CallbackOutcome.DUPLICATE}


def test_a_payment_waits_for_its_order_and_the_order_for_its_payment() -> None:
    paid = from_gateway(movement(), ["shop/pi_1"])
    shop = from_shop("shop:1", payments=["shop/pi_1"])
    early, _ = worked([[paid], [shop]])
    late, _ = worked([[shop], [paid]])
    assert known(early) == known(late)
    assert "moved:gate:refund:re_1" in early.orders["shop:1"].facts
    assert early.orders["shop:1"].sequence == 1  # it was published once, whole
    assert late.orders["shop:1"].sequence == 2


def test_refunds_in_part_stand_side_by_side_with_their_amounts() -> None:
    shop = from_shop("shop:1", payments=["shop/pi_1"])
    refunds = [
        from_gateway(movement(name, amount=amount), ["shop/pi_1"])
        for name, amount in (("re_1", 200), ("re_2", 300))
    ]
    state, _ = worked([[shop], refunds])
    movements = [
        structs.decode(Movement, fact.content)
        for fact in state.orders["shop:1"].facts.values()
        if fact.name.startswith("moved:")
    ]
    assert sorted(movement.amount_minor or 0 for movement in movements) == [200, 300]


def test_a_word_that_a_shop_writes_into_every_order_joins_no_more_than_a_few() -> None:
    """Some plugins write "manual" in the place of the payment's name. No order may be
    lost for it.
    """
    order_facts = [from_shop(f"shop:{n}", payments=["shop/manual"]) for n in range(ORDERS_MAX + 10)]
    state, outcomes = worked([order_facts])
    assert set(outcomes) == {CallbackOutcome.APPLIED}
    assert len(state.payments["shop/manual"].orders) == ORDERS_MAX


def test_a_gateway_that_reports_too_much_of_a_payment_costs_no_order() -> None:
    shop = from_shop("shop:1", payments=["shop/pi_1"])
    flood = [from_gateway(movement(f"re_{n}"), ["shop/pi_1"]) for n in range(PAYMENT_FACTS_MAX + 5)]
    _, outcomes = worked([[shop], flood, [from_shop("shop:1", "refunded", 9)]])
    assert outcomes.count(CallbackOutcome.TOO_MANY_FACTS) == 5
    assert outcomes[-1] is CallbackOutcome.APPLIED
    statuses = [from_shop("shop:1", f"status-{n}", 10 + n) for n in range(FACTS_MAX)]
    _, outcomes = worked([[shop], flood, statuses])
    # only the order's own facts count
    assert outcomes[-FACTS_MAX:].count(CallbackOutcome.TOO_MANY_FACTS) == 2


def test_a_callback_that_is_only_kept_is_applied_once_whether_or_not_it_names_an_order() -> None:
    """A test notification may name an order that no source ever sends."""
    for order_id in (None, "shop:0"):
        kept = facts.parsed_callback(
            "gate test",
            order_id,
            drift=(facts.DriftNotice("gate", "test", "a test", b"{}", is_kept=True),),
        )
        state, outcomes = worked([[kept], [kept]])
        assert outcomes == [CallbackOutcome.APPLIED, CallbackOutcome.DUPLICATE]
        assert not any(order.sequence for order in state.orders.values())


def test_an_order_whose_id_stands_in_every_payment_stays_small() -> None:
    """A shop that gives its gateway one id for all of them loses none of its own facts, and its
    events stay readable.
    """
    shop = from_shop("shop:1", payments=["shop/pi_1"])
    flood = [
        from_gateway(movement(f"re_{n}"), [f"shop/pi_{n}"], "shop:1")
        for n in range(JOINED_FACTS_MAX + FACTS_MAX + 50)
    ]
    state, outcomes = worked(
        [
            [shop],
            *[flood[at : at + 50] for at in range(0, len(flood), 50)],
            [from_shop("shop:1", "refunded", 9)],
        ]
    )
    assert len(state.orders["shop:1"].facts) <= JOINED_FACTS_MAX + FACTS_MAX + 2
    assert CallbackOutcome.TOO_MANY_FACTS in outcomes
    assert outcomes[-1] is CallbackOutcome.APPLIED
