"""Riskified."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping

from tests.support.callbacks import FIXTURES
from tests.support.vendors.vendor import Sample, Vendor

DECISION = (FIXTURES / "riskified" / "decision.json").read_bytes().strip()
NOTIFICATION = (
    (FIXTURES / "riskified" / "notification.json").read_bytes().strip()
)  # in several lines


def decision(status: str, old_status: str | None = None, **changes: object) -> bytes:
    """The sample with another transition; without the one before when there is none."""
    order = {**json.loads(DECISION)["order"], "status": status, "old_status": old_status, **changes}
    return json.dumps(
        {"order": {name: value for name, value in order.items() if value is not None}}
    ).encode()


def sign(sample: Sample, secret: str, _at: float) -> Mapping[bytes, bytes]:
    digest = hmac.digest(secret.encode(), sample.body, "sha256").hex()
    return {b"content-type": b"application/json", b"x-riskified-hmac-sha256": digest.encode()}


VENDOR = Vendor(
    kind="riskified",
    secret="636b3045e083eddf4ea9f0b7f2ed4a26",
    other_secret="0d1b3045e083eddf4ea9f0b7f2ed4a27",
    samples={
        "approved": Sample(DECISION),
        "in several lines": Sample(NOTIFICATION),
        "declined later": Sample(decision("declined", "approved", description="Chargeback risk")),
        "without the status before": Sample(
            decision("approved", risk_indicators=[], risk_score="77.5")
        ),
        "a word of tomorrow": Sample(decision("half-approved", "submitted")),
        "test": Sample(b'{"order":{"id":0,"status":"test","description":"Test notification"}}'),
    },
    sign=sign,
)
