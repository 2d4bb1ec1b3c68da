"""Callbacks as their vendors send them, for tests: bodies, signatures, and the records that the
webhook endpoint makes of them.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.callbacks import NATIVE, TOPIC, WOOCOMMERCE, received
from services.ingest.vendors import DECIMALS, ORDERS_OF
from services.runtime.records import Record

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SAMPLE: dict[str, Any] = json.loads((FIXTURES / "woocommerce" / "order.json").read_bytes())
AT = "2026-11-20T15:30:00.000000Z"


def woo_order(**changes: object) -> dict[str, Any]:
    """The sample of the wire-format notes, with other values where a test wants them; another order
    has its own payment.
    """
    paid: dict[str, Any] = {}
    if "id" in changes:
        paid["transaction_id"] = f"ch_{changes['id']!s:0>16}"
        paid["meta_data"] = [
            {"id": 13106, "key": "_stripe_intent_id", "value": f"pi_{changes['id']!s:0>16}"}
        ]
    return {**SAMPLE, **paid, **changes}


def native_order(**changes: object) -> dict[str, Any]:
    return {
        "source": "shop",
        "order_id": "727",
        "status": "completed",
        "modified_at": "2026-11-20T15:28:08Z",
        "currency": "EUR",
        "total_minor": 1500,
        "paid_at": "2026-11-20T15:28:08Z",
        "buyer": {"name": "Ada Example", "email": "ada@example.org"},
        "lines": [
            {
                "line_id": "315",
                "product_id": "93",
                "sku": "RFL-SPRING",
                "name": "Spring Draw entry",
                "quantity": 2,
                "total_minor": 1000,
            }
        ],
        **changes,
    }


def signature(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def signed(body: bytes, secret: str, callback_type: str = "order.updated") -> dict[str, str]:
    """The headers of a WooCommerce delivery."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "WooCommerce/11.2.0 Hookshot (WordPress/6.9)",
        "X-WC-Webhook-Source": "https://shop.example.org/",
        "X-WC-Webhook-Topic": callback_type,
        "X-WC-Webhook-Resource": "order",
        "X-WC-Webhook-Event": callback_type.rpartition(".")[2],
        "X-WC-Webhook-Signature": signature(body, secret),
        "X-WC-Webhook-ID": "12",
        "X-WC-Webhook-Delivery-ID": "0" * 32,
    }


def record(
    body: bytes | Mapping[str, Any],
    *,
    callback_type: str = "order.updated",
    kind: str = WOOCOMMERCE,
    source: str = "shop",
    order: str = "727",
    reception_id: str = "a-1",
    orders_of: str = "",
    decimals: int | None = None,
    content_type: str = "application/json",
    at: str = AT,
    logged_at: str = "",
    offset: int = 0,
    partition: int = 0,
) -> Record:
    """Return a record of callbacks.received.v1. `at` is the endpoint's clock; `logged_at` is the
    broker's, the same by default.
    """
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    extensions = {"callbacktopic": callback_type} if callback_type and kind == WOOCOMMERCE else {}
    if orders_of:
        extensions[ORDERS_OF] = orders_of
    if decimals is not None:
        extensions[DECIMALS] = str(decimals)
    output = received(
        data,
        source=source,
        key=f"{orders_of or source}:{order}",
        kind=kind,
        reception_id=reception_id,
        content_type=content_type,
        **extensions,
    ).encode(time=at)
    logged_ms = round(datetime.fromisoformat(logged_at or at).timestamp() * 1_000)
    return Record(TOPIC, partition, offset, logged_ms, output.key, output.value, output.headers)


def native(body: Mapping[str, Any], *, reception_id: str = "e-1", **more: Any) -> Record:
    return record(body, kind=NATIVE, reception_id=reception_id, **more)
