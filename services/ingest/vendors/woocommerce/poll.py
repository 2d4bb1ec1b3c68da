"""WooCommerce: orders by when they were last changed, and whether the shop still tells us by
itself.

Pages follow the times of change, not page numbers: an order that changes while we turn the page
moves to the end, and would pull one that nobody has read onto a page that was read already. A
shop's clock has seconds, and one second can hold more orders than a page (a bulk action). Such a
second is gone through by id, there and back: what leaves it meanwhile makes others move up, and the
way back meets those that moved past us.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from schemas.callbacks import WOOCOMMERCE
from services.clients.http import MalformedResponseError
from services.ingest.vendors.shared.poll import DAY_S, FoundObject, Poll, PollConfig, PollPage
from services.ingest.vendors.shared.poll_responses import (
    SEEN_MAX,
    ListedWebhook,
    body_of,
    cursor_of,
    cursor_text,
    json_document,
    list_of,
    listed_webhook,
    object_mark,
    page_rows,
    required_id,
    seconds_of,
    webhook_page,
)

PAGE = 100  # the most that a shop answers at once
OVERLAP_S = 120  # an order may show up so long after the second that it says
WEBHOOK_PAGES_MAX = 3
TOPIC = "order.updated"
API = "/wp-json/wc/v3"
TOTAL, COUNT = (
    "x-wp-total",
    re.compile(r"[0-9]{1,6}", re.ASCII),
)  # of more it is not believed: pages end some time


def request(
    http: httpx.Client,
    config: PollConfig,
    path: str,
    parameters: Mapping[str, str | int] | None = None,
) -> tuple[Any, int]:
    """What it answers, and how many of a list there are, as far as it says so."""
    response = http.get(
        f"{config.url}{API}{path}", params=parameters, auth=(config.key, config.secret)
    )
    value, total = json_document(response), response.headers.get(TOTAL, "")
    return value, int(total) if COUNT.fullmatch(total) else 0


def read_orders(
    http: httpx.Client, config: PollConfig, cursor: str, now: float, *, status: str
) -> PollPage:
    """The next orders behind the cursor: `after`, whose second is done; of a walk that is not at
    its end `from`, `last` and `began`, and of a second that is gone through by id `second`,
    `offset` (where the page begins; where it ends on the way `back`); `seen`: what was found last,
    so that an overlap tells nothing anew.
    """
    position, size = cursor_of(cursor), config.page
    after = int(position.get("after", now - config.first_days * DAY_S))
    walk = {"after": after, "from": after, "last": after, "began": int(now)} | {
        name: int(position[name]) for name in ("from", "last", "began") if name in position
    }
    seen = dict.fromkeys(position.get("seen", ()))
    parameters: dict[str, str | int] = {
        "status": status,
        "per_page": size,
        "dates_are_gmt": "true",
        "order": "asc",
    }
    if "second" not in position:
        value, total = request(
            http,
            config,
            "/orders",
            {**parameters, "orderby": "modified", "modified_after": gmt(after)},
        )
        page = list_of(value, "orders")
        following = next_by_time(walk, page, has_more=len(page) >= size or total > size)
    else:
        second, is_back = int(position["second"]), bool(position.get("back"))
        offset = (
            max(0, int(position["offset"]) - size) if is_back else int(position["offset"])
        )  # a page may be shorter than the last
        window = {"modified_after": gmt(second - 1), "modified_before": gmt(second + 1)}
        value, total = request(
            http, config, "/orders", {**parameters, **window, "orderby": "id", "offset": offset}
        )
        page = list_of(value, "orders")
        has_more = len(page) >= size or total > offset + size
        following = next_by_id(walk, second, offset, size, has_more=has_more, is_back=is_back)
    found = dict[str, FoundObject]()
    sound, warning = page_rows(page, "orders")
    for name, body in sound:
        found[object_mark(body)] = FoundObject(name, WOOCOMMERCE, body, TOPIC)
    new = [found_object for marked, found_object in found.items() if marked not in seen]
    following["seen"] = list(seen | dict.fromkeys(found))[-SEEN_MAX:]
    return PollPage(new, cursor_text(following), is_last="began" not in following, warning=warning)


def next_by_time(walk: dict[str, int], page: list[Any], *, has_more: bool) -> dict[str, Any]:
    """A page by time of change was read: from where the next one goes on. A shop leaves out of it
    what its user may not read, or what it cannot build, so a short page is not the last.
    """
    times = [at for order in page if (at := modified(order)) is not None and at >= walk["after"]]
    if times != sorted(times):
        raise MalformedResponseError("the orders are not sorted by when they were changed")
    last = max([walk["last"], *times])
    if not has_more:  # the end: the next walk begins a little earlier, for what shows up late
        return {"after": max(walk["from"], min(last, walk["began"]) - OVERLAP_S)}
    if not times:
        raise MalformedResponseError("no order of a page says when it was changed")
    if times[-1] - 1 > walk["after"]:
        return {**walk, "after": times[-1] - 1, "last": last}
    return {**walk, "last": last, "second": walk["after"] + 1, "offset": 0}


def next_by_id(
    walk: dict[str, int], second: int, offset: int, size: int, *, has_more: bool, is_back: bool
) -> dict[str, Any]:
    """A page of one second was read, on the way there or back."""
    if not is_back and has_more:
        return {**walk, "second": second, "offset": offset + size}
    if offset > 0:
        return {**walk, "second": second, "offset": offset, "back": True}
    return {**walk, "after": second}


def modified(order: object) -> int | None:
    """None: it does not say. When it was created would be no help, for so no page is sorted."""
    value = order.get("date_modified_gmt") if isinstance(order, dict) else None
    try:
        return seconds_of(datetime.fromisoformat(value)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def gmt(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def orders(http: httpx.Client, config: PollConfig, cursor: str, now: float) -> PollPage:
    return read_orders(http, config, cursor, now, status="any")


def trash(http: httpx.Client, config: PollConfig, cursor: str, now: float) -> PollPage:
    """`any` leaves it out."""
    return read_orders(http, config, cursor, now, status="trash")


def webhook(http: httpx.Client, config: PollConfig, _cursor: str, _now: float) -> PollPage:
    """A shop switches a webhook off after a few failures in a row, and tells nobody."""
    webhooks = list[ListedWebhook]()
    for number in range(1, WEBHOOK_PAGES_MAX + 1):
        page = list_of(
            request(http, config, "/webhooks", {"per_page": PAGE, "page": number})[0], "webhooks"
        )
        webhooks += [
            listed_webhook(it, "delivery_url")
            for it in page
            if isinstance(it, dict) and str(it.get("topic", "")).startswith("order.")
        ]
        if len(page) < PAGE:
            break
    return webhook_page(config.slug, webhooks, "active")


def read_order(http: httpx.Client, config: PollConfig, external_id: str) -> FoundObject:
    if not (external_id.isascii() and external_id.isdigit()):
        raise MalformedResponseError("an order's id is a number here")
    order, _ = request(http, config, f"/orders/{external_id}")
    if not isinstance(order, dict) or required_id(order, "orders") != external_id:
        raise MalformedResponseError("the answer is another order")
    return FoundObject(external_id, WOOCOMMERCE, body_of(order, "orders"), TOPIC)


POLLS = (
    Poll("woocommerce", "orders", 300.0, orders),
    Poll("woocommerce", "trash", 900.0, trash),
    Poll("woocommerce", "webhook", 900.0, webhook),
)
