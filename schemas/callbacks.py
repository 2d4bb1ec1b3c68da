"""Inputs from outside: callbacks, byte for byte as they were sent, and orders that a storefront
publishes itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import Input
from schemas.orders import CURRENCY_PATTERN, SOURCE_PATTERN

TOPIC = "callbacks.received.v1"
# The event types, each with what its data is.
# The raw body. The extension `callbacktopic` is the header X-WC-Webhook-Topic.
WOOCOMMERCE = "stubline.callback.woocommerce.v1"
# The Event, without card data.
STRIPE = "stubline.callback.stripe.v1"
# A notification with one of its items, without card data.
ADYEN = "stubline.callback.adyen.v1"
# The form as it was posted.
TICKETEVOLUTION = "stubline.callback.ticketevolution.v1"
# An order as the signed API returns it.
TICKETEVOLUTION_ORDER = "stubline.read.ticketevolution.v1"
# The raw body, without card data. This one and the next two have the extension `ordersof`.
PAYPAL = "stubline.callback.paypal.v1"
# The raw body.
RISKIFIED = "stubline.callback.riskified.v1"
# The raw body. The extension `callbacktopic` is the checkpoint.
SIGNIFYD = "stubline.callback.signifyd.v1"
# A NativeOrder as JSON.
NATIVE = "stubline.storefront.order.v1"


def received(
    body: bytes,
    *,
    source: str,
    key: str,
    kind: str,
    reception_id: str,
    content_type: str,
    **extensions: str,
) -> Input:
    """Return a callback as the webhook endpoint publishes it, its body byte for byte.

    The event's time is the time of its receipt. `key` is that of the order, `source:external id`,
    or a stand-in if the order is not known. `reception_id` identifies this receipt and not the
    callback: repeats are found by idempotency key and content hash.
    """
    return Input(
        topic=TOPIC,
        key=key,
        type=kind,
        source=f"/sources/{source}",
        id=reception_id,
        data=body,
        content_type=content_type,
        extensions=extensions,
    )


class NativePerson(BaseModel):
    """A buyer or a recipient."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    name: str = Field("", max_length=200)
    email: str = Field("", max_length=320)


class NativeLine(BaseModel):
    """One product of a storefront's own order. Its fields are those of `schemas.orders.Line`."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    line_id: str = Field(
        min_length=1, max_length=64, description="Stays the same when the quantity is edited."
    )
    product_id: str = Field("", max_length=64)
    sku: str = Field("", max_length=100)
    name: str = Field("", max_length=300)
    quantity: int = Field(ge=0, le=1_000_000)
    total_minor: int = 0
    recipient: NativePerson | None = Field(
        None, description="Of a gift: the person who is to hold its tickets. None: the buyer."
    )
    numbers: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (),
        max_length=2_000,
        description="Ticket numbers that the buyer chose, in the order of the tickets.",
    )
    is_eticket: bool | None = Field(
        None, description="Whether it is delivered as a file. None: the shop does not report it."
    )
    variation_id: str = Field(
        "",
        max_length=64,
        description="Which variation of its product, where a shop sells several under one.",
    )
    total_text: str | None = Field(
        None,
        max_length=100,
        description="What was written where no minor units of a currency can be counted.",
    )


class NativeOrder(BaseModel):
    """An order as a storefront publishes it directly to `callbacks.received.v1`, with the ce_source
    `/sources/{source}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    source: str = Field(
        pattern=SOURCE_PATTERN,
        description="A shop or gateway: the slug in the path of its webhook endpoint.",
    )
    order_id: str = Field(min_length=1, max_length=200, description="The storefront's own id.")
    number: str = Field("", max_length=64)
    status: str = Field(min_length=1, max_length=40)
    modified_at: datetime = Field(
        description="The storefront's clock; orders its own facts. With an offset."
    )
    currency: str = Field(pattern=CURRENCY_PATTERN, description="ISO 4217.")
    total_minor: int
    refunded_minor: int = Field(0, ge=0)
    placed_at: datetime | None = None
    paid_at: datetime | None = None
    is_deleted: bool | None = Field(
        None, description="Deleted or restored, when this event is about that."
    )
    buyer: NativePerson
    lines: tuple[NativeLine, ...] = Field(max_length=500)
