"""The facts in Stripe's Events. Pure.

A payment comes as an intent and as a charge, so captures are named by the payment, and only refunds
and disputes by themselves. Nothing is added up from Events: the refunded amount of a charge is a
total that Stripe has computed (`rules.refunds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from schemas.fraud import FraudStatus, FraudVerdict
from schemas.orders import Movement, MovementKind, MovementState
from services.ingest.rules import facts
from services.ingest.rules.refunds import RefundedTotal, refunds_fact
from services.ingest.vendors.shared.gateway import (
    CountedAmount,
    counted_amount,
    quoted,
    to_iso_minor,
)
from services.ingest.vendors.shared.source import ReceivedCallback
from services.ingest.vendors.shared.text import clean
from services.ingest.vendors.stripe.objects import (
    StripeCharge,
    StripeDispute,
    StripeEvent,
    StripeFraudWarning,
    StripeMoney,
    StripeObject,
    StripePaymentIntent,
    StripeRefund,
    StripeReview,
)

# Stripe counts these otherwise than ISO: ISK and UGX in hundredths, MGA in whole units.
OWN_DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}
# Before this API version, what was released instead of captured is reported as refunded.
RELEASED_UNTIL = "2025-03-31"
NEVER_CAPTURED = "expired_uncaptured_charge"


class PaymentStage(NamedTuple):
    """The state that a status means, and its rank: of two statuses in the same second, the one with
    the greater rank came later.
    """

    state: MovementState
    rank: int


REFUNDS: Mapping[str, PaymentStage] = {
    "pending": PaymentStage("open", 30),
    "requires_action": PaymentStage("open", 31),
    "succeeded": PaymentStage("done", 50),
    "canceled": PaymentStage("failed", 70),
    "failed": PaymentStage("failed", 71),
}
DISPUTES: Mapping[str, PaymentStage] = {
    "warning_needs_response": PaymentStage("open", 10),  # an inquiry: no money has moved
    "warning_under_review": PaymentStage("open", 11),
    "needs_response": PaymentStage("open", 20),
    "under_review": PaymentStage("open", 21),
    "warning_closed": PaymentStage("undone", 50),
    "charge_refunded": PaymentStage("undone", 51),
    "prevented": PaymentStage("undone", 52),
    "lost": PaymentStage("done", 60),
    "won": PaymentStage("undone", 61),
}
UNKNOWN = PaymentStage("open", 40)
# Of a payment itself.
DONE = PaymentStage("done", 50)
FAILED = PaymentStage("failed", 50)
ENDED = PaymentStage("undone", 80)  # canceled or expired
FRAUD_STATUS_BY_CLOSED_REASON: Mapping[str, FraudStatus] = {
    "approved": "approved",
    "acknowledged": "approved",
    **dict.fromkeys(
        (
            "canceled",
            "disputed",
            "payment_never_settled",
            "redacted",
            "refunded",
            "refunded_as_fraud",
        ),
        "declined",
    ),
}
FactsAndDrift = tuple[tuple[facts.Fact, ...], tuple[facts.DriftNotice, ...]]


def payment_of(stripe_object: StripeObject) -> str:
    """Return the name of the object's payment."""
    return next(filter(None, stripe_object.references), stripe_object.id)


class StripeCallback(NamedTuple):
    """An Event and the callback that carried it."""

    received: ReceivedCallback
    event: StripeEvent

    def movement_fact(
        self,
        stripe_object: StripeObject,
        kind: MovementKind,
        stage: PaymentStage,
        minor: int | None = None,
        *,
        detail: str | None = "",
        by_payment: bool = False,
    ) -> facts.Fact:
        payment = payment_of(stripe_object)
        currency = (
            stripe_object.currency.upper()
            if isinstance(stripe_object, StripeMoney) and minor is not None
            else None
        )
        money = CountedAmount()
        if minor is not None and currency is not None:
            money = counted_amount(to_iso_minor(minor, currency, OWN_DIGITS), minor, currency)
        movement = Movement(
            gateway=self.received.source,
            kind=kind,
            reference=payment if by_payment else stripe_object.id,
            payment=payment,
            state=stage.state,
            detail=clean(detail or "", 200),
            at=self.event.at,
            **money._asdict(),
        )
        return facts.movement_fact(movement, rank=stage.rank)

    def payment_movement(
        self,
        stripe_object: StripeObject,
        kind: MovementKind,
        stage: PaymentStage,
        minor: int,
        *,
        detail: str | None = "",
    ) -> FactsAndDrift:
        """Return a movement of the payment itself, under the payment's name."""
        fact = self.movement_fact(stripe_object, kind, stage, minor, detail=detail, by_payment=True)
        return (fact,), ()

    def refunds_facts(self, charge: StripeCharge) -> tuple[facts.Fact, ...]:
        """Return the total of a charge's refunds; nothing if its currency cannot be counted."""
        currency = charge.currency.upper()
        released_amount = never_captured_minor(self.event, charge)
        refunded_amount = max(0, (charge.amount_refunded or 0) - released_amount)
        refunded_minor = to_iso_minor(refunded_amount, currency, OWN_DIGITS)
        released_minor = to_iso_minor(released_amount, currency, OWN_DIGITS)
        if refunded_minor is None or released_minor is None:
            return ()
        total = RefundedTotal(
            gateway=self.received.source,
            reference=charge.id,
            payment=payment_of(charge),
            refunded_minor=refunded_minor,
            released_minor=released_minor,
            currency=currency,
            at=self.event.at,
        )
        return (refunds_fact(total),)

    def unknown(self, kind: str, cause: str) -> tuple[facts.DriftNotice, ...]:
        return (facts.DriftNotice(self.received.source, kind, cause, self.received.body),)


