"""Stripe."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

from tests.support.callbacks import FIXTURES
from tests.support.vendors.vendor import Sample, Vendor

CREATED = 1_795_188_600  # 2026-11-20T15:30:00Z
FOLDER = FIXTURES / "stripe"


def stripe_object(name: str, /, **changes: object) -> dict[str, Any]:
    """An object as Stripe sends it, with other values where a test wants them."""
    return {**json.loads((FOLDER / f"{name}.json").read_bytes()), **changes}


def event(kind: str, data_object: Mapping[str, Any], /, **changes: object) -> dict[str, Any]:
    envelope = {
        "id": f"evt_{kind}",
        "object": "event",
        "api_version": "2025-09-30.clover",
        "created": CREATED,
        "data": {"object": data_object},
        "livemode": True,
        "pending_webhooks": 1,
        "request": {"id": "req_Example", "idempotency_key": None},
        "type": kind,
    }
    return {**envelope, **changes}


def sample(kind: str, name: str, /, **changes: object) -> Sample:
    return Sample(
        json.dumps(event(kind, stripe_object(name, **changes)), indent=2).encode()
    )  # Stripe indents


def stamped(body: bytes, secret: str, at: float) -> bytes:
    """The header."""
    signature = hmac.digest(secret.encode(), b"%d.%b" % (int(at), body), "sha256").hex()
    return f"t={int(at)},v1={signature},v0={'0' * 64}".encode()


def sign(sample: Sample, secret: str, at: float) -> Mapping[bytes, bytes]:
    return {b"stripe-signature": stamped(sample.body, secret, at)}


NOT_CAPTURED = {"captured": False, "amount_captured": 0}
OLD_REFUNDS = {
    "object": "list",
    "data": [
        stripe_object("refund"),
        stripe_object("refund", id="re_0000000000000002", amount=250),
    ],
}

VENDOR = Vendor(
    kind="stripe",
    secret="whsec_aSecretOfTheEndpoint32Letters",
    other_secret="whsec_theOneBeforeThatIsLeaving",
    samples={
        "paid": sample("payment_intent.succeeded", "payment_intent"),
        "refused": sample("payment_intent.payment_failed", "payment_intent", last_payment_error={"code": "card_declined"}),  # noqa: E501 - a table
        "canceled": sample("payment_intent.canceled", "payment_intent", cancellation_reason="abandoned"),  # noqa: E501 - a table
        "to be captured": sample("payment_intent.amount_capturable_updated", "payment_intent", amount_capturable=1500),  # noqa: E501 - a table
        "charged": sample("charge.succeeded", "charge"),
        "authorised": sample("charge.succeeded", "charge", **NOT_CAPTURED),
        "expired": sample("charge.expired", "charge", **NOT_CAPTURED),
        "captured in part": sample("charge.captured", "charge", amount_captured=1000),
        "declined": sample("charge.failed", "charge", **NOT_CAPTURED, failure_code="card_declined"),
        "refunded, as before 2022": sample("charge.refunded", "charge", amount_refunded=750, refunds=OLD_REFUNDS),  # noqa: E501 - a table
        "refunded, unnamed": sample("charge.refunded", "charge", amount_refunded=500),
        "a refund": sample("refund.created", "refund"),
        "a refund that failed": sample("refund.failed", "refund", status="failed", failure_reason="expired_or_canceled_card"),  # noqa: E501 - a table
        "a refund that moved": sample("charge.refund.updated", "refund", status="pending"),
        "disputed": sample("charge.dispute.created", "dispute"),
        "a dispute won": sample("charge.dispute.closed", "dispute", status="won"),
        "a dispute lost": sample("charge.dispute.closed", "dispute", status="lost"),
        "a dispute in new words": sample("charge.dispute.updated", "dispute", status="escalated"),
        "funds back": sample("charge.dispute.funds_reinstated", "dispute", status="won"),
        "warned": sample("radar.early_fraud_warning.created", "early_fraud_warning"),
        "in review": sample("review.opened", "review"),
        "reviewed": sample("review.closed", "review", open=False, closed_reason="approved"),
        "reviewed in new words": sample("review.closed", "review", open=False, closed_reason="timed_out"),  # noqa: E501 - a table
        "checked out": sample("checkout.session.completed", "checkout_session"),
        "of another kind": sample("customer.created", "payment_intent"),
        "of a new kind": sample("ledger.rewritten", "payment_intent"),
        "in test mode": Sample((FOLDER / "event.json").read_bytes()),
    },
    sign=sign,
    signs_time=True,
    card_data=(
        b"4242",
        b"2031",
        b"Xt5EWLLDS7FJjR1c",
        b"016153570198200",
        b"pay.stripe.com",
        b"GhostOfAClient",
    ),
)  # fmt: skip
