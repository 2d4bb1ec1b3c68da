"""The verdicts of fraud checkers on an order."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from schemas.envelope import Slug, Snapshot
from schemas.orders import ExternalId, Source, Time
from schemas.structs import SnapshotPart, always_written

FraudStatus = Literal["approved", "declined", "pending", "unchecked"]


class FraudVerdict(SnapshotPart, frozen=True, kw_only=True):
    """The last verdict of one checker. `unchecked`: the shop does not have it check the order.

    Approval does not read verdicts yet.
    """

    source: Source
    verdict: Annotated[
        FraudStatus,
        Meta(description="A vendor's word that this release does not know is `pending`."),
    ]
    detail: Annotated[str, Meta(max_length=200, description="The vendor's own words.")] = ""
    score: Annotated[float | None, Meta(description="The vendor's, on its own scale.")] = None
    at: Time


class FraudSignals(Snapshot, frozen=True, kw_only=True):
    """All verdicts on an order by their source (`source:review` for each of several reviews)."""

    topic: ClassVar[str] = "fraud.signals.v1"
    event_type: ClassVar[str] = "stubline.fraud.signals.v1"

    writer: Slug = always_written("ingest.fraud")
    source: Source
    external_id: ExternalId
    verdicts: dict[str, FraudVerdict] = {}  # noqa: RUF012 - msgspec copies it