def captured(callback: StripeCallback, intent: StripePaymentIntent) -> FactsAndDrift:
    minor = amount_or_full(intent.amount_received, intent)
    return callback.payment_movement(intent, "capture", DONE, minor)


def authorised(callback: StripeCallback, intent: StripePaymentIntent) -> FactsAndDrift:
    minor = amount_or_full(intent.amount_capturable, intent)
    return callback.payment_movement(intent, "authorisation", DONE, minor)


def failed(callback: StripeCallback, intent: StripePaymentIntent) -> FactsAndDrift:
    code = intent.last_payment_error.code if intent.last_payment_error else None
    return callback.payment_movement(intent, "failure", FAILED, intent.amount, detail=code)


def canceled(callback: StripeCallback, intent: StripePaymentIntent) -> FactsAndDrift:
    reason = intent.cancellation_reason
    return callback.payment_movement(intent, "authorisation", ENDED, intent.amount, detail=reason)


def charged(callback: StripeCallback, charge: StripeCharge) -> FactsAndDrift:
    """Return the charge's capture under the intent's name; an authorisation as long as nothing is
    captured.
    """
    if not charge.captured:
        return callback.payment_movement(charge, "authorisation", DONE, charge.amount)
    minor = amount_or_full(charge.amount_captured, charge)
    return callback.payment_movement(charge, "capture", DONE, minor)


def charge_failed(callback: StripeCallback, charge: StripeCharge) -> FactsAndDrift:
    code = charge.failure_code
    return callback.payment_movement(charge, "failure", FAILED, charge.amount, detail=code)


def expired(callback: StripeCallback, charge: StripeCharge) -> FactsAndDrift:
    return callback.payment_movement(charge, "authorisation", ENDED, charge.amount)


def amount_or_full(minor: int | None, payment: StripeMoney) -> int:
    """Return the amount, or the payment's full amount if the Event has no such field."""
    return payment.amount if minor is None else minor


def charge_refunded(callback: StripeCallback, charge: StripeCharge) -> FactsAndDrift:
    """Return the charge's refunds, if it names them (until 2022-11-15), and their total, which is
    all that there is until 2024-10-28.
    """
    undone = () if charge.captured else expired(callback, charge)[0]
    named = charge.refunds.data if charge.refunds else ()
    if charge.amount_refunded is None and not named:
        return undone, callback.unknown(
            "refund-unnamed", "charge.refunded has neither a refund nor a total"
        )
    refunds = [
        refunded(
            callback,
            refund.model_copy(
                update={"payment_intent": charge.payment_intent, "charge": charge.id}
            ),
        )
        for refund in named
    ]
    movement_facts = [fact for facts_, _ in refunds for fact in facts_] + (
        [] if charge.amount_refunded is None else [*callback.refunds_facts(charge)]
    )
    return (*undone, *movement_facts), tuple(
        drift_notice for _, drift in refunds for drift_notice in drift
    )


def never_captured_minor(event: StripeEvent, charge: StripeCharge) -> int:
    """Return how much of the refunded amount was never captured."""
    if (event.api_version or RELEASED_UNTIL) >= RELEASED_UNTIL:
        return 0
    if not charge.captured:
        return charge.amount_refunded or 0
    return max(0, charge.amount - amount_or_full(charge.amount_captured, charge))


