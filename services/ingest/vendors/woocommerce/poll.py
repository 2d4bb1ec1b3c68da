"""WooCommerce: polls orders by when they were last changed, and whether the shop's webhook is
enabled.

Pages follow the times of change, not page numbers: an order that changes between two pages moves to
the end, and would pull an unread one onto a page that was read already. A shop's clock has seconds,
and one second can hold more orders than a page (a bulk action). Such a second is read by id,
forwards and backwards: orders that leave it meanwhile make others move up, and the way back meets
those that moved past us.
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

PAGE = 100  # the largest page that WooCommerce returns
OVERLAP_S = 120  # an order may appear so long after the second that it names
WEBHOOK_PAGES_MAX = 3
CALLBACK_TYPE = "order.updated"
API = "/wp-json/wc/v3"
TOTAL = "x-wp-total"
COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)  # a larger total is ignored, so that pages end


def request(
    http: httpx.Client,
    config: PollConfig,
    path: str,
    parameters: Mapping[str, str | int] | None = None,
) -> tuple[Any, int]:
    """Return the response's value, and the total that its header reports (0: none)."""
    response = http.get(
        f"{config.url}{API}{path}", params=parameters, auth=(config.key, config.secret)
    )
    value, total = json_document(response), response.headers.get(TOTAL, "")
    return value, int(total) if COUNT.fullmatch(total) else 0


def read_orders(
    http: httpx.Client, config: PollConfig, cursor: str, now: float, *, status: str
) -> PollPage:
    """Read the next orders after the cursor, which has

    - `after`: all changes up to this second were read
    - `from`, `last` and `began`, of a walk that is not finished
    - `second` and `offset`, of a second that is read by id: where the page begins, or on the way
      `back` where it ends
    - `seen`: marks of the objects that were found last, so that an overlap publishes nothing twice
    """
    position, size = cursor_of(cursor), config.page
    after = int(position.get("after", now - config.first_days * DAY_S))
    walk = {"after": after, "from": after, "last": after, "began": int(now)} | {
        name: int(position[name]) for name in ("from", "last", "began") if name in position
    }
    seen = dict.fromkeys(position.get("seen", ()))
    if "second" not in position:
        by_time = {"orderby": "modified", "modified_after": gmt(after)}
        page, total = request_orders(http, config, status, by_time)
        following = next_by_time(walk, page, has_more=len(page) >= size or total > size)
    else:
        second, is_back = int(position["second"]), bool(position.get("back"))
        # a page may be shorter than the last
        offset = max(0, int(position["offset"]) - size) if is_back else int(position["offset"])
        window = {"modified_after": gmt(second - 1), "modified_before": gmt(second + 1)}
        by_id: dict[str, str | int] = {**window, "orderby": "id", "offset": offset}
        page, total = request_orders(http, config, status, by_id)
        has_more = len(page) >= size or total > offset + size
        following = next_by_id(walk, second, offset, size, has_more=has_more, is_back=is_back)
    by_mark = dict[str, FoundObject]()
    sound, warning = page_rows(page, "orders")
    for name, body in sound:
        by_mark[object_mark(body)] = FoundObject(name, WOOCOMMERCE, body, CALLBACK_TYPE)
    new = [found_object for marked, found_object in by_mark.items() if marked not in seen]
    following["seen"] = list(seen | dict.fromkeys(by_mark))[-SEEN_MAX:]
    return PollPage(new, cursor_text(following), is_last="began" not in following, warning=warning)


def request_orders(
    http: httpx.Client, config: PollConfig, status: str, chosen: Mapping[str, str | int]
) -> tuple[list[Any], int]:
    """Return a page of orders, and the total that the shop reports."""
    parameters: dict[str, str | int] = {
        "status": status,
        "per_page": config.page,
        "dates_are_gmt": "true",
        "order": "asc",
    }
    value, total = request(http, config, "/orders", {**parameters, **chosen})
    return list_of(value, "orders"), total


def next_by_time(walk: dict[str, int], page: list[Any], *, has_more: bool) -> dict[str, Any]:
    """Return where the next page begins after a page by time of change. A shop leaves out orders
    that its user may not read or that it cannot build, so a short page is not the last.
    """
    times = [at for order in page if (at := modified(order)) is not None and at >= walk["after"]]
    if times != sorted(times):
        raise MalformedResponseError("the orders are not sorted by when they were changed")
    last = max([walk["last"], *times])
    if not has_more:  # the end: the next walk begins a little earlier, for orders that appear late
        return {"after": max(walk["from"], min(last, walk["began"]) - OVERLAP_S)}
    if not times:
        raise MalformedResponseError("no order of a page has the time of its last change")
    if times[-1] - 1 > walk["after"]:
        return {**walk, "after": times[-1] - 1, "last": last}
    return {**walk, "last": last, "second": walk["after"] + 1, "offset": 0}


def next_by_id(
    walk: dict[str, int], second: int, offset: int, size: int, *, has_more: bool, is_back: bool
) -> dict[str, Any]:
    """Return where the next page begins after a page of one second, forwards or backwards."""
    if not is_back and has_more:
        return {**walk, "second": second, "offset": offset + size}
    if offset > 0:
        return {**walk, "second": second, "offset": offset, "back": True}
    return {**walk, "after": second}


def modified(order: object) -> int | None:
    """Return when the order was last changed, or None if it has no such time. The time of creation
    would not help, because no page is sorted by it.
    """
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
    """Poll the trash, which `any` leaves out."""
    return read_orders(http, config, cursor, now, status="trash")


def webhook(http: httpx.Client, config: PollConfig, _cursor: str, _now: float) -> PollPage:
    """Check the webhook, which WooCommerce disables after a few failures in a row without reporting
    it.
    """
    webhooks = list[ListedWebhook]()
    for number in range(1, WEBHOOK_PAGES_MAX + 1):
        page = list_of(
            request(http, config, "/webhooks", {"per_page": PAGE, "page": number})[0], "webhooks"
        )
        webhooks += [
            listed_webhook(webhook, "delivery_url")
            for webhook in page
            if isinstance(webhook, dict) and str(webhook.get("topic", "")).startswith("order.")
        ]
        if len(page) < PAGE:
            break
    return webhook_page(config.slug, webhooks, "active")


def fetch_order(http: httpx.Client, config: PollConfig, external_id: str) -> FoundObject:
    if not (external_id.isascii() and external_id.isdigit()):
        raise MalformedResponseError("an order's id is a number here")
    order, _ = request(http, config, f"/orders/{external_id}")
    if not isinstance(order, dict) or required_id(order, "orders") != external_id:
        raise MalformedResponseError("the response is another order")
    return FoundObject(external_id, WOOCOMMERCE, body_of(order, "orders"), CALLBACK_TYPE)


POLLS = (
    Poll("woocommerce", "orders", 300.0, orders),
    Poll("woocommerce", "trash", 900.0, trash),
    Poll("woocommerce", "webhook", 900.0, webhook),
)
