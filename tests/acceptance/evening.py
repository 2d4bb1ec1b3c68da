"""A shop's evening, and how it must end."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence

from tests.acceptance.laws import check
from tests.support.stubline import BoughtOrder, Stubline

STORIES = (
    ("completed",),
    ("pending", "processing", "completed"),
    ("completed", "cancelled"),
    ("pending",),
)
Wanted = list[
    tuple[BoughtOrder, int]
]  # an order, and how many of its tickets are active in the end


def evening(stubline: Stubline, orders: int = 24, copies: int = 2, share: float = 0.3) -> Wanted:
    """Report orders; a share of the callbacks is sent `copies` times. Return what each order must
    end with.
    """
    draw, wanted = random.Random(7), []
    for number in range(orders):
        order = stubline.order(RFL=1 + number % 3, DRAW=1)
        story = STORIES[number % 4]
        for status in story:
            stubline.report(order, status)
            if draw.random() < share:
                stubline.send_callback(order, times=copies - 1, at_once=copies > 2)
        wanted.append((order, 2 + number % 3 if story[-1] == "completed" else 0))
    return wanted


def more(stubline: Stubline, wanted: Wanted) -> Callable[[], None]:
    """Return a function that reports two more orders each time it is called."""
    return lambda: wanted.extend(evening(stubline, orders=2))


def expect(
    stubline: Stubline,
    wanted: Sequence[tuple[BoughtOrder, int]],
    incomplete_topics: Collection[str] = (),
    skipped_offsets: int = 0,
) -> None:
    """Wait until nothing moves. Then these orders have their tickets and mails, and all laws
    hold.
    """
    stubline.settle(90)
    names = [order.order_id for order, _ in wanted]
    rows = stubline.rows(
        "select order_id, count(*) from issuer.tickets "
        "where order_id = any(%(names)s) and status = 'Active' group by order_id",
        names=names,
    )
    active = {row["order_id"]: row["count"] for row in rows}
    assert {name: active.get(name, 0) for name in names} == {
        order.order_id: tickets for order, tickets in wanted
    }
    sent = stubline.sent()
    mails = {
        order.order_id: len(set(sent.get(order.purchase.email, ())))
        for order, tickets in wanted
        if tickets
    }
    assert set(mails.values()) <= {1}, (
        f"one deliberate mail an order, however often it had to be tried: {mails}"
    )
    check(stubline, incomplete_topics, skipped_offsets)
