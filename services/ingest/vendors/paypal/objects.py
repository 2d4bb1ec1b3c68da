"""PayPal's events and their resources in both generations of its API: the fields that are read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.ingest.vendors.shared.dates import readable_or_none
from services.ingest.vendors.shared.php_lists import list_from_php_or_same

Text = Annotated[str | None, Field(max_length=10_000)]


class PayPalModel(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class PayPalMoney(PayPalModel):
    currency_code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    value: Annotated[str, Field(max_length=40)]


class PayPalLink(PayPalModel):
    rel: Text = None
    href: Text = None


class PayPalDisputedTransaction(PayPalModel):
    seller_transaction_id: Text = None
    custom: Text = None
    invoice_number: Text = None


class PayPalDisputeOutcome(PayPalModel):
    outcome_code: Annotated[str | None, Field(max_length=100)] = None


class PayPalPurchaseUnit(PayPalModel):
    custom_id: Text = None
    invoice_id: Text = None


class PayPalSupplement(PayPalModel):
    related_ids: dict[str, Any] | None = None


class PayPalResource(PayPalModel):
    """A capture, refund, authorisation or dispute: the fields that are read of any of them."""

    id: Text = None
    dispute_id: Text = None
    status: Annotated[str | None, Field(max_length=100)] = None
    reason: Annotated[str | None, Field(max_length=200)] = None
    amount: PayPalMoney | None = None
    dispute_amount: PayPalMoney | None = None
    custom_id: Text = None
    invoice_id: Text = None
    purchase_units: Annotated[
        list[PayPalPurchaseUnit] | None,
        BeforeValidator(list_from_php_or_same),
        Field(max_length=100),
    ] = None
    disputed_transactions: Annotated[
        list[PayPalDisputedTransaction] | None,
        BeforeValidator(list_from_php_or_same),
        Field(max_length=100),
    ] = None
    dispute_outcome: PayPalDisputeOutcome | None = None
    supplementary_data: PayPalSupplement | None = None
    update_time: Annotated[datetime | None, BeforeValidator(readable_or_none)] = None
    links: Annotated[
        list[PayPalLink] | None, BeforeValidator(list_from_php_or_same), Field(max_length=100)
    ] = None


class PayPalEventHead(PayPalModel):
    id: Annotated[str, Field(min_length=1, max_length=100)]
    event_type: Annotated[str, Field(min_length=1, max_length=100)]


class PayPalEvent(PayPalEventHead):
    create_time: datetime
    resource_type: Text = None
    resource: PayPalResource
