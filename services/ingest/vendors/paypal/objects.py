"""PayPal's events and what they are about, in both generations of its API: what is needed of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.ingest.vendors.shared.dates import readable
from services.ingest.vendors.shared.php_lists import as_list

Text = Annotated[str | None, Field(max_length=10_000)]


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class Money(Part):
    currency_code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    value: Annotated[str, Field(max_length=40)]


class Link(Part):
    rel: Text = None
    href: Text = None


class Disputed(Part):
    seller_transaction_id: Text = None
    custom: Text = None
    invoice_number: Text = None


class Outcome(Part):
    outcome_code: Annotated[str | None, Field(max_length=100)] = None


class Unit(Part):
    custom_id: Text = None
    invoice_id: Text = None


class Supplement(Part):
    related_ids: dict[str, Any] | None = None


class Resource(Part):
    """A capture, a refund, an authorisation or a dispute: what is needed of any."""

    id: Text = None
    dispute_id: Text = None
    status: Annotated[str | None, Field(max_length=100)] = None
    reason: Annotated[str | None, Field(max_length=200)] = None
    amount: Money | None = None
    dispute_amount: Money | None = None
    custom_id: Text = None
    invoice_id: Text = None
    purchase_units: Annotated[list[Unit] | None, BeforeValidator(as_list), Field(max_length=100)] = None
    disputed_transactions: Annotated[list[Disputed] | None, BeforeValidator(as_list), Field(max_length=100)] = None
    dispute_outcome: Outcome | None = None
    supplementary_data: Supplement | None = None
    update_time: Annotated[datetime | None, BeforeValidator(readable)] = None
    links: Annotated[list[Link] | None, BeforeValidator(as_list), Field(max_length=100)] = None


class Head(Part):
    id: Annotated[str, Field(min_length=1, max_length=100)]
    event_type: Annotated[str, Field(min_length=1, max_length=100)]


class Event(Head):
    create_time: datetime
    resource_type: Text = None
    resource: Resource
