"""What comes in from outside: callbacks as they were sent, byte for byte, and orders that a
storefront publishes itself.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import Input
from schemas.orders import Currency, Line, Person, Source

TOPIC = "callbacks.received.v1"
# data: the raw body; extension `callbacktopic`: X-WC-Webhook-Topic
WOOCOMMERCE = "stubline.callback.woocommerce.v1"
STRIPE = "stubline.callback.stripe.v1"  # data: the Event, without card data
ADYEN = "stubline.callback.adyen.v1"  # data: the notification, one of its items, without card data
TICKETEVOLUTION = "stubline.callback.ticketevolution.v1"  # data: the form as it was posted
TICKETEVOLUTION_ORDER = (
    "stubline.read.ticketevolution.v1"  # data: an order as the signed API shows it
)
# data: the raw body, without data of a card; extension `ordersof`, as all that follow
PAYPAL = "stubline.callback.paypal.v1"
RISKIFIED = "stubline.callback.riskified.v1"  # data: the raw body
SIGNIFYD = (
    "stubline.callback.signifyd.v1"  # data: the raw body; extension `callbacktopic`: the checkpoint
)
NATIVE = "stubline.storefront.order.v1"  # data: NativeOrder as JSON


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
    """A callback as the door publishes it, its body byte for byte. The event's time is when the
    door received it, set once.

    `key` is the order's, `source:external id`, or whatever stands for one that is not known.
    `reception_id` names this reception, not the callback: what repeats is judged by what it means.
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
    """An order as a storefront publishes it straight to `callbacks.received.v1` (ce_source
    `/sources/{source}`).
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
