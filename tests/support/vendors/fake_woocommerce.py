"""A shop's REST API as far as polls use it: orders by change or by id, in pages; one order;
webhooks.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any

from tests.support.callbacks import woo_order
from tests.support.vendors.fake_server import FakeResponse, FakeVendor, Refused, SentRequest

API = "/wp-json/wc/v3"
KEY, SECRET = "ck_of-the-shop", "cs_of-the-shop"
LISTING = frozenset(
    {
        "status",
        "per_page",
        "order",
        "orderby",
        "dates_are_gmt",
        "modified_after",
        "modified_before",
        "offset",
    }
)


def at(text: str) -> int:
    """Return the time as a shop writes it: `2026-11-20T15:28:08` and nothing finer."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text):
        raise Refused(400, f"{text} is no time")
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


class FakeWooCommerce(FakeVendor):
    """`orders` by id: the second of its last change, and its status. Pages leave out the
    `unreadable`, but count them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[int, tuple[int, str]] = {}
        self.unreadable = set[int]()
        self.webhooks: list[dict[str, Any]] = []

    def put(self, number: int, changed: int, status: str = "completed") -> None:
        self.orders[number] = changed, status

    def add_webhook(self, slug: str, status: str = "active", topic: str = "order.updated") -> None:
        address = f"https://endpoint.example.org/hooks/{slug}"
        self.webhooks.append(
            {
                "id": len(self.webhooks) + 1,
                "status": status,
                "topic": topic,
                "delivery_url": address,
            }
        )

    def body(self, number: int) -> dict[str, Any]:
        changed, status = self.orders[number]
        second = datetime.fromtimestamp(changed, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return woo_order(id=number, status=status, date_modified_gmt=second)

    def answer(self, request: SentRequest) -> FakeResponse:
        wanted = "Basic " + base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        if request.headers.get("authorization") != wanted:
            raise Refused(401, "woocommerce_rest_cannot_view", is_fault=False)
        if request.path == f"{API}/orders":
            return self._listed(request)
        if match := re.fullmatch(rf"{API}/orders/(\d+)", request.path):
            if int(match[1]) not in self.orders:
                raise Refused(404, "woocommerce_rest_shop_order_invalid_id", is_fault=False)
            return FakeResponse(200, self.body(int(match[1])))
        if request.path == f"{API}/webhooks":
            size, page = int(request.parameters["per_page"]), int(request.parameters["page"])
            return FakeResponse(200, self.webhooks[(page - 1) * size : page * size])
        raise Refused(404, "rest_no_route")

    def _listed(self, request: SentRequest) -> FakeResponse:
        parameters = request.parameters
        if unknown_parameters := parameters.keys() - LISTING:
            raise Refused(400, f"unknown parameters: {sorted(unknown_parameters)}")
        if (
            parameters.get("dates_are_gmt") != "true"
            or parameters.get("order") != "asc"
            or not 1 <= int(parameters["per_page"]) <= 100
        ):
            raise Refused(400, f"asked wrongly: {dict(parameters)}")
        after, before = (
            at(parameters["modified_after"]),
            at(parameters.get("modified_before", "9999-01-01T00:00:00")),
        )
        is_trash = parameters["status"] == "trash"
        wanted = [
            (changed, number)
            for number, (changed, status) in self.orders.items()
            if after < changed < before and (status == "trash") == is_trash
        ]
        by = {"modified": lambda pair: pair, "id": lambda pair: pair[1]}[parameters["orderby"]]
        begin = int(parameters.get("offset", 0))
        page = sorted(wanted, key=by)[begin : begin + int(parameters["per_page"])]
        shown = [self.body(number) for _, number in page if number not in self.unreadable]
        return FakeResponse(200, shown, {"X-WP-Total": str(len(wanted))})
