"""Verdicts of fraud checkers on a real database: before the order and after it, changed, replayed,
and by several at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from schemas.fraud import FraudSignals
from schemas.orders import OrderObserved
from services.ingest.vendors.riskified import webhook as riskified
from services.ingest.vendors.signifyd import webhook as signifyd
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Dead, Duplicate, Effect, Outcome, Record, Superseded
from tests.support.callbacks import record, woo_order
from tests.support.ingest import work
from tests.support.vendors import paypal
from tests.support.vendors import riskified as riskified_vendor
from tests.support.vendors import signifyd as signifyd_vendor
from tests.support.vendors.paypal import VENDOR as PAYPAL


def at(second: int) -> str:
    return f"2026-11-20T15:{30 + second // 60}:{second % 60:02d}.000000Z"


def risk(status: str, before: str | None, second: int = 0) -> Record:
    body = riskified_vendor.decision(status, before)
    return record(
        body, kind=riskified.SOURCE.type, source="riskified", orders_of="shop", at=at(second)
    )


def sign(action: str, second: int = 0) -> Record:
    body = signifyd_vendor.decision(action, at(second))
    return record(
        body, kind=signifyd.SOURCE.type, source="signifyd", orders_of="shop", at=at(second)
    )


def order() -> Record:
    return record(woo_order(status="processing"))


def events(outcomes: Sequence[Outcome]) -> Iterator[FraudSignals | OrderObserved]:
    """As readers on the other side of the broker read them."""
    for outcome in outcomes:
        for event in outcome.outputs if isinstance(outcome, Effect) else ():
            output = event.encode(time="2026-11-20T15:30:00.000000Z", traceparent=None)
            schema = FraudSignals if output.topic == FraudSignals.topic else OrderObserved
            yield schema.read(output.headers, output.value)


def words(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    signals = [event for event in events(outcomes) if isinstance(event, FraudSignals)]
    return [
        {name: verdict.verdict for name, verdict in published.verdicts.items()}
        for published in signals
    ]


def test_a_verdict_that_overtakes_its_order_is_published_and_kept(session: Session) -> None:
    early = work(session, risk("approved", "submitted"))
    observed, published = events(early)
    assert isinstance(observed, OrderObserved)  # nothing is known but that somebody checks it
    assert (observed.storefront, observed.new) == (
        None,
        ("verdict:riskified|submitted>approved/approved",),
    )
    assert isinstance(published, FraudSignals)
    assert (published.key, published.source, published.external_id, published.sequence) == (
        "shop:727",
        "shop",
        "727",
        1,
    )
    (observed,) = events(work(session, order()))
    assert isinstance(observed, OrderObserved)
    assert observed.sequence == 2
    assert observed.storefront is not None
    assert words(work(session, sign("ACCEPT"))) == [
        {"riskified": "approved", "signifyd": "approved"}
    ]


def test_a_verdict_after_its_order_is_published_beside_it_with_all_other_verdicts(
    session: Session,
) -> None:
    work(session, order())
    outcomes = work(
        session, risk("submitted", None), sign("HOLD"), risk("approved", "submitted", 1)
    )
    assert words(outcomes) == [{"riskified": "approved", "signifyd": "pending"}]
    (observed,) = [event for event in events(outcomes) if isinstance(event, OrderObserved)]
    assert {name.partition(":")[0] for name in observed.new} == {"verdict"}


def test_order_and_verdict_of_one_batch_are_published_to_both_topics(session: Session) -> None:
    outcomes = work(session, order(), risk("declined", "submitted"))
    assert sorted(type(event).__name__ for event in events(outcomes)) == [
        "FraudSignals",
        "OrderObserved",
    ]


def test_a_decision_changes_and_its_replay_changes_nothing(session: Session) -> None:
    assert words(work(session, risk("approved", "submitted"))) == [{"riskified": "approved"}]
    assert words(work(session, risk("declined", "approved", 10))) == [{"riskified": "declined"}]
    replayed = work(session, risk("approved", "submitted", 600))
    assert [type(outcome) for outcome in replayed] == [Duplicate]
    assert words(work(session, sign("REJECT", 10))) == [
        {"riskified": "declined", "signifyd": "declined"}
    ]
    assert [type(outcome) for outcome in work(session, sign("ACCEPT", 5))] == [Superseded]
    assert words(work(session, sign("ACCEPT", 20))) == [
        {"riskified": "declined", "signifyd": "approved"}
    ]


def test_an_honest_later_approval_releases(session: Session) -> None:
    work(session, risk("declined", "submitted"))
    assert words(work(session, risk("approved", "declined", 10))) == [{"riskified": "approved"}]
    assert [type(outcome) for outcome in work(session, risk("declined", "submitted", 20))] == [
        Duplicate
    ]


def test_unknown_words_are_pending_and_reported_to_a_person(session: Session) -> None:
    assert words(work(session, risk("half-approved", "submitted"))) == [{"riskified": "pending"}]
    reported = session.execute(b"select kind, cause from ingest.drift_notices").fetchall()
    session.rollback()
    assert reported == [("unknown-status", "half-approved")]


def test_what_nothing_acts_on_is_kept_whole(session: Session) -> None:
    kind = "stubline.callback.paypal.v1"
    work(
        session, record(paypal.APPROVED, kind=kind, source="paypal", orders_of="shop", order="727")
    )
    kept = session.execute(b"select source, cause, body from ingest.kept_callbacks").fetchall()
    reported = session.execute(b"select count(*) from ingest.drift_notices").fetchall()
    session.rollback()
    assert kept == [("paypal", "CHECKOUT.ORDER.APPROVED", paypal.APPROVED)]
    assert reported == [(0,)]  # it is known, and no drift


def test_a_test_notification_leaves_no_order(session: Session) -> None:
    body = riskified_vendor.VENDOR.samples["test"].body
    outcomes = work(
        session, record(body, kind=riskified.SOURCE.type, source="riskified", orders_of="shop")
    )
    assert not list(events(outcomes))
    counted = session.execute(b"select count(*) from ingest.orders").fetchall()
    session.rollback()
    assert counted == [(0,)]


@pytest.mark.parametrize("is_first", [True, False])
def test_what_paypal_reports_of_a_payment_meets_the_order_whichever_comes_first(
    session: Session, is_first: bool
) -> None:
    """The event names no order: shop and PayPal agree on the capture alone."""
    shop = record(woo_order(transaction_id="42311647XV020574X", meta_data=[]))
    bodies = (paypal.event(paypal.CAPTURE, custom_id=None, invoice_id=None), paypal.DISPUTE)
    kind = "stubline.callback.paypal.v1"
    paid = [
        record(body, kind=kind, source="paypal", orders_of="shop", reception_id=f"transmission-{n}")
        for n, body in enumerate(bodies)
    ]
    batches = [paid, [shop]] if is_first else [[shop], paid]
    published = [
        event
        for batch in batches
        for event in events(work(session, *batch))
        if isinstance(event, OrderObserved)
    ]
    assert [
        (movement.kind, movement.state, movement.amount_minor)
        for movement in published[-1].movements
    ] == [
        ("capture", "done", 1500),
        ("dispute", "open", 1500),
    ]
    assert published[-1].storefront is not None


def test_a_transmission_of_paypal_proves_one_body_and_no_other(session: Session) -> None:
    """It signs a checksum of the body, which can be kept while the body is changed."""
    genuine, other = PAYPAL.samples["captured"], PAYPAL.samples["refunded in part"]
    first = PAYPAL.record(genuine)
    forged = PAYPAL.record(other)
    as_if = [
        (name, dict(first.headers)["ce_id"]) if name == "ce_id" else (name, text)
        for name, text in forged.headers
    ]
    forged = forged._replace(headers=as_if)
    for batches in ([[first], [forged], [forged]], [[first, forged]]):
        session.execute(b"truncate ingest.orders, ingest.callbacks, ingest.payments")
        session.commit()
        outcomes = [outcome for batch in batches for outcome in work(session, *batch)]
        assert isinstance(outcomes[0], Effect)
        for outcome in outcomes[1:]:
            assert isinstance(outcome, Dead)
            assert outcome.error.code == "ingest-proof-reused"
        assert [type(outcome) for outcome in work(session, first, forged, first)] == [
            Duplicate,
            Dead,
            Duplicate,
        ]
        assert [type(outcome) for outcome in work(session, forged, first)] == [Dead, Duplicate]
    repeated = PAYPAL.record(genuine)._replace(
        headers=[*first.headers, ("ce_id", b"another-transmission-of-it")]
    )
    assert [type(outcome) for outcome in work(session, repeated)] == [Duplicate]


def test_what_is_forged_leaves_no_trace_by_which_the_genuine_would_be_known(
    session: Session,
) -> None:
    other, first = (
        PAYPAL.record(PAYPAL.samples["approved by the buyer"]),
        PAYPAL.record(PAYPAL.samples["captured"]),
    )
    as_if = [
        (name, dict(first.headers)["ce_id"]) if name == "ce_id" else (name, text)
        for name, text in other.headers
    ]
    outcomes = (
        work(session, first) + work(session, other._replace(headers=as_if)) + work(session, other)
    )
    assert [type(outcome) for outcome in outcomes] == [Effect, Dead, Effect]
    assert session.execute(b"select count(*) from ingest.kept_callbacks").fetchall() == [(1,)]
