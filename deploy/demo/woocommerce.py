"""What a WooCommerce shop posts: REST v3 order bodies, headers and signature as the vendor's are.

For the demonstration and for tests. Shape and traps are those of WooCommerce 11.2: money as text
but `price` as a number, local dates without an offset beside `*_gmt`, `date_paid` that stays on
cancelled orders, a delivery id that is not unique.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

SHOP_OFFSET = timedelta(hours=1)  # the shop's own clock
# The statuses of orders that were paid once.
PAID = frozenset({"processing", "completed", "refunded", "cancelled"})


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the cart."""

    line_id: int
    product_id: int
    sku: str
    name: str
    quantity: int
    cents: int


@dataclass(frozen=True, slots=True)
class Purchase:
    order_id: int
    buyer: str
    email: str
    items: tuple[Item, ...]

    @property
    def cents(self) -> int:
        return sum(item.cents * item.quantity for item in self.items)


def order_body(purchase: Purchase, status: str, created: datetime, modified: datetime) -> bytes:
    """Return the body of an order's webhook. Times are UTC."""
    number, total = purchase.order_id, _money(purchase.cents)
    first, _, last = purchase.buyer.partition(" ")
    paid = modified if status in PAID else None
    completed = modified if status in {"completed", "refunded"} else None
    refund = {"id": 50_000 + number, "reason": "Customer request", "total": f"-{total}"}
    intent = {"id": 13_000 + number, "key": "_stripe_intent_id", "value": f"pi_{number:016x}"}
    body = {
        "id": number, "parent_id": 0, "number": str(number), "order_key": f"wc_order_{number:011x}",
        "created_via": "checkout", "version": "11.2.0", "status": status,
        "currency": "EUR", "currency_symbol": "€",
        **_dates("created", created), **_dates("modified", modified),
        "discount_total": "0.00", "discount_tax": "0.00",
        "shipping_total": "0.00", "shipping_tax": "0.00", "cart_tax": "0.00",
        "total": total, "total_tax": "0.00", "prices_include_tax": True, "customer_id": number % 50,
        "customer_ip_address": "192.0.2.10", "customer_user_agent": "Mozilla/5.0",
        "customer_note": "",
        "billing": _address(first, last) | {"email": purchase.email, "phone": "+353 1 000 0000"},
        "shipping": dict.fromkeys(_address("", ""), ""),
        "payment_method": "stripe", "payment_method_title": "Card",
        "transaction_id": f"ch_{number:016x}" if paid else "",
        **_dates("paid", paid), **_dates("completed", completed),
        "cart_hash": f"{number:08x}",
        "meta_data": [intent],
        "line_items": [_line(item) for item in purchase.items],
        "tax_lines": [], "shipping_lines": [], "fee_lines": [], "coupon_lines": [],
        "refunds": [refund] if status == "refunded" else [],
        "payment_url": f"https://shop.example.org/checkout/order-pay/{number}/?pay_for_order=true",
        "is_editable": status == "pending", "needs_payment": status == "pending",
        "needs_processing": status != "completed",
        "_links": {"self": [{"href": f"https://shop.example.org/wp-json/wc/v3/orders/{number}"}]},
    }  # fmt: skip
    return _php_json(body)


def deleted_body(order_id: int) -> bytes:
    """Return the body of a trashed order's webhook, which has its id and nothing else."""
    return _php_json({"id": order_id})


def headers(secret: str, topic: str, body: bytes, *, second: int = 0) -> dict[str, str]:
    """Return the headers that the shop sends; the signature is over the raw bytes."""
    digest = hmac.new(html.unescape(secret).encode(), body, hashlib.sha256).digest()
    resource, _, event = topic.partition(".")
    return {
        "User-Agent": "WooCommerce/11.2.0 Hookshot (WordPress/6.9)",
        "Content-Type": "application/json",
        "X-WC-Webhook-Source": "https://shop.example.org/",
        "X-WC-Webhook-Topic": topic,
        "X-WC-Webhook-Resource": resource,
        "X-WC-Webhook-Event": event,
        "X-WC-Webhook-Signature": base64.b64encode(digest).decode(),
        "X-WC-Webhook-ID": "12",
        # A hash of the webhook and the second: two orders share it, and two deliveries of one order
        # do not.
        "X-WC-Webhook-Delivery-ID": hashlib.sha256(f"12{second}".encode()).hexdigest()[:32],
    }


def _line(item: Item) -> dict[str, Any]:
    total = _money(item.cents * item.quantity)
    return {
        "id": item.line_id, "name": item.name, "product_id": item.product_id, "variation_id": 0,
        "quantity": item.quantity,
        "tax_class": "", "subtotal": total, "subtotal_tax": "0.00",
        "total": total, "total_tax": "0.00", "taxes": [],
        "meta_data": [], "sku": item.sku, "price": item.cents / 100,
        "image": {"id": 0, "src": ""}, "parent_name": None,
    }  # fmt: skip


def _address(first: str, last: str) -> dict[str, str]:
    return {
        "first_name": first, "last_name": last, "company": "",
        "address_1": "1 Example Street", "address_2": "",
        "city": "Dublin", "state": "D", "postcode": "D01 X000", "country": "IE",
    }  # fmt: skip


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _dates(name: str, at: datetime | None) -> dict[str, str | None]:
    if at is None:
        return {f"date_{name}": None, f"date_{name}_gmt": None}
    wanted = "%Y-%m-%dT%H:%M:%S"
    return {
        f"date_{name}": (at + SHOP_OFFSET).strftime(wanted),
        f"date_{name}_gmt": at.strftime(wanted),
    }


def _php_json(body: dict[str, Any]) -> bytes:
    r"""Encode as the vendor does: ASCII only, and `\/` for a slash."""
    return json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode()
