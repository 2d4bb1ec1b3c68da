"""The verdicts of fraud checkers on an order."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from schemas.envelope import Snapshot
from schemas.orders import SnapshotPart, Source

Word = Literal["approved", "declined", "pending", "unchecked"]


class FraudVerdict(SnapshotPart):
    """The last verdict of one checker. Only `approved` and `unchecked` (the shop does not have it
    check the order) let an order be released.
    """

    source: Source
    verdict: Word = Field(
        description="A vendor's word that this release does not know is `pending`."
    )
    detail: str = Field("", max_length=200, description="The vendor's own words.")
    score: float | None = Field(None, description="The vendor's, on its own scale.")
    at: datetime


class FraudSignals(Snapshot):
    """All verdicts on an order by their source (`source:review` for each of several reviews)."""

    topic: ClassVar[str] = "fraud.signals.v1"
    event_type: ClassVar[str] = "stubline.fraud.signals.v1"

    writer: str = "ingest.fraud"
    source: Source
    external_id: str = Field(min_length=1, max_length=200)
    verdicts: dict[str, FraudVerdict] = Field(default_factory=dict)
