"""What the loop tells while it works: once per batch or event, never per record.

`Telemetry` does nothing; the metrics are one implementation
(services/runtime/observability/prometheus.py), and a test that kills a process at a named point is
another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from services.runtime.errors import StublineError
from services.runtime.records import LaneKey


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """A committed batch."""

    lanes: Collection[LaneKey]
    effects: int
    duplicates: int
    superseded: int
    dead: Mapping[str, int]  # by code
    outputs: int
    seconds: float  # from the begin of its transaction to the commit's answer
    counts: Mapping[str, int]  # what the handler counted; sure only now


class Telemetry:
    """Points in the life of a batch, in their sequence, and what happens to lanes."""

    def transaction_begun(self, lanes: Collection[LaneKey]) -> None:
        """Rows are locked, the work has not begun."""

    def committing(self, lanes: Collection[LaneKey]) -> None:
        """All is written; the commit is the next thing to happen."""

    def committed(self, batch: BatchSummary) -> None:
        """The commit has answered; nothing is published yet."""

    def produced(self, lanes: Collection[LaneKey]) -> None:
        """The batch's outputs are with the producer; none need be acknowledged."""

    def published(self, lane: LaneKey) -> None:
        """All outputs are acknowledged; the hint is not yet given."""

    def acquired(self, lane: LaneKey, epoch: int, offset: int, republished: int) -> None: ...
    def assigned(self, lanes: Collection[LaneKey]) -> None: ...
    def revoked(self, lanes: Collection[LaneKey]) -> None: ...
    def lost(self, lanes: Collection[LaneKey]) -> None: ...
    def fenced(self, lanes: Collection[LaneKey]) -> None: ...
    def stopped(self, lane: LaneKey, code: str, text: str) -> None: ...
    def repositioned(self, lane: LaneKey, offset: int, reason: str) -> None:
        """The client's position was in doubt, so the lane starts anew where it should be."""

    def hole_suspected(self, lane: LaneKey, offset: int) -> None:
        """What came does not follow on at this offset, so the lane starts anew there: usual where a
        log has holes.
        """

    def client_skipped_record(self, lane: LaneKey, offset: int) -> None:
        """The client had stepped over a record, which came now that it started anew."""

    def backing_off(self, error: BaseException, attempt: int, wait_s: float) -> None:
        """The world's fault: the loop waits so many seconds."""

    def warned(self, error: StublineError) -> None:
        """Something is not as it should be; the loop goes on."""

    def unexpected(self, record_at: tuple[str, int, int], error: BaseException) -> None:
        """A record raised what nobody foresaw (topic, partition, offset)."""

    def conservation(self, gaps: Mapping[LaneKey, int]) -> None:
        """Consumed records less those with an outcome, per lane, as the rows say. Zero, always."""

    def iteration_done(self, *, is_ready: bool, reason: str) -> None:
        """Once a turn of the loop; at most some hundreds a second."""

    def paused(self, *, is_paused: bool, reason: str) -> None: ...
    def gauges(
        self,
        lag: Mapping[LaneKey, tuple[int, float]],
        unacknowledged: Mapping[LaneKey, int],
        stopped: Collection[LaneKey],
        uncommitted: Mapping[LaneKey, int],
    ) -> None:
        """Every second or so: per lane (records, seconds) behind; records of transactions that are
        still open.
        """
