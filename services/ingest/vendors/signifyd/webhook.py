"""Signifyd: decisions on orders, signed over the raw body, ordered by the time in them.

The checkpoint is a header, which no signature covers: it names the callback and decides nothing.
Bodies of two generations are read: a `decision` with its `checkpointAction`, and a case with its
dispositions. An unknown word is `pending`, and so is a guarantee that was not requested: only an
accepted order is released.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.callbacks import SIGNIFYD
from schemas.fraud import FraudStatus, FraudVerdict
from schemas.text import rfc3339
from services.ingest.rules import facts
from services.ingest.rules.verdicts import SEVERITY, untimed_fact
from services.ingest.vendors.shared.gateway import kept_callback, named_order
from services.ingest.vendors.shared.signing import is_hmac_of_body
from services.ingest.vendors.shared.source import (
    ReceivedCallback,
    Source,
    WebhookRequest,
    bounded_time,
    checked_identifier,
)
from services.ingest.vendors.shared.text import clean

# current names, then former ones
SIGNATURES = (b"signifyd-sec-hmac-sha256", b"x-signifyd-sec-hmac-sha256")
TYPE_HEADERS = (b"signifyd-checkpoint", b"signifyd-topic", b"x-signifyd-topic")
HEADER = re.compile(r"[a-z0-9-]{1,100}", re.ASCII)
TEST = "cases/test"  # sent by a button of its page, about no order
FRAUD_STATUS_BY_ACTION: dict[str, FraudStatus] = {
    "ACCEPT": "approved",
    "REJECT": "declined",
    "HOLD": "pending",
    "CHALLENGE": "pending",
}
FRAUD_STATUS_BY_GUARANTEE: dict[str, FraudStatus] = {
    "APPROVED": "approved",
    "DECLINED": "declined",
    **dict.fromkeys(
        ("PENDING", "IN_REVIEW", "CANCELED", "CANCELLED", "UNREQUESTED", "N/A"), "pending"
    ),
}
FRAUD_STATUS_BY_REVIEW: dict[str, FraudStatus] = {
    "GOOD": "approved",
    "FRAUDULENT": "declined",
    "UNSET": "pending",
}
SCORE_MAX = 1_000_000.0
ORDER = re.compile(rb'"orderId"\s*:\s*(?:"([0-9A-Za-z_.#-]{1,200})"|([0-9]{1,19}))\s*[,}]')

Id = Annotated[str, Field(min_length=1, max_length=200)]
Status = Annotated[str | None, Field(max_length=100)]
Text = Annotated[str | None, Field(max_length=100_000)]


class SignifydModel(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class SignifydDecision(SignifydModel):
    checkpointAction: Status = None  # noqa: N815 - Signifyd's spelling
    checkpointActionReason: Text = None  # noqa: N815 - as above
    createdAt: datetime | None = None  # noqa: N815 - as above
    score: object = None


class SignifydWebhook(SignifydModel):
    orderId: Id  # noqa: N815 - Signifyd's spelling
    signifydId: Status = None  # noqa: N815 - as above
    caseId: Status = None  # noqa: N815 - as above
    decision: SignifydDecision | None = None
    guaranteeDisposition: Status = None  # noqa: N815 - as above
    reviewDisposition: Status = None  # noqa: N815 - as above
    updatedAt: datetime | None = None  # noqa: N815 - as above
    createdAt: datetime | None = None  # noqa: N815 - as above
    score: object = None

    @property
    def at(self) -> datetime | None:
        """Signifyd's time, if there is one: of the decision, or of the case's last change."""
        at = self.decision.createdAt if self.decision else self.updatedAt or self.createdAt
        return (
            None
            if at is None
            else bounded_time(at.replace(tzinfo=UTC) if at.tzinfo is None else at)
        )


def verify(request: WebhookRequest) -> bool:
    """Check the base64 of HMAC-SHA256(API key of the team, raw body)."""
    named = request.options.get("signature_header")
    return is_hmac_of_body(
        request, first(request.headers, (named.encode(),) if named else SIGNATURES)
    )


def read_options(options: Mapping[str, str], _folder: Path) -> Mapping[str, str]:
    """Return the options with header names in lower case. Signifyd has renamed its headers
    before.
    """
    named = {name: text.lower() for name, text in options.items()}
    if not all(HEADER.fullmatch(text) for text in named.values()):
        raise ValueError("signature_header is no header's name")
    return named


def callback_type(headers: Mapping[bytes, bytes]) -> str:
    return clean(first(headers, TYPE_HEADERS).decode("ascii", "replace"), 100)


def first(headers: Mapping[bytes, bytes], names: tuple[bytes, ...]) -> bytes:
    return next((headers[name] for name in names if name in headers), b"")


def order_ids(body: bytes) -> tuple[str | None]:
    match = ORDER.search(body)
    return ((match[1] or match[2]).decode() if match else None,)


def identify(received: ReceivedCallback, webhook: SignifydWebhook) -> str:
    """Return source, order, case, checkpoint, and the decision's time."""
    case, at = clean(webhook.signifydId or webhook.caseId or "", 100), webhook.at
    callback_type = clean(received.callback_type, 100)
    return (
        f"{received.source}:{checked_identifier(webhook.orderId, 'orderId')} {case} "
        f"{callback_type} {rfc3339(at) if at else ''}"
    )


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    webhook = SignifydWebhook.model_validate_json(received.body)
    key = identify(received, webhook)
    words = fraud_statuses_of(webhook)
    if received.callback_type == TEST or not words:
        is_test = received.callback_type == TEST
        cause = "test" if is_test else "a body without a decision"
        return kept_callback(received, key, "unknown-type", cause, is_reported=not is_test)
    decided = webhook.decision or webhook
    reason = webhook.decision.checkpointActionReason if webhook.decision else None
    verdict = FraudVerdict(
        source=received.source,
        verdict=most_severe(words),
        detail=clean(f"{' '.join(word for word, _ in words)}: {reason or ''}".rstrip(" :"), 200),
        score=score(decided.score),
        at=webhook.at or received.at,
    )
    rank = SEVERITY[verdict.verdict]  # of two in the same instant the more severe one wins
    fact = facts.verdict_fact(verdict, rank=rank) if webhook.at else untimed_fact(verdict)
    unknown = [
        facts.DriftNotice(received.source, "unknown-status", word, received.body)
        for word, known in words
        if not known
    ]
    return facts.parsed_callback(
        key, named_order(received, webhook.orderId, "orderId"), (fact,), drift=tuple(unknown)
    )


