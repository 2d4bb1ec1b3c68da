"""Finds orders that look alike: suspected duplicates, which are shown to operators. No decision
depends on them. Pure.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

import orjson

from schemas.orders import OrderObserved


class LookalikeKey(NamedTuple):
    """What orders are compared by: two with one fingerprint, placed within one window, look
    alike.
    """

    fingerprint: bytes
    placed_at: datetime


def lookalike_key(observed: OrderObserved) -> LookalikeKey | None:
    """Return an order's key, or None for an order without a buyer, lines or a known time.

    The key depends on the facts alone, and not on the order in which they came. The times of
    statuses are those at which they were last reported. The earliest of all known times counts, so
    an order with a reported time of placement keeps it when the shop saves the order again.

    A buyer is an address in lower case, or a name if there is none. A fingerprint does not reveal
    the buyer.
    """
    storefront = observed.storefront
    if storefront is None:
        return None
    buyer = storefront.buyer.email.lower() or storefront.buyer.name.casefold()
    lines = sorted(
        (line.product_id or line.sku or line.name, line.quantity)
        for line in storefront.lines
        if line.quantity
    )
    times = [*observed.reached.values(), *filter(None, (storefront.placed_at, storefront.paid_at))]
    if not (buyer and lines and times):
        return None
    currency = storefront.currency_text or storefront.currency
    total = storefront.total_minor if storefront.total_text is None else storefront.total_text
    features = orjson.dumps([observed.source, buyer, currency, total, lines])
    return LookalikeKey(hashlib.sha256(features).digest(), min(times))
