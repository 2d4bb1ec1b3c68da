"""Which orders look alike? Pure. Suspected duplicates are told to people; no decision goes by
them.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

import orjson

from schemas.orders import OrderObserved


class OrderLook(NamedTuple):
    """What an order looks like, and when it was placed. Two with one fingerprint in one window look
    alike.
    """

    fingerprint: bytes
    placed_at: datetime


def order_look(observed: OrderObserved) -> OrderLook | None:
    """A function of the facts alone, so it is the same in whatever order they came. None: of an
    order of nobody, of nothing, or of which no time is known, no other can be a second one.

    The times of statuses are those at which they were last told, so a shop that says when an order
    was placed is taken at its word: its order does not move away by being saved once more.

    A buyer is an address in lower case, or a name where there is none. Nobody is read out of a
    fingerprint.
    """
    front = observed.storefront
    if front is None:
        return None
    buyer = front.buyer.email.lower() or front.buyer.name.casefold()
    lines = sorted(
        (line.product_id or line.sku or line.name, line.quantity)
        for line in front.lines
        if line.quantity
    )
    times = [*observed.reached.values(), *filter(None, (front.placed_at, front.paid_at))]
    if not (buyer and lines and times):
        return None
    total = front.total_minor if front.total_text is None else front.total_text
    told = orjson.dumps(
        [observed.source, buyer, front.currency_text or front.currency, total, lines]
    )
    return OrderLook(hashlib.sha256(told).digest(), min(times))
