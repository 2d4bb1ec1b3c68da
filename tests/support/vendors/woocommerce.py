"""WooCommerce."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.support.callbacks import signed, woo_order
from tests.support.vendors.vendor import Sample, Vendor

REFUND = {"id": 801, "reason": "Customer request", "total": "-5.00"}
# what a topic of a shop's own has for a body
ACTION = b'{"action":"woocommerce_add_to_cart","arg":"0f0e0d0c"}'
CARD_META = [
    {"id": 13106, "key": "_stripe_intent_id", "value": "pi_0000000000000000"},
    {"id": 13107, "key": "_card_last4", "value": "4242"},
    {"id": 13108, "key": "_wc_example_gateway_card_expiry_date", "value": "31-08"},
    {
        "id": 13109,
        "key": "_charge",
        "value": {"id": "x", "source": {"exp_month": 1129, "last4": "1881", "n": 5.10}},
    },
    {"id": 13110, "key": "greeting", "value": "caf\u00e9 \u20ac"},
]


def line(
    number: int, *meta: tuple[str, object], quantity: int = 1, **more: object
) -> dict[str, object]:
    """A line of the sample, with meta of its own."""
    written = [
        {"id": 2000 + at, "key": key, "value": value, "display_key": key, "display_value": value}
        for at, (key, value) in enumerate(meta)
    ]
    return {
        "id": number,
        "name": "Spring Draw entry",
        "product_id": 93,
        "quantity": quantity,
        "total": "5.00",
        "meta_data": written,
        "sku": "RFL-SPRING",
        **more,
    }


def sign(sample: Sample, secret: str, _at: float) -> Mapping[bytes, bytes]:
    headers = signed(sample.body, secret, sample.callback_type)
    return {name.lower().encode(): text.encode() for name, text in headers.items()}


def sample(topic: str = "order.updated", /, **changes: object) -> Sample:
    return Sample(json.dumps(woo_order(**changes)).encode(), topic)


GIFT = line(
    318,
    ("Recipient Name", "Bob B&ouml;b"),
    ("_recipient_email", "bob@example.org"),
    ("chosen_numbers", "7, 11; 13"),
)
CARD_LINE = line(
    319, ("Card number", "4111111111111111"), ("_ticket_number", ["A 12", "A 13"]), quantity=2
)

VENDOR = Vendor(
    kind="woocommerce",
    secret="a-shop's secret, 24 long",
    other_secret="the one before, also long",
    samples={
        "order": sample(),
        "refunded in part": sample(refunds=[REFUND]),
        "gifts and chosen numbers": sample(status="deposit-paid", line_items=[line(317), GIFT]),
        "with card data": sample(meta_data=CARD_META, line_items=[line(317), CARD_LINE]),
        "at the checkout": sample(
            "order.created", status="checkout-draft", date_paid_gmt=None, number=""
        ),
        "restored": sample("order.restored", status="pending"),
        "trashed": Sample(b'{"id":727}', "order.deleted"),
    },
    sign=sign,
    card_data=(b"4242", b"31-08", b"1881", b"1129", b"4111111111111111"),
)