def fraud_statuses_of(webhook: SignifydWebhook) -> list[tuple[str, FraudStatus | None]]:
    """Return Signifyd's words, each with the status that it stands for (None: it is unknown). A
    review counts beside a guarantee only when it finds fraud.
    """
    if webhook.decision is not None and webhook.decision.checkpointAction:
        return [with_fraud_status(webhook.decision.checkpointAction, FRAUD_STATUS_BY_ACTION)]
    guarantee, review = webhook.guaranteeDisposition, webhook.reviewDisposition
    words = [with_fraud_status(guarantee, FRAUD_STATUS_BY_GUARANTEE)] if guarantee else []
    if review and (
        not guarantee or with_fraud_status(review, FRAUD_STATUS_BY_REVIEW)[1] in {"declined", None}
    ):
        words.append(with_fraud_status(review, FRAUD_STATUS_BY_REVIEW))
    return words


def with_fraud_status(
    word: str, known: Mapping[str, FraudStatus]
) -> tuple[str, FraudStatus | None]:
    plain = clean(word, 40).upper() or "BLANK"
    return plain, known.get(plain)


def most_severe(words: list[tuple[str, FraudStatus | None]]) -> FraudStatus:
    """Return the most severe verdict; an unknown word counts as pending."""
    return max((word or "pending" for _, word in words), key=SEVERITY.__getitem__)


def score(value: object) -> float | None:
    """Return the score if it is a number; no decision depends on it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if -SCORE_MAX <= value <= SCORE_MAX else None


SOURCE = Source(
    kind="signifyd",
    type=SIGNIFYD,
    verify=verify,
    normalise=normalise,
    order_ids=order_ids,
    callback_type=callback_type,
    needs_orders_of=True,
    options={"signature_header": "the header of the signature, if Signifyd gives it another name"},
    read_options=read_options,
)
