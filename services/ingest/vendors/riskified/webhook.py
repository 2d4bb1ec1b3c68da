"""Riskified: decisions on orders, signed over the raw body, without a time and without a delivery
id.

Anybody who has seen a decision can send it again, and it verifies. So a decision is the transition
that it names, from `old_status` to `status`, and counts once: the verdict is the end of the chain
(services.ingest.rules.verdicts). Only `approved` releases an order. If an order is approved,
declined and approved again with the same statuses, its chain has a cycle, and it stays declined
until an operator decides.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.callbacks import RISKIFIED
from schemas.fraud import FraudStatus, FraudVerdict
from services.ingest.rules import facts
from services.ingest.rules.verdicts import transition_fact
from services.ingest.vendors.shared.gateway import named_order
from services.ingest.vendors.shared.signing import is_hmac_of_body
from services.ingest.vendors.shared.source import (
    ReceivedCallback,
    Source,
    WebhookRequest,
    checked_identifier,
)
from services.ingest.vendors.shared.text import clean

SIGNATURE = b"x-riskified-hmac-sha256"
FRAUD_STATUS_BY_ORDER_STATUS: dict[str, FraudStatus] = {
    "approved": "approved",
    "declined": "declined",
}
KNOWN_ORDER_STATUSES = frozenset(
    {*FRAUD_STATUS_BY_ORDER_STATUS, "submitted", "pending", "cancelled", "error", "test"}
)
OTHER = "other"  # stands for an unknown status
SCORE_MAX = 1_000_000.0
ORDER = re.compile(
    rb'"order"\s*:\s*\{\s*"id"\s*:\s*(?:"([0-9A-Za-z_.#-]{1,200})"|([0-9]{1,19}))\s*[,}]'
)

Text = Annotated[str | None, Field(max_length=100_000)]


class RiskifiedModel(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class RiskifiedDecision(RiskifiedModel):
    id: Annotated[str, Field(min_length=1, max_length=200)]
    status: Annotated[str, Field(min_length=1, max_length=40)]
    old_status: Annotated[str | None, Field(max_length=40)] = None
    description: Text = None
    decision_code: Annotated[str | None, Field(max_length=200)] = None
    risk_score: object = None


class RiskifiedNotification(RiskifiedModel):
    order: RiskifiedDecision


def verify(request: WebhookRequest) -> bool:
    """Check the hexadecimal, lower-case HMAC-SHA256(auth token, raw body)."""
    return is_hmac_of_body(request, request.headers.get(SIGNATURE, b""), is_hex=True)


def order_ids(body: bytes) -> tuple[str | None]:
    """Return the order's id, which Riskified writes first."""
    match = ORDER.search(body)
    return ((match[1] or match[2]).decode() if match else None,)


def identify(received: ReceivedCallback, order: RiskifiedDecision) -> str:
    """Return source, order, both statuses and the decision's code."""
    code = clean(order.decision_code or "", 100)
    return (
        f"{received.source}:{checked_identifier(order.id, 'order.id')} "
        f"{plain(order.old_status or '')}>{plain(order.status)} {code}"
    )


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    order = RiskifiedNotification.model_validate_json(received.body).order
    key = identify(received, order)
    status = plain(order.status)
    if order.id == "0" and status == "test":
        test_notification = facts.DriftNotice(
            received.source, "test-notification", "test", received.body, is_reported=False
        )
        return facts.parsed_callback(key, None, drift=(test_notification,))
    verdict = FraudVerdict(
        source=received.source,
        verdict=FRAUD_STATUS_BY_ORDER_STATUS.get(status, "pending"),
        detail=clean(
            f"{status} {order.decision_code or ''}: {order.description or ''}".rstrip(" :"), 200
        ),
        score=score(order.risk_score),
        at=received.at,
    )
    fact = transition_fact(verdict, chain_status(order.old_status), chain_status(order.status))
    unknown = [
        word
        for word in (status, plain(order.old_status or ""))
        if word and word not in KNOWN_ORDER_STATUSES
    ]
    drift = [
        facts.DriftNotice(received.source, "unknown-status", word, received.body)
        for word in unknown
    ]
    return facts.parsed_callback(
        key, named_order(received, order.id, "order.id"), (fact,), drift=tuple(drift)
    )


def plain(status: str) -> str:
    return clean(status, 40).lower() or ("blank" if status else "")


def chain_status(status: str | None) -> str:
    """Return the status as it stands in the chain. Unknown statuses share one word, because an
    order's facts are bounded.
    """
    word = plain(status or "")
    return word if not word or word in KNOWN_ORDER_STATUSES else OTHER


def score(value: object) -> float | None:
    """Return the score if it is a number; no decision depends on it."""
    try:
        number = (
            float(value)
            if isinstance(value, (int, float, str)) and not isinstance(value, bool)
            else None
        )
    except (ValueError, OverflowError):
        return None
    return number if number is not None and -SCORE_MAX <= number <= SCORE_MAX else None


SOURCE = Source(
    kind="riskified",
    type=RISKIFIED,
    verify=verify,
    normalise=normalise,
    order_ids=order_ids,
    needs_orders_of=True,
)
