"""Adyen's notifications as they are sent: their items, and whether Adyen signed each of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from services.ingest.vendors.shared import exact_json, php_lists
from services.ingest.vendors.shared.signing import is_hmac_of_body
from services.ingest.vendors.shared.source import WebhookRequest

# Distinct ones. Anybody who has seen an item could send it with thousands of dates, and each would
# become a record.
ITEMS_MAX = 100
DIGITS_MAX = 1_000
KEY = re.compile(r"(?:[0-9A-Fa-f]{2})+", re.ASCII)
SIGNED = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")


def key_of(secret: str) -> bytes:
    """Return the key from the hexadecimal digits that Adyen's page shows."""
    if not KEY.fullmatch(digits := secret.strip()):
        raise ValueError("is not a hexadecimal key")
    return bytes.fromhex(digits)


def as_signed(value: object) -> object:
    """Return the value as it is signed: an empty text for null, `true` for true."""
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else value


def document(body: bytes) -> Any:
    """Return the parsed body; None if it is not JSON.

    A lone surrogate in a shopper's name, a raw line break or a number of thousands of digits is no
    reason to refuse: Adyen would send the same for a month, and everything after it in its queue
    would wait.
    """
    try:
        return exact_json.loads(body)
    except ValueError:
        pass
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_int=_bounded, strict=False)
    except (ValueError, RecursionError):
        return None


def _bounded(digits: str) -> int | None:
    return int(digits) if len(digits) < DIGITS_MAX else None


def items(body: bytes) -> Sequence[Mapping[str, Any]]:
    """Return the items in order. The signature and the worker read them here, so both see the same
    value of a repeated key.
    """
    return [_item(wrapped) for wrapped in _listed(document(body)) or ()]


def _listed(notification: object) -> list[object] | None:
    """Return the notification's list of wrapped items; None if it has none."""
    if not isinstance(notification, dict):
        return None
    return php_lists.list_from_php(notification.get("notificationItems"))


def _item(wrapped: object) -> Mapping[str, Any]:
    """Return the item; an empty one, which fits no signature, in the place of a malformed one."""
    item = wrapped.get("NotificationRequestItem") if isinstance(wrapped, dict) else None
    return item if isinstance(item, dict) else {}


def signed_text(item: Mapping[str, Any]) -> bytes | None:
    """Return the signed text, without escapes; None if a field holds what cannot be signed."""
    money = item.get("amount")
    money = money if isinstance(money, dict) else {}
    values = [
        *map(item.get, SIGNED),
        *map(money.get, ("value", "currency")),
        *map(item.get, ("eventCode", "success")),
    ]
    texts = [as_signed(value) for value in values]
    if not all(isinstance(text, str | int) for text in texts):
        return None
    return java_encoded(":".join(map(str, texts)))


def java_encoded(text: str) -> bytes:
    """Encode as Java does: a lone surrogate is a question mark."""
    return text.encode("utf-8", "replace")


def is_genuine(request: WebhookRequest, item: Mapping[str, Any]) -> bool:
    more, text = item.get("additionalData"), signed_text(item)
    given = more.get("hmacSignature") if isinstance(more, dict) else None
    return (
        text is not None
        and isinstance(given, str)
        and is_hmac_of_body(request, java_encoded(given), signed=text)
    )


def verify(request: WebhookRequest) -> bool:
    """Check every item: base64(HMAC-SHA256(key, its signed fields)). No time is signed."""
    signed_items = items(request.body)
    return bool(signed_items) and all(is_genuine(request, item) for item in signed_items)


def pieces(body: bytes) -> Sequence[bytes]:
    """Return one body per item. Adyen sends one item at a time and documents that it may send more;
    an item alone has the same signature.
    """
    notification = document(body)
    listed = _listed(notification)
    if listed is None or len(listed) < 2:
        return (body,)
    try:
        each = {
            exact_json.dumps({"live": notification.get("live"), "notificationItems": [item]}): None
            for item in listed
        }
    except (ValueError, RecursionError):
        return (body,)
    return list(each) if len(each) <= ITEMS_MAX else (body,)
