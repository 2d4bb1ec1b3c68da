"""Inputs from outside: callbacks, byte for byte as they were sent, and orders that a storefront
publishes itself.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import Input
from schemas.orders import Currency, Line, Person, Source

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


class NativeOrder(BaseModel):
    """An order as a storefront publishes it directly to `callbacks.received.v1`, with the ce_source
    `/sources/{source}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    source: Source
    order_id: str = Field(min_length=1, max_length=200, description="The storefront's own id.")
    number: str = Field("", max_length=64)
    status: str = Field(min_length=1, max_length=40)
    modified_at: datetime = Field(
        description="The storefront's clock; orders its own facts. With an offset."
    )
    currency: Currency
    total_minor: int
    refunded_minor: int = Field(0, ge=0)
    placed_at: datetime | None = None
    paid_at: datetime | None = None
    is_deleted: bool | None = Field(
        None, description="Deleted or restored, when this event is about that."
    )
    buyer: Person
    lines: tuple[Line, ...] = Field(max_length=500)
