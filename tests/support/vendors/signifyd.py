"""Signifyd."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

from tests.support.callbacks import FIXTURES
from tests.support.vendors.vendor import Sample, Vendor

DECISION, CASE = (
    (FIXTURES / "signifyd" / name).read_bytes().strip() for name in ("decision.json", "case.json")
)


def decision(action: str, at: str | None = "2026-11-20T15:29:00.000Z", **changes: object) -> bytes:
    body: dict[str, Any] = {**json.loads(DECISION), **changes}
    body["decision"] = {**body["decision"], "checkpointAction": action, "createdAt": at}
    return json.dumps(body).encode()


def case(**changes: object) -> bytes:
    """Return the body of the older interface."""
    return json.dumps({**json.loads(CASE), **changes}).encode()


def sign(sample: Sample, secret: str, _at: float) -> Mapping[bytes, bytes]:
    digest = base64.b64encode(hmac.digest(secret.encode(), sample.body, "sha256"))
    headers = {b"content-type": b"application/json", b"signifyd-sec-hmac-sha256": digest}
    return headers | (
        {b"signifyd-checkpoint": sample.callback_type.encode()} if sample.callback_type else {}
    )


VENDOR = Vendor(
    kind="signifyd",
    secret="key-of-the-team-with-25-c",
    other_secret="key-of-the-team-last-year",
    samples={
        "accepted": Sample(DECISION, "CHECKOUT"),
        "rejected at a review": Sample(
            decision("REJECT", "2026-11-20T16:00:00Z"), "SIGNIFYD_REVIEW"
        ),
        "held": Sample(decision("HOLD"), "SALE"),
        "a word of tomorrow": Sample(decision("ESCALATE"), "CHECKOUT"),
        "without its time": Sample(decision("ACCEPT", None)),
        "an older case": Sample(CASE, "guarantees/completion"),
        "test": Sample(case(orderId="19418"), "cases/test"),
        "without a decision": Sample(b'{"orderId":"727","signifydId":299}', "CHECKOUT"),
    },
    sign=sign,
)
