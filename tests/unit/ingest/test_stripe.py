"""What Stripe's bytes mean: signatures with a time, and facts that are named by what moved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas import structs
from schemas.fraud import FraudVerdict
from schemas.orders import Movement
from services.ingest import vendors
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.facts import ParsedCallback, merge_facts
from services.ingest.vendors.shared.source import WebhookRequest
from services.ingest.vendors.stripe import webhook as stripe
from services.ingest.vendors.stripe.events import TYPES
from tests.support.vendors import VENDORS
from tests.support.vendors.stripe import CREATED, event, stamped, stripe_object
from tests.support.vendors.vendor import NOW, Sample

STRIPE = VENDORS["stripe"]
PI, CH = "pi_0000000000000000", "ch_0000000000000000"


def read(body: dict[str, Any]) -> ParsedCallback:
    return vendors.parse(STRIPE.record(Sample(json.dumps(body).encode())))


def parse(kind: str, name: str, *, created: int = CREATED, **changes: object) -> ParsedCallback:
    return read(
        event(kind, stripe_object(name, **changes), id=f"evt_{kind}_{created}", created=created)
    )


def movements(callback: ParsedCallback) -> list[Movement]:
    return [structs.decode(Movement, fact.content) for fact in callback.movements]


def only(callback: ParsedCallback) -> Movement:
    (movement,) = movements(callback)
    return movement


def movement_fields(movement: Movement) -> tuple[str, str, str, str, int | None]:
    return (
        movement.kind,
        movement.reference,
        movement.payment,
        movement.state,
        movement.amount_minor,
    )


def verdict(callback: ParsedCallback) -> FraudVerdict:
    (fact,) = callback.movements
    return structs.decode(FraudVerdict, fact.content)


def ending(*callbacks: ParsedCallback) -> list[bytes]:
    """What is known in the end."""
    known = merge_facts({}, [fact for callback in callbacks for fact in callback.movements])
    return [known[name].content for name in sorted(known)]


# Proof of origin.

S1_BODY = b'{"id":"evt_test_webhook","object":"event"}'
S1 = b"88a022085c6bdb887b02cb26ff76dd681234d9675c0f22844059f55552a8883a"
S1_AT = 1_492_774_577


def delivered(
    header: bytes, *secrets: bytes, at: float = S1_AT, body: bytes = S1_BODY
) -> WebhookRequest:
    return WebhookRequest({stripe.SIGNATURE: header}, body, secrets or (b"whsec_test_secret",), at)


def test_the_signature_is_the_vendors() -> None:
    header = b"t=1492774577,v1=" + S1  # vector S1
    assert stripe.verify(delivered(header))
    assert stripe.verify(delivered(header, b"whsec_other", b"whsec_test_secret"))
    assert not stripe.verify(delivered(header, b"test_secret"))
    assert not stripe.verify(delivered(header, body=S1_BODY + b" "))


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        # a secret is being replaced at Stripe
        (b"t=1492774577,v1=" + b"0" * 64 + b",v1=" + S1, True),
        (b"t=1492774577,v0=" + b"0" * 64 + b",v1=" + S1, True),
        (b"t=1492774577, v1=" + S1, True),
        (b"t=1492774577,v0=" + S1, False),
        (b"t=1492774577", False),
        (b"v1=" + S1, False),
        (b"t=,v1=" + S1, False),
        (b"t=-1492774577,v1=" + S1, False),
        (b"t=1492774577.0,v1=" + S1, False),
        (b"t=01492774577,v1=" + S1, False),  # the text is signed, not the number
        (b"t=1492774577,v1=" + S1.upper(), False),
        (b"t=1492774577," + b"v1=0," * 9 + b"v1=" + S1, True),
        # an attacker's, to keep the endpoint busy
        (b"t=1492774577," + b"v1=0," * 9_999 + b"v1=" + S1, False),
    ],
)
def test_any_v1_proves_it_and_no_other_scheme(header: bytes, fits: bool) -> None:
    assert stripe.verify(delivered(header)) is fits


@pytest.mark.parametrize(
    ("off", "fits"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)]
)
def test_a_sender_may_be_as_far_off_as_the_endpoint_tolerates_either_way(
    off: float, fits: bool
) -> None:
    assert stripe.verify(delivered(b"t=1492774577,v1=" + S1, at=S1_AT + off)) is fits


def test_the_sample_of_the_wire_format_notes_verifies_and_is_kept_as_test_mode() -> None:
    sample = STRIPE.samples["in test mode"]
    header = stamped(sample.body, STRIPE.secret, NOW)
    assert stripe.verify(delivered(header, STRIPE.secret.encode(), at=NOW, body=sample.body))
    callback = vendors.parse(STRIPE.record(sample))
    assert (callback.key, callback.order_id, callback.payments, callback.movements) == (
        "vendor evt_1Example000000000000000",
        None,
        (),
        (),
    )
    assert [
        (drift_notice.kind, drift_notice.is_kept, drift_notice.is_reported)
        for drift_notice in callback.drift
    ] == [("test-mode", True, True)]


# Payments.


def test_a_payment_is_one_capture_whether_it_comes_as_an_intent_or_as_a_charge() -> None:
    intent = parse("payment_intent.succeeded", "payment_intent")
    charge = parse("charge.succeeded", "charge")
    assert movement_fields(only(intent)) == ("capture", PI, PI, "done", 1500)
    assert intent.key != charge.key
    assert ending(intent, charge) == ending(charge, intent) == ending(intent) == ending(charge)
    assert only(intent).currency == "EUR"
    assert intent.order_id == charge.order_id == "shop:727"
    assert intent.payments == charge.payments == (f"shop/{CH}", f"shop/{PI}")


def test_two_events_for_one_change_end_as_one_fact() -> None:
    for later in (0, 7):
        one = read(event("payment_intent.succeeded", stripe_object("payment_intent"), id="evt_1"))
        two = read(
            event(
                "payment_intent.succeeded",
                stripe_object("payment_intent"),
                id="evt_2",
                created=CREATED + later,
            )
        )
        assert one.key != two.key
        assert len(ending(one, two)) == 1
        assert ending(one, two) == ending(two, one) == ending(two)


@pytest.mark.parametrize(
    ("kind", "name", "changes", "expected"),
    [
        (
            "charge.succeeded",
            "charge",
            {"captured": False, "amount_captured": 0},
            ("authorisation", PI, PI, "done", 1500),
        ),
        (
            "payment_intent.amount_capturable_updated",
            "payment_intent",
            {"amount_capturable": 1200},
            ("authorisation", PI, PI, "done", 1200),
        ),
        ("charge.captured", "charge", {"amount_captured": 1000}, ("capture", PI, PI, "done", 1000)),
        ("charge.succeeded", "charge", {"payment_intent": None}, ("capture", CH, CH, "done", 1500)),
        (
            "payment_intent.payment_failed",
            "payment_intent",
            {},
            ("failure", PI, PI, "failed", 1500),
        ),
        ("charge.failed", "charge", {"captured": False}, ("failure", PI, PI, "failed", 1500)),
        (
            "payment_intent.canceled",
            "payment_intent",
            {},
            ("authorisation", PI, PI, "undone", 1500),
        ),
        (
            "charge.expired",
            "charge",
            {"captured": False},
            ("authorisation", PI, PI, "undone", 1500),
        ),
    ],
)
def test_what_becomes_of_a_payment_is_reported_under_its_name(
    kind: str, name: str, changes: dict[str, Any], expected: tuple[object, ...]
) -> None:
    assert movement_fields(only(parse(kind, name, **changes))) == expected


def test_a_charge_of_an_old_intent_joins_it_too() -> None:
    old = stripe_object(
        "payment_intent", latest_charge=None, charges={"object": "list", "data": [{"id": "ch_old"}]}
    )
    assert read(event("payment_intent.succeeded", old)).payments == ("shop/ch_old", f"shop/{PI}")


def test_a_canceled_intent_is_so_whatever_else_came_in_its_second() -> None:
    canceled = parse("payment_intent.canceled", "payment_intent")
    held = parse("payment_intent.amount_capturable_updated", "payment_intent")
    assert ending(canceled, held) == ending(held, canceled) == ending(canceled)


@pytest.mark.parametrize(
    "word", [None, "", "7 27", "7\u202e27", "?727", "7" * 201, ["727"], {"id": 1}, True, 7.5]
)
def test_an_order_reference_that_names_none_leaves_the_payment(word: object) -> None:
    callback = parse("payment_intent.succeeded", "payment_intent", metadata={"order_id": word})
    assert callback.order_id is None
    assert callback.payments
    assert len(callback.movements) == 1


def test_a_checkout_joins_order_and_payment_and_moves_nothing() -> None:
    callback = parse("checkout.session.completed", "checkout_session")
    assert (callback.order_id, callback.payments, callback.movements) == (
        "shop:727",
        (f"shop/{PI}",),
        (),
    )


def test_the_partition_is_that_of_the_order() -> None:
    for sample in ("paid", "charged", "checked out"):
        assert stripe.order_ids(STRIPE.samples[sample].body) == ("727",)
    assert stripe.order_ids(STRIPE.samples["disputed"].body) == (None,)
    assert stripe.order_ids(b'{"metadata":{"order_id":727}}') == ("727",)


# Refunds, disputes, warnings.


def test_refunds_in_part_are_movements_of_their_own() -> None:
    one = parse("refund.created", "refund")
    two = parse(
        "refund.created", "refund", id="re_0000000000000002", amount=250, created=CREATED + 5
    )
    known = [structs.decode(Movement, content) for content in ending(one, two)]
    assert [movement_fields(movement) for movement in known] == [
        ("refund", "re_0000000000000001", PI, "done", 500),
        ("refund", "re_0000000000000002", PI, "done", 250),
    ]
    assert one.payments == (f"shop/{CH}", f"shop/{PI}")


def test_the_refunds_in_a_charge_are_the_same_as_those_sent_by_themselves() -> None:
    charge = parse(
        "charge.refunded",
        "charge",
        refunds={"data": [stripe_object("refund", payment_intent=None)]},
    )
    assert ending(charge) == ending(charge, parse("refund.created", "refund"))


def test_a_charge_with_neither_its_refunds_nor_their_total_is_reported() -> None:
    callback = parse("charge.refunded", "charge", amount_refunded=None)
    assert callback.movements == ()
    assert callback.payments
    assert [(drift_notice.kind, drift_notice.is_reported) for drift_notice in callback.drift] == [
        ("refund-unnamed", True)
    ]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", "open"),
        ("requires_action", "open"),
        ("succeeded", "done"),
        ("failed", "failed"),
        ("canceled", "failed"),
    ],
)
def test_a_refund_has_the_state_of_its_status(status: str, state: str) -> None:
    callback = parse("refund.updated", "refund", status=status)
    assert only(callback).state == state
    later = parse("refund.failed", "refund", status="failed")
    assert ending(callback, later) == ending(later, callback) == ending(later)  # all in one second


def test_an_unknown_status_is_open_and_reported() -> None:
    for kind, name in (("refund.updated", "refund"), ("charge.dispute.updated", "dispute")):
        callback = parse(kind, name, status="escalated")
        assert only(callback).state == "open"
        (drift_notice,) = callback.drift
        assert (drift_notice.kind, drift_notice.cause, drift_notice.is_kept) == (
            "unknown-status",
            f"the {name} status 'escalated'",
            False,
        )


STEPS = [
    ("created", "needs_response", "open"),
    ("funds_withdrawn", "needs_response", "open"),
    ("updated", "under_review", "open"),
    ("closed", "won", "undone"),
    ("funds_reinstated", "won", "undone"),
]


def test_a_dispute_ends_as_it_was_closed_however_its_events_come_in_one_second() -> None:
    callbacks = [
        parse(f"charge.dispute.{step}", "dispute", status=status) for step, status, _ in STEPS
    ]
    assert [only(callback).state for callback in callbacks] == [state for _, _, state in STEPS]
    assert ending(*callbacks) == ending(*reversed(callbacks)) == ending(callbacks[-1])
    assert movement_fields(only(callbacks[-1])) == (
        "dispute",
        "dp_0000000000000001",
        PI,
        "undone",
        1500,
    )
    assert only(callbacks[-1]).detail == "won: fraudulent"
    lost = parse("charge.dispute.closed", "dispute", status="lost", created=CREATED + 1)
    assert only(lost).state == "done"


def test_an_early_fraud_warning_is_open_while_something_can_be_done() -> None:
    warned = parse("radar.early_fraud_warning.created", "early_fraud_warning")
    over = parse("radar.early_fraud_warning.updated", "early_fraud_warning", actionable=False)
    assert movement_fields(only(warned)) == ("warning", "issfr_0000000000000001", PI, "open", None)
    assert only(warned).detail == "made_with_stolen_card"
    assert ending(warned, over) == ending(over, warned) == ending(over)
    assert only(over).state == "done"


# Reviews.


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("approved", "approved"),
        ("acknowledged", "approved"),
        *(
            (reason, "declined")
            for reason in ("canceled", "disputed", "payment_never_settled", "redacted", "refunded")
        ),
        ("refunded_as_fraud", "declined"),
        ("timed_out", "pending"),
        (None, "pending"),
    ],
)
def test_only_an_approved_or_acknowledged_review_releases_an_order(
    reason: str | None, word: str
) -> None:
    opened = parse("review.opened", "review")
    closed = parse("review.closed", "review", open=False, closed_reason=reason)
    assert verdict(opened).verdict == "pending"
    assert verdict(closed).verdict == word
    assert [fact.name for fact in closed.movements] == ["verdict:vendor:prv_0000000000000001"]
    assert ending(opened, closed) == ending(closed, opened) == ending(closed)
    assert closed.payments == (f"shop/{PI}",)
    assert [drift_notice.kind for drift_notice in closed.drift] == (
        ["unknown-reason"] if word == "pending" else []
    )


# Amounts, drift, and callbacks that are only kept.


@pytest.mark.parametrize(
    ("currency", "stripe_minor", "minor"),
    [
        ("eur", 1500, 1500),
        ("jpy", 1500, 1500),
        ("kwd", 1500, 1500),
        ("isk", 1500, 15),
        ("ugx", 1500, 15),
        ("mga", 15, 1500),
    ],
)
def test_amounts_are_in_isos_minor_units(currency: str, stripe_minor: int, minor: int) -> None:
    movement = only(
        parse(
            "payment_intent.succeeded",
            "payment_intent",
            currency=currency,
            amount_received=stripe_minor,
        )
    )
    assert (movement.amount_minor, movement.currency) == (minor, currency.upper())


@pytest.mark.parametrize(
    ("changes", "text", "kind"),
    [
        (
            {"currency": "isk", "amount": 1501, "amount_received": 1501},
            "1501 ISK",
            "unreadable-amount",
        ),
        ({"currency": "irt"}, "1500 IRT", "unknown-currency"),
        ({"amount": 10**16, "amount_received": 10**16}, f"{10**16} EUR", "unreadable-amount"),
    ],
)
def test_an_amount_that_cannot_be_counted_is_kept_as_a_text(
    changes: dict[str, Any], text: str, kind: str
) -> None:
    callback = parse("payment_intent.succeeded", "payment_intent", **changes)
    movement = only(callback)
    assert (movement.state, movement.amount_minor, movement.amount_text) == ("done", None, text)
    assert [drift_notice.kind for drift_notice in callback.drift] == [kind]


def test_a_total_of_refunds_that_cannot_be_counted_is_no_fact_and_is_reported() -> None:
    callback = parse("charge.refunded", "charge", currency="irt", amount_refunded=500, refunds=None)
    assert not callback.movements
    assert [drift_notice.kind for drift_notice in callback.drift] == ["unknown-currency"]


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": "euro"},
        {"amount_received": "1500"},
        {"amount_received": 1500.5},
        {"id": "pi_ 1"},
        {"id": None},
    ],
)
def test_what_is_malformed_is_a_dead_letter_that_quotes_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(CallbackUnreadable) as caught:
        parse("payment_intent.succeeded", "payment_intent", **changes)
    assert "150" not in str(caught.value)
    assert "1000" not in str(caught.value)


def test_a_known_event_without_its_fields_is_a_dead_letter() -> None:
    for kind in TYPES:
        with pytest.raises(CallbackUnreadable, match="Field required"):
            read(event(kind, {"object": "anything"}))


@pytest.mark.parametrize(
    ("kind", "is_reported"),
    [
        ("ledger.rewritten", True),
        ("charge.dispute.appealed", True),
        ("refund.reversed", True),
        ("charge.updated", False),
        ("payment_intent.created", False),
        ("customer.subscription.updated", False),
        ("invoice.paid", False),
        ("payout.failed", False),
        ("balance.available", False),
    ],
)
def test_other_events_are_kept_and_only_unknown_types_are_reported(
    kind: str, is_reported: bool
) -> None:
    callback = read(event(kind, {"id": "x_1"}))
    assert (callback.order_id, callback.facts, callback.movements, callback.payments) == (
        None,
        (),
        (),
        (),
    )
    (drift_notice,) = callback.drift
    assert (drift_notice.kind, drift_notice.cause, drift_notice.is_kept) == (
        "unknown-type",
        f"the event type {kind!r}",
        True,
    )
    assert drift_notice.is_reported is is_reported


def test_a_refund_of_no_payment_is_kept() -> None:
    callback = parse("refund.created", "refund", charge=None, payment_intent=None)
    assert [
        (drift_notice.kind, drift_notice.is_kept, drift_notice.is_reported)
        for drift_notice in callback.drift
    ] == [("no-payment", True, False)]
    assert callback.movements == ()
