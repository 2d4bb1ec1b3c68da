"""What those who check orders for fraud say of one."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from schemas.envelope import Snapshot
from schemas.orders import SnapshotPart, Source

Word = Literal["approved", "declined", "pending", "unchecked"]


class FraudVerdict(SnapshotPart):
    """One checker's last word. Only `approved` and `unchecked` (the shop does not ask him) let an
    order go.
    """

    source: Source
    verdict: Word = Field(
        description="A word of the vendor's that nobody knows is `pending`: it lets nothing go."
    )
    detail: str = Field("", max_length=200, description="The vendor's own words.")
    score: float | None = Field(None, description="The vendor's, on its own scale.")
    at: datetime


class FraudSignals(Snapshot):
    """All verdicts of vendors on an order, by who said them (a review of several:
    `source:review`).
    """

    topic: ClassVar[str] = "fraud.signals.v1"
    event_type: ClassVar[str] = "stubline.fraud.signals.v1"

    writer: str = "ingest.fraud"
    source: Source
    external_id: str = Field(min_length=1, max_length=200)
    verdicts: dict[str, FraudVerdict] = Field(default_factory=dict)
