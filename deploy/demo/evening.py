"""One storefront's evening, drawn from a seed: who buys what, what becomes of it, and which
callbacks the shop sends.

This module does no I/O: deploy/demo/woocommerce.py writes the bodies, deploy/demo/storefront.py
posts them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from deploy.demo.woocommerce import Item, Purchase, deleted_body, order_body

PRODUCTS = (
    ("RFL-SPRING", 93, "Spring Raffle entry", 500),
    ("GALA-DRAW", 94, "Gala Night Draw entry &ndash; early bird", 1500),
)
NAMES = (
    "Ada Example", "Bjørn Ångström", "Chloé Dupré", "Dmitri Иванов", "Eilís Ní Bhriain",
    "Fatima az-Zahra", "Grace O'Hara", "Hồ Thị Lan", "Ivo <b>Bold</b>",
    "Jürgen Müller-Lüdenscheid", "小林 美咲", "Łukasz Żółć",
)  # fmt: skip
STORIES = {  # story -> (share, the statuses it goes through)
    "paid": (0.70, ("pending", "processing", "completed")),
    "paid at once": (0.08, ("completed",)),
    "never paid": (0.09, ("pending",)),
    "payment failed": (0.03, ("pending", "failed")),
    "cancelled": (0.04, ("pending", "processing", "completed", "cancelled")),
    "refunded": (0.04, ("processing", "completed", "refunded")),
    "trashed": (0.02, ("completed", "trash")),
}
REPEATED_SHARE = 0.30
SWAPPED_SHARE = 0.10
MALFORMED = (
    b'{"id": "not a number", "status": 7}',
    b"[1, 2, 3]",
    b'{"id": 5, "line_items": "none"',
)


@dataclass(frozen=True, slots=True)
class Callback:
    """What the shop posts: `twins` times at the same instant."""

    topic: str
    body: bytes
    order_id: int | None
    completes: bool = False  # the first one with the status `completed`
    twins: int = 1


@dataclass(slots=True)
class Order:
    """What was bought, and how it ends: what the reconciliation compares with."""

    purchase: Purchase
    story: str
    callbacks: list[Callback] = field(default_factory=list)

    @property
    def order_id(self) -> int:
        return self.purchase.order_id

    @property
    def is_paid(self) -> bool:
        return self.story in {"paid", "paid at once"}

    @property
    def tickets(self) -> int:
        """How many tickets must be active in the end."""
        return sum(item.quantity for item in self.purchase.items) if self.is_paid else 0


@dataclass(frozen=True, slots=True)
class Evening:
    orders: Sequence[Order]
    callbacks: Sequence[Callback]  # as they are sent, repeats and malformed ones included
    repeats: int


def plan(orders: int, seed: int = 1, begins: datetime | None = None) -> Evening:
    """Draw an evening. The same seed is the same evening on any machine."""
    draw = random.Random(seed)
    begins = begins or datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    orders_drawn = [
        _order(draw, 1_000 + number, begins + timedelta(seconds=7 * number))
        for number in range(orders)
    ]
    queue = list(_mixed(draw, orders_drawn))
    for body in MALFORMED:
        queue.insert(draw.randrange(len(queue)), Callback("order.updated", body, None))
    placed: list[tuple[float, Callback]] = []
    repeats = 0
    for place, callback in enumerate(queue):
        is_repeated = callback.order_id is not None and draw.random() < REPEATED_SHARE
        repeats += is_repeated
        if is_repeated and draw.random() < 0.5:  # at the same instant
            placed.append((place, replace(callback, twins=2)))
            continue
        if is_repeated:  # later, when other things have happened
            placed.append((place + draw.uniform(1, 60), replace(callback, completes=False)))
        placed.append((place, callback))
    return Evening(
        orders_drawn,
        [callback for _, callback in sorted(placed, key=lambda entry: entry[0])],
        repeats,
    )


def _order(draw: random.Random, order_id: int, begins: datetime) -> Order:
    story = draw.choices(list(STORIES), [share for share, _ in STORIES.values()])[0]
    chosen = draw.sample(PRODUCTS, draw.choice([1, 1, 2]))
    items = tuple(
        Item(order_id * 10 + place, product_id, sku, name, draw.choice([1, 1, 2, 2, 3, 4]), cents)
        for place, (sku, product_id, name, cents) in enumerate(chosen)
    )
    order = Order(
        Purchase(order_id, draw.choice(NAMES), f"buyer{order_id}@example.org", items), story
    )
    at, is_completed = begins, False
    for status in STORIES[story][1]:
        at += timedelta(seconds=draw.randint(1, 90))
        if status == "trash":
            order.callbacks.append(Callback("order.deleted", deleted_body(order_id), order_id))
            continue
        topic = "order.updated" if order.callbacks else "order.created"
        completes = status == "completed" and not is_completed
        is_completed = is_completed or completes
        order.callbacks.append(
            Callback(topic, order_body(order.purchase, status, begins, at), order_id, completes)
        )
    if len(order.callbacks) > 1 and story != "trashed" and draw.random() < SWAPPED_SHARE:
        order.callbacks.reverse()  # the last one comes first: versions decide, not arrival
    return order


def _mixed(draw: random.Random, orders: Sequence[Order]) -> Iterator[Callback]:
    """Mix the orders' callbacks; those of one order keep their sequence."""
    waiting = [list(order.callbacks) for order in orders]
    open_until = 0
    live: list[list[Callback]] = []
    while live or open_until < len(waiting):
        while len(live) < 12 and open_until < len(waiting):
            live.append(waiting[open_until])
            open_until += 1
        story = draw.choice(live)
        yield story.pop(0)
        if not story:
            live.remove(story)
