"""Adyen: notifications of several items, each signed by itself and repeated until the oldest of a
queue is accepted.

Eight fields of an item are signed, and no time: anybody who has seen an item can send it again with
another date. So a fact's version is the stage of its event code, and the date only within a stage:
a chargeback that is sent again, with any date, does not supersede its reversal. The name of a
refund or dispute has its pspReference, which is signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, BeforeValidator, Field

from schemas.callbacks import ADYEN
from schemas.fraud import FraudStatus, FraudVerdict
from schemas.orders import Movement, MovementKind, MovementState
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules import facts
from services.ingest.vendors.adyen.items import as_signed, items, signing_key, split_events, verify
from services.ingest.vendors.shared.gateway import (
    CountedAmount,
    Minor,
    VendorModel,
    counted_amount,
    field_blanker,
    kept_callback,
    missing_amount_drift,
    order_id,
    order_reference,
    quoted,
    to_iso_minor,
)
from services.ingest.vendors.shared.source import ReceivedCallback, Source, bounded_time

__all__ = [
    "SOURCE",
    "identify",
    "items",
    "normalise",
    "order_ids",
    "signing_key",
    "verify",
    "without_cards",
]

OWN_DIGITS = {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}  # Adyen counts these otherwise than ISO
CARD_IN_REASON = re.compile(
    rb'("reason"\s*:\s*")[0-9A-Za-z]{0,20}:[0-9]{4}:[0-9]{1,2}\\?/[0-9]{2,4}"'
)

# The signature joins its fields with colons and escapes none. With no colon in any field but the
# merchant's reference, the text can be split in only one way, so nobody can move a part of a
# reference into an amount.
Id = Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,100}$")]


NO_AMOUNT = CountedAmount()


class AdyenAmount(VendorModel):
    value: Minor
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]

    @property
    def priced(self) -> CountedAmount:
        return counted_amount(
            to_iso_minor(self.value, self.currency, OWN_DIGITS), self.value, self.currency
        )


class AdyenItem(VendorModel):
    reference: Id = Field(alias="pspReference")
    original: Annotated[Id | Literal[""], BeforeValidator(as_signed)] = Field(
        "", alias="originalReference"
    )
    account: Annotated[str, Field(alias="merchantAccountCode", pattern=r"^[^:]{1,200}$")]
    order: Annotated[str, BeforeValidator(as_signed)] = Field("", alias="merchantReference")
    amount: AdyenAmount | None = None
    code: Annotated[str, Field(alias="eventCode", pattern=r"^[0-9A-Z_]{1,100}$")]
    success: Annotated[Literal["true", "false"], BeforeValidator(as_signed)]
    at: AwareDatetime = Field(alias="eventDate")

    @property
    def payment(self) -> str:
        return self.original or self.reference


class AdyenStep(NamedTuple):
    """What an event code means: the kind of movement, and the stage that it has reached."""

    kind: MovementKind
    stage: int
    state: MovementState
    failed: MovementState | None = None  # its state if success is false; None: nothing moved
    is_of_payment: bool = False  # about the payment itself, and named by it


REFUSED = AdyenStep("failure", 20, "failed")
STEPS: Mapping[str, AdyenStep] = {
    "AUTHORISATION": AdyenStep("authorisation", 20, "done"),
    "EXPIRE": AdyenStep("authorisation", 50, "undone", is_of_payment=True),
    "CANCELLATION": AdyenStep("authorisation", 60, "undone", is_of_payment=True),
    "TECHNICAL_CANCEL": AdyenStep("authorisation", 60, "undone", is_of_payment=True),
    "CAPTURE": AdyenStep("capture", 20, "done", "failed"),
    "CAPTURE_FAILED": AdyenStep("capture", 40, "failed"),
    "REFUND": AdyenStep("refund", 20, "done", "failed"),
    # No signed field tells whether it was a cancellation or a refund.
    "CANCEL_OR_REFUND": AdyenStep("refund", 20, "done", "failed"),
    "REFUND_FAILED": AdyenStep("refund", 40, "failed"),
    "REFUNDED_REVERSED": AdyenStep("refund", 50, "undone"),
    "NOTIFICATION_OF_FRAUD": AdyenStep("warning", 20, "open"),
    "REQUEST_FOR_INFORMATION": AdyenStep("dispute", 10, "open"),
    "NOTIFICATION_OF_CHARGEBACK": AdyenStep("dispute", 20, "open"),
    "CHARGEBACK": AdyenStep("dispute", 30, "done"),
    "CHARGEBACK_REVERSED": AdyenStep("dispute", 40, "undone"),
    "SECOND_CHARGEBACK": AdyenStep("dispute", 50, "done"),
    "PREARBITRATION_OPEN": AdyenStep("dispute", 60, "open"),
    "PREARBITRATION_WON": AdyenStep("dispute", 70, "undone"),
    "PREARBITRATION_LOST": AdyenStep("dispute", 80, "done"),
}
REVIEW_BY_EVENT_CODE: Mapping[str, tuple[FraudStatus, int]] = {
    "MANUAL_REVIEW_ACCEPT": ("approved", 40),
    "MANUAL_REVIEW_REJECT": ("declined", 50),
}
# Known, and about no movement of an order's money: kept, and not reported as drift.
IRRELEVANT_CODES = frozenset(
    [
        "AUTHENTICATION",
        "AUTHORISATION_ADJUSTMENT",
        "AUTHORISATION_PENDING",
        "AUTORESCUE",
        "AUTORESCUE_NEXT_ATTEMPT",
        "CANCEL_AUTORESCUE",
        "DISABLE_RECURRING",
        "DISPUTE_DEFENSE_PERIOD_ENDED",
        "DONATION",
        "HANDLED_EXTERNALLY",
        "INFORMATION_SUPPLIED",
        "ISSUER_COMMENTS",
        "ISSUER_RESPONSE_TIMEFRAME_EXPIRED",
        "OFFER_CLOSED",
        "ORDER_CLOSED",
        "ORDER_OPENED",
        "PAIDOUT_REVERSED",
        "PAYOUT_DECLINE",
        "PAYOUT_EXPIRE",
        "PAYOUT_THIRDPARTY",
        "PENDING",
        "POSTPONED_REFUND",
        "RECURRING_CONTRACT",
        "REFUND_WITH_DATA",
        "REPORT_AVAILABLE",
        "VOID_PENDING_REFUND",
    ]
)


def order_ids(body: bytes) -> Sequence[str | None]:
    return [order_reference(item.get("merchantReference")) for item in items(body)] or (None,)


def identify(received: ReceivedCallback, item: AdyenItem) -> str:
    return f"{received.source} {item.reference} {item.code} {item.success}"


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    notification_items = items(received.body)
    if len(notification_items) != 1:
        raise CallbackUnreadable(
            f"the notification has {len(notification_items)} items, and one is read at a time"
        )
    item = AdyenItem.model_validate(notification_items[0])
    key, code = identify(received, item), quoted(item.code)
    if item.code in IRRELEVANT_CODES:
        return kept_callback(
            received, key, "unknown-type", f"the event code {code}", is_reported=False
        )
    if item.code not in STEPS and item.code not in REVIEW_BY_EVENT_CODE:
        return kept_callback(
            received, key, "unknown-type", f"the event code {code}", is_reported=True
        )
    fact, drift = (
        (review_verdict(received, item), ())
        if item.code in REVIEW_BY_EVENT_CODE
        else movement_of(received, item)
    )
    if fact is None:
        is_reported = not (item.code in STEPS and STEPS[item.code].is_of_payment)
        return kept_callback(
            received, key, "unknown-status", f"{code} without success", is_reported=is_reported
        )
    payment = facts.payment_name(received.order_source, item.payment)
    return facts.parsed_callback(
        key, order_id(received, item.order), payments=[payment], movements=(fact,), drift=drift
    )


def movement_of(
    received: ReceivedCallback, item: AdyenItem
) -> tuple[facts.Fact | None, tuple[facts.DriftNotice, ...]]:
    """Return the item's movement. Its detail is the event code, because the reason is not
    signed.
    """
    step, is_done = STEPS[item.code], item.success == "true"
    if item.code == "AUTHORISATION" and not is_done:
        step = REFUSED
    elif not is_done and step.failed is None:
        return None, ()
    elif not is_done and step.failed is not None:
        step = step._replace(state=step.failed, stage=step.stage + 1)
    amount = item.amount
    movement = Movement(
        gateway=received.source,
        kind=step.kind,
        reference=item.payment if step.is_of_payment else item.reference,
        payment=item.payment,
        state=step.state,
        detail=item.code,
        at=bounded_time(item.at),
        **(NO_AMOUNT if amount is None else amount.priced)._asdict(),
    )
    return with_stage(facts.movement_fact(movement), step.stage), missing_amount_drift(
        received, movement, item.code
    )


def review_verdict(received: ReceivedCallback, item: AdyenItem) -> facts.Fact | None:
    """Return the verdict of a manual review. A rejection stays, whatever is sent again."""
    if item.success != "true":
        return None
    word, stage = REVIEW_BY_EVENT_CODE[item.code]
    verdict = FraudVerdict(
        source=received.source, verdict=word, detail=item.code, at=bounded_time(item.at)
    )
    return with_stage(facts.verdict_fact(verdict, check_id=item.payment), stage)


def with_stage(fact: facts.Fact, stage: int) -> facts.Fact:
    """Return the fact with the stage before the date, because only the stage is signed."""
    return fact._replace(version=f"{stage:02d}/{fact.version}")


blanked = field_blanker(
    "cardSummary",
    "cardBin",
    "issuerBin",
    "expiryDate",
    "cardHolderName",
    "authCode",
    "paymentAccountReference",
    "networkTxReference",
    "iban",
    "bic",
    "ownerName",
    "bankAccountNumber",
    "bankLocationId",
    "bankName",
    "tokenNumber",
)


def without_cards(body: bytes) -> bytes:
    """Remove card data. The reason of an authorisation is its code, the card's last digits and its
    expiry.
    """
    return CARD_IN_REASON.sub(rb'\1"', blanked(body))


SOURCE = Source(
    kind="adyen",
    type=ADYEN,
    verify=verify,
    normalise=normalise,
    split_events=split_events,
    order_ids=order_ids,
    signing_key=signing_key,
    without_cards=without_cards,
    response_body=b"[accepted]",
    needs_orders_of=True,
)