def refunded(callback: StripeCallback, stripe_object: StripeRefund) -> FactsAndDrift:
    if stripe_object.reason == NEVER_CAPTURED:
        return (), ()
    status = stripe_object.status or "succeeded"
    stage, drift = _stage(callback, "refund", status, REFUNDS)
    detail = (
        f"{status}: {why}"
        if (why := stripe_object.failure_reason or stripe_object.reason)
        else status
    )
    return (
        callback.movement_fact(stripe_object, "refund", stage, stripe_object.amount, detail=detail),
    ), drift


def disputed(callback: StripeCallback, stripe_object: StripeDispute) -> FactsAndDrift:
    stage, drift = _stage(callback, "dispute", stripe_object.status, DISPUTES)
    return (
        callback.movement_fact(
            stripe_object,
            "dispute",
            stage,
            stripe_object.amount,
            detail=f"{stripe_object.status}: {stripe_object.reason or ''}",
        ),
    ), drift


def _stage(
    callback: StripeCallback, object_kind: str, status: str, known: Mapping[str, PaymentStage]
) -> tuple[PaymentStage, tuple[facts.DriftNotice, ...]]:
    if (stage := known.get(status)) is not None:
        return stage, ()
    return UNKNOWN, callback.unknown("unknown-status", f"the {object_kind} status {quoted(status)}")


def warned(callback: StripeCallback, stripe_object: StripeFraudWarning) -> FactsAndDrift:
    """Return the warning; it is done once it cannot be acted on any more."""
    stage = PaymentStage("open", 30) if stripe_object.actionable else DONE
    return (
        callback.movement_fact(stripe_object, "warning", stage, detail=stripe_object.fraud_type),
    ), ()


def review_opened(callback: StripeCallback, stripe_object: StripeReview) -> FactsAndDrift:
    return (
        _verdict(
            callback, stripe_object, "pending", f"opened: {stripe_object.opened_reason or ''}", 30
        ),
    ), ()


def review_closed(callback: StripeCallback, stripe_object: StripeReview) -> FactsAndDrift:
    reason = stripe_object.closed_reason or ""
    word = FRAUD_STATUS_BY_CLOSED_REASON.get(reason)
    drift = (
        () if word else callback.unknown("unknown-reason", f"a review closed for {quoted(reason)}")
    )
    return (_verdict(callback, stripe_object, word or "pending", f"closed: {reason}", 60),), drift


def _verdict(
    callback: StripeCallback, stripe_object: StripeReview, word: FraudStatus, detail: str, rank: int
) -> facts.Fact:
    verdict = FraudVerdict(
        source=callback.received.source,
        verdict=word,
        detail=clean(detail, 200),
        at=callback.event.at,
    )
    return facts.verdict_fact(verdict, rank=rank, check_id=stripe_object.id)


def names_payment_only(_callback: StripeCallback, _object: StripeObject) -> FactsAndDrift:
    """Return no facts: the event only joins a payment and an order."""
    return (), ()


Read = Callable[[StripeCallback, Mapping[str, Any]], tuple[StripeObject, FactsAndDrift]]
Kind = TypeVar("Kind", bound=StripeObject)


def _as(model: type[Kind], to_facts: Callable[[StripeCallback, Kind], FactsAndDrift]) -> Read:
    def read(
        callback: StripeCallback, value: Mapping[str, Any]
    ) -> tuple[StripeObject, FactsAndDrift]:
        stripe_object = model.model_validate(value)
        return stripe_object, to_facts(callback, stripe_object)

    return read


TYPES: Mapping[str, Read] = {
    "payment_intent.succeeded": _as(StripePaymentIntent, captured),
    "payment_intent.amount_capturable_updated": _as(StripePaymentIntent, authorised),
    "payment_intent.payment_failed": _as(StripePaymentIntent, failed),
    "payment_intent.canceled": _as(StripePaymentIntent, canceled),
    "charge.succeeded": _as(StripeCharge, charged),
    "charge.captured": _as(StripeCharge, charged),
    "charge.failed": _as(StripeCharge, charge_failed),
    "charge.expired": _as(StripeCharge, expired),
    "charge.refunded": _as(StripeCharge, charge_refunded),
    **dict.fromkeys(
        ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"),
        _as(StripeRefund, refunded),
    ),
    **{
        f"charge.dispute.{step}": _as(StripeDispute, disputed)
        for step in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
    },
    "radar.early_fraud_warning.created": _as(StripeFraudWarning, warned),
    "radar.early_fraud_warning.updated": _as(StripeFraudWarning, warned),
    "review.opened": _as(StripeReview, review_opened),
    "review.closed": _as(StripeReview, review_closed),
    "checkout.session.completed": _as(StripeObject, names_payment_only),
}
