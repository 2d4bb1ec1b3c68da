"""Stripe's objects in its Events: the fields that are read, in any version of its API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool

from services.ingest.vendors.shared.gateway import Minor, Reference, Text, VendorModel
from services.ingest.vendors.shared.php_lists import list_from_php_or_same
from services.ingest.vendors.shared.source import bounded_time

Currency = Annotated[str, Field(pattern=r"^[A-Za-z]{3}$")]
Seconds = Annotated[int, Field(strict=True, ge=0, le=7_258_118_400)]  # until 2200


class StripeObject(VendorModel):
    """What a payment, refund, dispute or review has in common."""

    id: Reference
    metadata: dict[str, Any] | None = None
    payment_intent: Reference | None = None
    charge: Reference | None = None

    @property
    def references(self) -> list[str | None]:
        """All names of its payment; the first one that is set names it."""
        return [self.payment_intent, self.charge]


class StripeMoney(StripeObject):
    amount: Minor
    currency: Currency


class StripeReference(VendorModel):
    id: Reference


class StripeFailure(VendorModel):
    code: Text = None


class StripeCharges(VendorModel):
    data: Annotated[tuple[StripeReference, ...], BeforeValidator(list_from_php_or_same)] = ()


class StripePaymentIntent(StripeMoney):
    amount_received: Minor | None = None
    amount_capturable: Minor | None = None
    latest_charge: Reference | None = None
    charges: StripeCharges | None = None  # until API version 2022-11-15
    last_payment_error: StripeFailure | None = None
    cancellation_reason: Text = None

    @property
    def references(self) -> list[str | None]:
        return [
            self.id,
            self.latest_charge,
            *(charge.id for charge in (self.charges or StripeCharges()).data),
        ]


class StripeRefund(StripeMoney):
    status: Text = None
    reason: Text = None
    failure_reason: Text = None


class StripeRefunds(VendorModel):
    data: Annotated[tuple[StripeRefund, ...], BeforeValidator(list_from_php_or_same)] = ()


class StripeCharge(StripeMoney):
    captured: StrictBool
    amount_captured: Minor | None = None
    amount_refunded: Minor | None = None
    failure_code: Text = None
    refunds: StripeRefunds | None = None  # until API version 2022-11-15

    @property
    def references(self) -> list[str | None]:
        return [self.payment_intent, self.id]


class StripeDispute(StripeMoney):
    status: Annotated[str, Field(max_length=200)]
    reason: Text = None


class StripeFraudWarning(StripeObject):
    actionable: StrictBool
    fraud_type: Text = None


class StripeReview(StripeObject):
    opened_reason: Text = None
    closed_reason: Text = None


class StripeEventData(VendorModel):
    object: dict[str, Any]


class StripeEvent(VendorModel):
    id: Reference
    type: Annotated[str, Field(min_length=1, max_length=200)]
    api_version: Text = None
    created: Seconds
    livemode: StrictBool
    data: StripeEventData

    @property
    def at(self) -> datetime:
        return bounded_time(datetime.fromtimestamp(self.created, UTC))
