"""What Stripe's Events say: the facts in them. Pure.

A payment is told as an intent and as a charge, so captures are named by the payment, and only a refund or a dispute by itself.
Nothing is added up from Events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from schemas.fraud import FraudVerdict, Word
from schemas.orders import Movement, MovementKind, MovementState
from services.ingest.rules import facts
from services.ingest.sources.gateway import in_iso, quoted
from services.ingest.sources.source import Received
from services.ingest.sources.stripe_objects import Charge, Dispute, Event, Intent, Money, Object, Refund, Review, Warned
from services.ingest.sources.text import clean

# Stripe counts these otherwise than ISO: the first two in hundredths, as before they lost them; ariaries whole.
OWN_DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}


class Stage(NamedTuple):
    """What a status means, and which of two in the same second came later."""

    state: MovementState
    rank: int


REFUNDS: Mapping[str, Stage] = {
    "pending": Stage("open", 30),
    "requires_action": Stage("open", 31),
    "succeeded": Stage("done", 50),
    "canceled": Stage("failed", 70),
    "failed": Stage("failed", 71),
}
DISPUTES: Mapping[str, Stage] = {
    "warning_needs_response": Stage("open", 10),  # an inquiry: no money has moved
    "warning_under_review": Stage("open", 11),
    "needs_response": Stage("open", 20),
    "under_review": Stage("open", 21),
    "warning_closed": Stage("undone", 50),
    "charge_refunded": Stage("undone", 51),
    "prevented": Stage("undone", 52),
    "lost": Stage("done", 60),
    "won": Stage("undone", 61),
}
UNKNOWN = Stage("open", 40)
REVIEWS: Mapping[str, Word] = {
    "approved": "approved",
    "acknowledged": "approved",
    **dict.fromkeys(
        ("canceled", "disputed", "payment_never_settled", "redacted", "refunded", "refunded_as_fraud"), "declined"
    ),
}
Told = tuple[tuple[facts.Fact, ...], tuple[facts.Notice, ...]]


class Telling(NamedTuple):
    """An Event and where it came from."""

    received: Received
    event: Event

    def moved(
        self,
        it: Object,
        kind: MovementKind,
        stage: Stage,
        minor: int | None = None,
        *,
        detail: str | None = "",
        by_payment: bool = False,
    ) -> facts.Fact:
        payment = next(filter(None, it.references), it.id)
        currency = it.currency.upper() if isinstance(it, Money) and minor is not None else None
        movement = Movement(
            gateway=self.received.source,
            kind=kind,
            reference=payment if by_payment else it.id,
            payment=payment,
            state=stage.state,
            amount_minor=None if minor is None or currency is None else in_iso(minor, currency, OWN_DIGITS),
            currency=currency,
            detail=clean(detail or "", 200),
            at=self.event.at,
        )
        return facts.movement_fact(movement, rank=stage.rank)

    def unknown(self, kind: str, what: str) -> tuple[facts.Notice, ...]:
        return (facts.Notice(self.received.source, kind, what, self.received.body),)


def captured(to: Telling, it: Intent) -> Told:
    minor = it.amount if it.amount_received is None else it.amount_received
    return (to.moved(it, "capture", Stage("done", 50), minor, by_payment=True),), ()


def authorised(to: Telling, it: Intent) -> Told:
    minor = it.amount if it.amount_capturable is None else it.amount_capturable
    return (to.moved(it, "authorisation", Stage("done", 50), minor, by_payment=True),), ()


def failed(to: Telling, it: Intent) -> Told:
    code = it.last_payment_error.code if it.last_payment_error else None
    return (to.moved(it, "failure", Stage("failed", 50), it.amount, detail=code, by_payment=True),), ()


def canceled(to: Telling, it: Intent) -> Told:
    stage = Stage("undone", 80)
    return (to.moved(it, "authorisation", stage, it.amount, detail=it.cancellation_reason, by_payment=True),), ()


def charged(to: Telling, it: Charge) -> Told:
    """As the intent tells it. Authorised only, as long as nothing is captured."""
    if not it.captured:
        return (to.moved(it, "authorisation", Stage("done", 50), it.amount, by_payment=True),), ()
    minor = it.amount if it.amount_captured is None else it.amount_captured
    return (to.moved(it, "capture", Stage("done", 50), minor, by_payment=True),), ()


def charge_failed(to: Telling, it: Charge) -> Told:
    return (to.moved(it, "failure", Stage("failed", 50), it.amount, detail=it.failure_code, by_payment=True),), ()


def charge_refunded(to: Telling, it: Charge) -> Told:
    """Its refunds by name. A mere sum is told of no refund: beside refunds that are told too it would count them twice."""
    named = it.refunds.data if it.refunds else ()
    if not named:
        return (), to.unknown("refund-unnamed", "charge.refunded names no refund: let Stripe send refund.created")
    told = [
        refunded(to, refund.model_copy(update={"payment_intent": it.payment_intent, "charge": it.id}))
        for refund in named
    ]
    return tuple(fact for moved, _ in told for fact in moved), tuple(it for _, notices in told for it in notices)


def refunded(to: Telling, it: Refund) -> Told:
    status = it.status or "succeeded"
    stage, notices = _stage(to, "refund", status, REFUNDS)
    detail = f"{status}: {why}" if (why := it.failure_reason or it.reason) else status
    return (to.moved(it, "refund", stage, it.amount, detail=detail),), notices


def disputed(to: Telling, it: Dispute) -> Told:
    stage, notices = _stage(to, "dispute", it.status, DISPUTES)
    return (to.moved(it, "dispute", stage, it.amount, detail=f"{it.status}: {it.reason or ''}"),), notices


def _stage(to: Telling, what: str, status: str, known: Mapping[str, Stage]) -> tuple[Stage, tuple[facts.Notice, ...]]:
    if (stage := known.get(status)) is not None:
        return stage, ()
    return UNKNOWN, to.unknown("unknown-status", f"the {what} status {quoted(status)}")


def warned(to: Telling, it: Warned) -> Told:
    """Acted on or overtaken: then it is done."""
    stage = Stage("open", 30) if it.actionable else Stage("done", 50)
    return (to.moved(it, "warning", stage, detail=it.fraud_type),), ()


def review_opened(to: Telling, it: Review) -> Told:
    return (_verdict(to, it, "pending", f"opened: {it.opened_reason or ''}", 30),), ()


def review_closed(to: Telling, it: Review) -> Told:
    reason = it.closed_reason or ""
    word = REVIEWS.get(reason)
    notices = () if word else to.unknown("unknown-reason", f"a review closed for {quoted(reason)}")
    return (_verdict(to, it, word or "pending", f"closed: {reason}", 60),), notices


def _verdict(to: Telling, it: Review, word: Word, detail: str, rank: int) -> facts.Fact:
    verdict = FraudVerdict(source=to.received.source, verdict=word, detail=clean(detail, 200), at=to.event.at)
    return facts.verdict_fact(verdict, rank=rank, about=it.id)


def joined(_to: Telling, _it: Object) -> Told:
    """Tells nothing but which payment is of which order."""
    return (), ()


Read = Callable[[Telling, Mapping[str, Any]], tuple[Object, Told]]
Kind = TypeVar("Kind", bound=Object)


def _as(model: type[Kind], tell: Callable[[Telling, Kind], Told]) -> Read:
    def read(to: Telling, told: Mapping[str, Any]) -> tuple[Object, Told]:
        it = model.model_validate(told)
        return it, tell(to, it)

    return read


TYPES: Mapping[str, Read] = {
    "payment_intent.succeeded": _as(Intent, captured),
    "payment_intent.amount_capturable_updated": _as(Intent, authorised),
    "payment_intent.payment_failed": _as(Intent, failed),
    "payment_intent.canceled": _as(Intent, canceled),
    "charge.succeeded": _as(Charge, charged),
    "charge.captured": _as(Charge, charged),
    "charge.failed": _as(Charge, charge_failed),
    "charge.refunded": _as(Charge, charge_refunded),
    **dict.fromkeys(
        ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"), _as(Refund, refunded)
    ),
    **{
        f"charge.dispute.{step}": _as(Dispute, disputed)
        for step in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
    },
    "radar.early_fraud_warning.created": _as(Warned, warned),
    "radar.early_fraud_warning.updated": _as(Warned, warned),
    "review.opened": _as(Review, review_opened),
    "review.closed": _as(Review, review_closed),
    "checkout.session.completed": _as(Object, joined),
}
