"""Payments and orders meet in ingest, whichever comes first: what gateways report becomes movements
and verdicts of the order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import msgspec
import pytest

from schemas.fraud import FraudSignals
from schemas.orders import OrderDecided, OrderObserved
from services.ingest import vendors, worker
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Duplicate, Effect, Outcome, Record
from tests.support.callbacks import record, woo_order
from tests.support.stages import Stages, opened, outputs_of
from tests.support.vendors import VENDORS, Sample
from tests.support.vendors.adyen import PAYMENT, item, modified
from tests.support.vendors.adyen import sample as notification
from tests.support.vendors.stripe import CREATED, event, stripe_object

PI = "pi_0000000000000000"  # as the shop's sample order names it
AT = "2026-11-20T15:30:00.000000Z"


@pytest.fixture
def stages(database_url: str) -> Iterator[Stages]:
    with opened(database_url) as opened_session:
        yield opened_session


@pytest.fixture
def session(stages: Stages) -> Session:
    return stages.session


class Published(NamedTuple):
    """What a reader on the other side of the broker has."""

    orders: list[OrderObserved]
    signals: list[FraudSignals]
    outcomes: list[Outcome]


def work(session: Session, *records: Record) -> Published:
    """As the lane does: parsed alone, decided together, committed."""
    published = Published(
        [], [], worker.handle([vendors.parse(record) for record in records], session)
    )
    session.commit()
    for outcome in published.outcomes:
        for snapshot in outcome.outputs if isinstance(outcome, Effect) else ():
            output = snapshot.encode(time=AT, traceparent=None)
            if output.topic == OrderObserved.topic:
                published.orders.append(OrderObserved.read(output.headers, output.value))
            else:
                published.signals.append(FraudSignals.read(output.headers, output.value))
    return published


def one_by_one(session: Session, records: Sequence[Record]) -> Published:
    published = [work(session, record) for record in records]
    return Published(
        [order for each in published for order in each.orders],
        [signal for each in published for signal in each.signals],
        [outcome for each in published for outcome in each.outcomes],
    )


def shop(status: str = "completed", reference: str = PI, **more: object) -> Record:
    meta = [{"id": 1, "key": "_stripe_intent_id", "value": reference}]
    return record(woo_order(status=status, meta_data=meta, transaction_id="", **more))


def stripe(
    kind: str,
    name: str,
    *,
    second: int = 0,
    event_id: str = "",
    reception_id: str = "a-1",
    **changes: object,
) -> Record:
    """Return an Event of a payment that names no order, unless the test sets one."""
    data_object = stripe_object(name, **{"metadata": {}, **changes})
    body = event(kind, data_object, id=event_id or f"evt_{kind}_{second}", created=CREATED + second)
    return VENDORS["stripe"].record(
        Sample(json.dumps(body).encode()), slug="stripe", reception_id=reception_id
    )


def adyen(code: str, reference: str = PAYMENT, **changes: object) -> Record:
    notified = (
        item(eventCode=code, **changes)
        if reference == PAYMENT
        else modified(code, reference, **changes)
    )
    return VENDORS["adyen"].record(notification(notified), slug="adyen")


def movements(observed: OrderObserved) -> list[tuple[str, str, str, int | None]]:
    return [
        (movement.kind, movement.reference, movement.state, movement.amount_minor)
        for movement in observed.movements
    ]


def without_its_position(observed: OrderObserved) -> OrderObserved:
    return msgspec.structs.replace(observed, sequence=1, new=())


def emptied(session: Session) -> None:
    session.execute(
        b"truncate ingest.orders, ingest.callbacks, ingest.payments, ingest.drift_notices, "
        b"ingest.kept_callbacks"
    )
    session.commit()


def test_the_payment_may_come_before_its_order_and_after_it(session: Session) -> None:
    paid, order = stripe("payment_intent.succeeded", "payment_intent"), shop()
    early = work(session, paid)
    assert early.orders == []  # it waits: no order names it yet
    ends = [work(session, order).orders[-1]]
    emptied(session)
    ends.append(one_by_one(session, [order, paid]).orders[-1])
    emptied(session)
    ends.append(work(session, paid, order).orders[-1])
    assert (
        without_its_position(ends[0])
        == without_its_position(ends[1])
        == without_its_position(ends[2])
    )
    assert movements(ends[0]) == [("capture", PI, "done", 1500)]
    assert ends[0].key == "shop:727"


def test_refunds_in_part_add_up_whatever_comes_first(session: Session) -> None:
    history = [
        shop(),
        stripe("charge.succeeded", "charge"),
        stripe("refund.created", "refund", second=10),
        stripe("refund.created", "refund", second=20, id="re_0000000000000002", amount=250),
    ]
    ends = []
    for sent in permutations(history):
        ends.append(without_its_position(one_by_one(session, sent).orders[-1]))
        emptied(session)
    assert all(end == ends[0] for end in ends)
    observed = work(session, *history).orders[-1]
    assert movements(observed) == [
        ("capture", PI, "done", 1500),
        ("refund", "re_0000000000000001", "done", 500),
        ("refund", "re_0000000000000002", "done", 250),
    ]
    assert (
        sum(
            movement.amount_minor or 0
            for movement in observed.movements
            if movement.kind == "refund"
        )
        == 750
    )


def test_a_refund_that_has_no_name_reaches_its_order_with_its_amount_whatever_comes_first(
    session: Session,
) -> None:
    """As every refund of a charge comes in the versions of Stripe's API from 2022-11-15 to
    2024-10-28.
    """
    history = [
        shop(),
        stripe("charge.succeeded", "charge"),
        stripe("charge.refunded", "charge", second=10, amount_refunded=500),
        stripe("charge.refunded", "charge", second=20, amount_refunded=1500, refunded=True),
    ]
    for sent in permutations(history):
        published = one_by_one(session, sent)
        assert movements(published.orders[-1]) == [
            ("capture", PI, "done", 1500),
            ("refund", "ch_0000000000000000", "done", 1500),
        ]
        emptied(session)


def test_a_dispute_that_is_won_is_undone(session: Session) -> None:
    closed = stripe("charge.dispute.closed", "dispute", second=20, status="won")
    begun = stripe("charge.dispute.created", "dispute", second=10)
    published = one_by_one(session, [shop(), begun, closed, begun])
    assert [movements(order) for order in published.orders[1:]] == [
        [("dispute", "dp_0000000000000001", "open", 1500)],
        [("dispute", "dp_0000000000000001", "undone", 1500)],
    ]


def test_an_early_fraud_warning_reaches_the_order_by_its_payment(session: Session) -> None:
    published = one_by_one(
        session, [shop(), stripe("radar.early_fraud_warning.created", "early_fraud_warning")]
    )
    (warning,) = published.orders[-1].movements
    assert (warning.kind, warning.state, warning.detail) == (
        "warning",
        "open",
        "made_with_stolen_card",
    )
    assert published.signals == []


def test_a_review_is_a_signal_pending_first_and_approved_later(session: Session) -> None:
    opened_, closed = (
        stripe("review.opened", "review"),
        stripe("review.closed", "review", second=60, closed_reason="approved"),
    )
    published = one_by_one(session, [shop(), opened_, closed, opened_])
    name = "stripe:prv_0000000000000001"
    assert [
        {key: verdict.verdict for key, verdict in signal.verdicts.items()}
        for signal in published.signals
    ] == [
        {name: "pending"},
        {name: "approved"},
    ]
    assert [signal.key for signal in published.signals] == ["shop:727", "shop:727"]
    assert [order.sequence for order in published.orders] == [
        1,
        2,
        3,
    ]  # every sequence is observed too: no reader misses one
    emptied(session)
    early = one_by_one(session, [closed, opened_, shop()])
    assert [signal.verdicts[name].verdict for signal in early.signals] == ["approved"]


@pytest.mark.feature("SF-014")
@pytest.mark.parametrize("times", [2, 5, 100])
def test_a_payment_reported_many_times_is_one_movement(session: Session, times: int) -> None:
    work(session, shop())
    copies = [
        stripe("payment_intent.succeeded", "payment_intent", reception_id=f"r-{n}")
        for n in range(times)
    ]
    at_once = work(session, *copies)
    spaced = one_by_one(session, copies[:5])
    assert [type(outcome) for outcome in at_once.outcomes] == [Effect] + [Duplicate] * (times - 1)
    assert {type(outcome) for outcome in spaced.outcomes} == {Duplicate}
    (observed,) = at_once.orders + spaced.orders
    assert movements(observed) == [("capture", PI, "done", 1500)]


def test_two_events_for_one_change_publish_one_thing(session: Session) -> None:
    published = one_by_one(
        session,
        [
            shop(),
            stripe("payment_intent.succeeded", "payment_intent", event_id="evt_1"),
            stripe("payment_intent.succeeded", "payment_intent", event_id="evt_2"),
            stripe("charge.succeeded", "charge", event_id="evt_3"),
        ],
    )
    assert len(published.orders) == 2
    assert movements(published.orders[-1]) == [("capture", PI, "done", 1500)]


def test_a_payment_that_names_its_order_waits_for_nothing(session: Session) -> None:
    (observed,) = work(
        session, stripe("charge.succeeded", "charge", metadata={"order_id": "727"})
    ).orders
    assert observed.storefront is None
    assert movements(observed) == [("capture", PI, "done", 1500)]
    later = one_by_one(session, [stripe("charge.dispute.created", "dispute"), shop(reference="")])
    assert [movement.kind for movement in later.orders[-1].movements] == ["capture", "dispute"]
    assert later.orders[-1].storefront is not None


def test_a_checkout_joins_a_payment_that_names_no_order(session: Session) -> None:
    joined = stripe("checkout.session.completed", "checkout_session", metadata={"order_id": "727"})
    history = [shop(reference=""), stripe("payment_intent.succeeded", "payment_intent"), joined]
    for sent in permutations(history):
        published = one_by_one(session, sent)
        assert movements(published.orders[-1]) == [("capture", PI, "done", 1500)]
        emptied(session)


def test_adyen_meets_its_order_both_ways_and_keeps_the_last_stage(session: Session) -> None:
    order = shop(reference=PAYMENT)
    history = [
        adyen("AUTHORISATION", merchantReference=""),
        order,
        adyen(
            "REFUND",
            "REF0000000000001",
            merchantReference="",
            amount={"currency": "EUR", "value": 500},
        ),
        adyen("CHARGEBACK", "DIS0000000000001", merchantReference=""),
        adyen("CHARGEBACK_REVERSED", "DIS0000000000001", merchantReference=""),
    ]
    ends = []
    for sent in permutations(history):
        ends.append(without_its_position(one_by_one(session, sent).orders[-1]))
        emptied(session)
    assert all(end == ends[0] for end in ends)
    observed = work(session, *history).orders[-1]
    assert movements(observed) == [
        ("authorisation", PAYMENT, "done", 1500),
        ("dispute", "DIS0000000000001", "undone", 1500),
        ("refund", "REF0000000000001", "done", 500),
    ]


def test_a_chargeback_sent_again_with_a_false_date_changes_nothing(session: Session) -> None:
    done = adyen("CHARGEBACK", "DIS0000000000001")
    replayed = adyen("CHARGEBACK", "DIS0000000000001", eventDate="2199-01-01T00:00:00Z")
    published = one_by_one(
        session, [done, adyen("CHARGEBACK_REVERSED", "DIS0000000000001"), replayed]
    )
    assert [movements(order) for order in published.orders] == [
        [("dispute", "DIS0000000000001", "done", 1500)],
        [("dispute", "DIS0000000000001", "undone", 1500)],
    ]


def test_what_nothing_acts_on_is_kept_whole_and_only_drift_is_counted(
    session: Session,
) -> None:
    sent = [
        stripe("ledger.rewritten", "payment_intent"),
        stripe("customer.created", "payment_intent"),
        adyen("REPORT_AVAILABLE"),
        adyen("LEDGER_REWRITTEN"),
    ]
    assert work(session, *sent).orders == []
    kept = session.execute(b"select body from ingest.kept_callbacks order by key").fetchall()
    drift_notices = session.execute(
        b"select source, kind, cause from ingest.drift_notices order by source"
    ).fetchall()
    session.rollback()
    assert sorted(bytes(body) for (body,) in kept) == sorted(
        callback.value or b"" for callback in sent
    )
    assert drift_notices == [
        ("adyen", "unknown-type", "the event code 'LEDGER_REWRITTEN'"),
        ("stripe", "unknown-type", "the event type 'ledger.rewritten'"),
    ]


def test_approval_still_decides_on_orders_that_gateways_report_on(stages: Stages) -> None:
    published = one_by_one(
        stages.session,
        [
            stripe("charge.succeeded", "charge", metadata={"order_id": "727"}),
            shop("processing"),
            shop("completed", date_modified_gmt="2026-11-20T15:29:00"),
            stripe("charge.dispute.created", "dispute", second=90),
        ],
    )
    decided = [
        OrderDecided.read(output.headers, output.value).state
        for observed in published.orders
        for output in outputs_of(stages.approve(observed))
    ]
    assert len(published.orders) == 4
    assert decided == [
        "observed",
        "observed",
        "released",
    ]  # a dispute alone changes no decision yet
