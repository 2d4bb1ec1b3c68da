"""Stripe's objects, as its Events carry them: what is needed of them, in whatever version of its API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool

from services.ingest.vendors.shared.gateway import Minor, Part, Reference, Text
from services.ingest.vendors.shared.php_lists import as_list
from services.ingest.vendors.shared.source import bounded

Currency = Annotated[str, Field(pattern=r"^[A-Za-z]{3}$")]
Seconds = Annotated[int, Field(strict=True, ge=0, le=7_258_118_400)]  # until 2200


class Object(Part):
    """What a payment, refund, dispute or review has."""

    id: Reference
    metadata: dict[str, Any] | None = None
    payment_intent: Reference | None = None
    charge: Reference | None = None

    @property
    def references(self) -> list[str | None]:
        """All names of its payment; the first that there is names it."""
        return [self.payment_intent, self.charge]


class Money(Object):
    amount: Minor
    currency: Currency


class Named(Part):
    id: Reference


class Failure(Part):
    code: Text = None


class Charges(Part):
    data: Annotated[tuple[Named, ...], BeforeValidator(as_list)] = ()


class Intent(Money):
    amount_received: Minor | None = None
    amount_capturable: Minor | None = None
    latest_charge: Reference | None = None
    charges: Charges | None = None  # until API version 2022-11-15
    last_payment_error: Failure | None = None
    cancellation_reason: Text = None

    @property
    def references(self) -> list[str | None]:
        return [self.id, self.latest_charge, *(it.id for it in (self.charges or Charges()).data)]


class Refund(Money):
    status: Text = None
    reason: Text = None
    failure_reason: Text = None


class Refunds(Part):
    data: Annotated[tuple[Refund, ...], BeforeValidator(as_list)] = ()


class Charge(Money):
    captured: StrictBool
    amount_captured: Minor | None = None
    amount_refunded: Minor | None = None
    failure_code: Text = None
    refunds: Refunds | None = None  # until API version 2022-11-15

    @property
    def references(self) -> list[str | None]:
        return [self.payment_intent, self.id]


class Dispute(Money):
    status: Annotated[str, Field(max_length=200)]
    reason: Text = None


class Warned(Object):
    actionable: StrictBool
    fraud_type: Text = None


class Review(Object):
    opened_reason: Text = None
    closed_reason: Text = None


class Data(Part):
    object: dict[str, Any]


class Event(Part):
    id: Reference
    type: Annotated[str, Field(min_length=1, max_length=200)]
    api_version: Text = None
    created: Seconds
    livemode: StrictBool
    data: Data

    @property
    def at(self) -> datetime:
        return bounded(datetime.fromtimestamp(self.created, UTC))
