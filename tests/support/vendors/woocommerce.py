"""WooCommerce."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.support.callbacks import signed, woo_order
from tests.support.vendors.vendor import Sample, Vendor


def sign(sample: Sample, secret: str, _at: float) -> Mapping[bytes, bytes]:
    headers = signed(sample.body, secret, sample.topic)
    return {name.lower().encode(): text.encode() for name, text in headers.items()}


VENDOR = Vendor(
    kind="woocommerce",
    secret="a-shop's secret, 24 long",
    other_secret="the one before, also long",
    samples={
        "order": Sample(json.dumps(woo_order()).encode(), "order.updated"),
        "refunded in part": Sample(
            json.dumps(woo_order(refunds=[{"id": 801, "reason": "", "total": "-5.00"}])).encode(), "order.updated"
        ),
        "restored": Sample(json.dumps(woo_order(status="pending")).encode(), "order.restored"),
        "trashed": Sample(b'{"id":727}', "order.deleted"),
    },
    sign=sign,
)
