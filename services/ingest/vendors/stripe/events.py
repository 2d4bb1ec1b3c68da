"""The facts in Stripe's Events. Pure.

A payment comes as an intent and as a charge, so captures are named by the payment, and only refunds
and disputes by themselves. Nothing is added up from Events: the refunded amount of a charge is a
total that Stripe has computed (`rules.refunds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from schemas.fraud import FraudVerdict, Word
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
# until this API version, amounts that are not captured, or canceled, are reported as refunded
RELEASED_UNTIL = "2025-03-31"
NEVER_CAPTURED = "expired_uncaptured_charge"


class PaymentStage(NamedTuple):
    """The state that a status means, and its rank: of two in the same second the greater came
    later.
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
REVIEWS: Mapping[str, Word] = {
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


class StripeCallback(NamedTuple):
    """An Event and the callback that carried it."""

    received: ReceivedCallback
    event: StripeEvent

    def movement_fact(
        self,
        it: StripeObject,
        kind: MovementKind,
        stage: PaymentStage,
        minor: int | None = None,
        *,
        detail: str | None = "",
        by_payment: bool = False,
    ) -> facts.Fact:
        payment = next(filter(None, it.references), it.id)
        currency = (
            it.currency.upper() if isinstance(it, StripeMoney) and minor is not None else None
        )
        money = CountedAmount()
        if minor is not None and currency is not None:
            money = counted_amount(to_iso_minor(minor, currency, OWN_DIGITS), minor, currency)
        movement = Movement(
            gateway=self.received.source,
            kind=kind,
            reference=payment if by_payment else it.id,
            payment=payment,
            state=stage.state,
            detail=clean(detail or "", 200),
            at=self.event.at,
            **money._asdict(),
        )
        return facts.movement_fact(movement, rank=stage.rank)

    def summed(self, it: StripeCharge) -> tuple[facts.Fact, ...]:
        """Return the total of a charge's refunds; nothing if its currency cannot be counted."""
        minor, released_amount, currency = (
            it.amount_refunded or 0,
            never_captured_minor(self.event, it),
            it.currency.upper(),
        )
        refunded_minor = to_iso_minor(max(0, minor - released_amount), currency, OWN_DIGITS)
        released_minor = to_iso_minor(released_amount, currency, OWN_DIGITS)
        if refunded_minor is None or released_minor is None:
            return ()
        total = RefundedTotal(
            gateway=self.received.source,
            reference=it.id,
            payment=next(filter(None, it.references), it.id),
            refunded_minor=refunded_minor,
            released_minor=released_minor,
            currency=currency,
            at=self.event.at,
        )
        return (refunds_fact(total),)

    def unknown(self, kind: str, what: str) -> tuple[facts.DriftNotice, ...]:
        return (facts.DriftNotice(self.received.source, kind, what, self.received.body),)


def captured(to: StripeCallback, it: StripePaymentIntent) -> FactsAndDrift:
    minor = it.amount if it.amount_received is None else it.amount_received
    return (to.movement_fact(it, "capture", PaymentStage("done", 50), minor, by_payment=True),), ()


def authorised(to: StripeCallback, it: StripePaymentIntent) -> FactsAndDrift:
    minor = it.amount if it.amount_capturable is None else it.amount_capturable
    return (
        to.movement_fact(it, "authorisation", PaymentStage("done", 50), minor, by_payment=True),
    ), ()


def failed(to: StripeCallback, it: StripePaymentIntent) -> FactsAndDrift:
    code = it.last_payment_error.code if it.last_payment_error else None
    return (
        to.movement_fact(
            it, "failure", PaymentStage("failed", 50), it.amount, detail=code, by_payment=True
        ),
    ), ()


def canceled(to: StripeCallback, it: StripePaymentIntent) -> FactsAndDrift:
    stage = PaymentStage("undone", 80)
    return (
        to.movement_fact(
            it, "authorisation", stage, it.amount, detail=it.cancellation_reason, by_payment=True
        ),
    ), ()


def charged(to: StripeCallback, it: StripeCharge) -> FactsAndDrift:
    """Return the charge's capture under the intent's name; an authorisation as long as nothing is
    captured.
    """
    if not it.captured:
        return (
            to.movement_fact(
                it, "authorisation", PaymentStage("done", 50), it.amount, by_payment=True
            ),
        ), ()
    minor = it.amount if it.amount_captured is None else it.amount_captured
    return (to.movement_fact(it, "capture", PaymentStage("done", 50), minor, by_payment=True),), ()


def charge_failed(to: StripeCallback, it: StripeCharge) -> FactsAndDrift:
    return (
        to.movement_fact(
            it,
            "failure",
            PaymentStage("failed", 50),
            it.amount,
            detail=it.failure_code,
            by_payment=True,
        ),
    ), ()


def expired(to: StripeCallback, it: StripeCharge) -> FactsAndDrift:
    return (
        to.movement_fact(
            it, "authorisation", PaymentStage("undone", 80), it.amount, by_payment=True
        ),
    ), ()


def charge_refunded(to: StripeCallback, charge: StripeCharge) -> FactsAndDrift:
    """Return the charge's refunds, if it names them (until 2022-11-15), and their total, which is
    all that there is until 2024-10-28.
    """
    undone = () if charge.captured else expired(to, charge)[0]
    named = charge.refunds.data if charge.refunds else ()
    if charge.amount_refunded is None and not named:
        return undone, to.unknown(
            "refund-unnamed", "charge.refunded has neither a refund nor a total"
        )
    refunds = [
        refunded(
            to,
            refund.model_copy(
                update={"payment_intent": charge.payment_intent, "charge": charge.id}
            ),
        )
        for refund in named
    ]
    movement_facts = [fact for facts_, _ in refunds for fact in facts_] + (
        [] if charge.amount_refunded is None else [*to.summed(charge)]
    )
    return (*undone, *movement_facts), tuple(notice for _, drift in refunds for notice in drift)


def never_captured_minor(event: StripeEvent, it: StripeCharge) -> int:
    """Return how much of the refunded amount was never captured."""
    if (event.api_version or RELEASED_UNTIL) >= RELEASED_UNTIL:
        return 0
    taken = it.amount if it.amount_captured is None else it.amount_captured
    return max(0, it.amount - taken) if it.captured else it.amount_refunded or 0


def refunded(to: StripeCallback, it: StripeRefund) -> FactsAndDrift:
    if it.reason == NEVER_CAPTURED:
        return (), ()
    status = it.status or "succeeded"
    stage, drift = _stage(to, "refund", status, REFUNDS)
    detail = f"{status}: {why}" if (why := it.failure_reason or it.reason) else status
    return (to.movement_fact(it, "refund", stage, it.amount, detail=detail),), drift


def disputed(to: StripeCallback, it: StripeDispute) -> FactsAndDrift:
    stage, drift = _stage(to, "dispute", it.status, DISPUTES)
    return (
        to.movement_fact(it, "dispute", stage, it.amount, detail=f"{it.status}: {it.reason or ''}"),
    ), drift


def _stage(
    to: StripeCallback, what: str, status: str, known: Mapping[str, PaymentStage]
) -> tuple[PaymentStage, tuple[facts.DriftNotice, ...]]:
    if (stage := known.get(status)) is not None:
        return stage, ()
    return UNKNOWN, to.unknown("unknown-status", f"the {what} status {quoted(status)}")


def warned(to: StripeCallback, it: StripeFraudWarning) -> FactsAndDrift:
    """Return the warning; one that was acted on or overtaken is done."""
    stage = PaymentStage("open", 30) if it.actionable else PaymentStage("done", 50)
    return (to.movement_fact(it, "warning", stage, detail=it.fraud_type),), ()


def review_opened(to: StripeCallback, it: StripeReview) -> FactsAndDrift:
    return (_verdict(to, it, "pending", f"opened: {it.opened_reason or ''}", 30),), ()


def review_closed(to: StripeCallback, it: StripeReview) -> FactsAndDrift:
    reason = it.closed_reason or ""
    word = REVIEWS.get(reason)
    drift = () if word else to.unknown("unknown-reason", f"a review closed for {quoted(reason)}")
    return (_verdict(to, it, word or "pending", f"closed: {reason}", 60),), drift


def _verdict(
    to: StripeCallback, it: StripeReview, word: Word, detail: str, rank: int
) -> facts.Fact:
    verdict = FraudVerdict(
        source=to.received.source, verdict=word, detail=clean(detail, 200), at=to.event.at
    )
    return facts.verdict_fact(verdict, rank=rank, about=it.id)


def names_payment_only(_to: StripeCallback, _it: StripeObject) -> FactsAndDrift:
    """Return no facts: the event only joins a payment and an order."""
    return (), ()


Read = Callable[[StripeCallback, Mapping[str, Any]], tuple[StripeObject, FactsAndDrift]]
Kind = TypeVar("Kind", bound=StripeObject)


def _as(model: type[Kind], to_facts: Callable[[StripeCallback, Kind], FactsAndDrift]) -> Read:
    def read(to: StripeCallback, value: Mapping[str, Any]) -> tuple[StripeObject, FactsAndDrift]:
        stripe_object = model.model_validate(value)
        return stripe_object, to_facts(to, stripe_object)

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
