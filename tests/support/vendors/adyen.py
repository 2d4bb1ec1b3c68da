"""Adyen, whose signature is in the body."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

from services.ingest.vendors.adyen import webhook as adyen
from tests.support.callbacks import FIXTURES
from tests.support.vendors.vendor import Sample, Vendor

FOLDER = FIXTURES / "adyen"
KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"  # of Adyen's own test data
OTHER_KEY = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"
PAYMENT = "NC6HT9CRT65ZGN82"


def item(name: str = "item", /, **changes: object) -> dict[str, Any]:
    """As Adyen sends it, with other values where a test wants them."""
    return {**json.loads((FOLDER / f"{name}.json").read_bytes()), **changes}


def modified(code: str, reference: str, /, **changes: object) -> dict[str, Any]:
    """What happened to a payment later has a reference of its own."""
    return item(
        eventCode=code, pspReference=reference, originalReference=PAYMENT, reason="", **changes
    )


def signed(item: Mapping[str, Any], key: str = KEY) -> dict[str, Any]:
    """By nothing, when there is no key."""
    money = item["amount"] or {"value": "", "currency": ""}
    text = ":".join(
        [
            *(
                item.get(name, "")
                for name in (
                    "pspReference",
                    "originalReference",
                    "merchantAccountCode",
                    "merchantReference",
                )
            ),
            str(money["value"]),
            money["currency"],
            item["eventCode"],
            item["success"],
        ]
    )
    signature = (
        base64.b64encode(
            hmac.digest(bytes.fromhex(key), text.encode("utf-8", "replace"), "sha256")
        ).decode()
        if key
        else ""
    )
    return {
        **item,
        "additionalData": {**item.get("additionalData", {}), "hmacSignature": signature},
    }


def notified(*items: Mapping[str, Any]) -> bytes:
    return json.dumps(
        {
            "live": "true",
            "notificationItems": [{"NotificationRequestItem": item} for item in items],
        },
        separators=(",", ":"),
    ).encode()


def sample(*items: Mapping[str, Any], key: str = KEY) -> Sample:
    return Sample(notified(*(signed(item, key) for item in items)))


def seal(body: bytes, key: str) -> bytes:
    return notified(*(signed(item, key) for item in adyen.items(body)))


VENDOR = Vendor(
    kind="adyen",
    secret=KEY,
    other_secret=OTHER_KEY,
    samples={
        "authorised": sample(item()),
        "as Adyen's library has it": sample(item("authorisation")),
        "refused": sample(item(success="false", reason="Refused")),
        "captured": sample(modified("CAPTURE", "CAP0000000000001")),
        "capture failed": sample(modified("CAPTURE_FAILED", "CAP0000000000001")),
        "cancelled": sample(modified("CANCELLATION", "CAN0000000000001")),
        "not cancelled": sample(modified("CANCELLATION", "CAN0000000000001", success="false")),
        "refunded": sample(modified("REFUND", "REF0000000000001", amount={"currency": "EUR", "value": 500})),  # noqa: E501 - a table
        "refund failed": sample(modified("REFUND_FAILED", "REF0000000000001")),
        "refund came back": sample(modified("REFUNDED_REVERSED", "REF0000000000001")),
        "cancelled or refunded": sample(modified("CANCEL_OR_REFUND", "COR0000000000001")),
        "warned": sample(item("chargeback", eventCode="NOTIFICATION_OF_FRAUD", pspReference="NOF0000000000001")),  # noqa: E501 - a table
        "chargeback announced": sample(item("chargeback", eventCode="NOTIFICATION_OF_CHARGEBACK")),
        "chargeback": sample(item("chargeback")),
        "chargeback reversed": sample(item("chargeback", eventCode="CHARGEBACK_REVERSED")),
        "chargeback again": sample(item("chargeback", eventCode="SECOND_CHARGEBACK")),
        "information wanted": sample(item("chargeback", eventCode="REQUEST_FOR_INFORMATION")),
        "won": sample(item("chargeback", eventCode="PREARBITRATION_WON")),
        "review accepted": sample(modified("MANUAL_REVIEW_ACCEPT", "REV0000000000001")),
        "review rejected": sample(modified("MANUAL_REVIEW_REJECT", "REV0000000000001")),
        "several": sample(item(), modified("CAPTURE", "CAP0000000000001"), item("authorisation")),
        "by bank": sample(item(additionalData={"iban": "NL13TEST0123456789", "ownerName": "A. Klaassen"})),  # noqa: E501 - a table
        "of another kind": sample(item(eventCode="REPORT_AVAILABLE", merchantReference="", amount={"currency": "EUR", "value": 0})),  # noqa: E501 - a table
        "of a new kind": sample(modified("LEDGER_REWRITTEN", "LED0000000000001")),
    },
    sign=lambda _sample, _secret, _at: {},
    seal=seal,
    card_data=(b"1111", b"03/2030", b"411111", b"Ada Example", b"016153570198200", b"NL13TEST", b"Klaassen", b"064264"),  # noqa: E501 - a table
)  # fmt: skip
