"""What the loop reports about its work: once per batch or event, never per record.

| event | reported when |
| --- | --- |
| transaction_begun | the lanes' rows are locked, the work has not begun |
| committing | everything is written, the commit comes next |
| committed | the commit succeeded, nothing is published yet |
| produced | the outputs are with the producer |
| published | all outputs of a lane are acknowledged |
| assigned, revoked, lost | the group gave or took lanes |
| acquired, fenced, stopped | this process owns a lane, or no longer does, or may not go on |
| repositioned, hole_suspected, client_skipped_record | a client's position was in doubt |
| record_failed | a record raised an unexpected exception |
| backing_off, warning | the loop waits for a dependency, or goes on despite a problem |
| iteration_done, paused, gauges, conservation | the state of the loop and of its lanes |

`Telemetry` itself does nothing. Metrics (prometheus.py) and logs (logging_telemetry.py) are two
implementations; a test that kills a process at a named point is another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from services.runtime.errors import StublineError
from services.runtime.records import LaneKey


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """A committed batch in numbers."""

    lanes: Collection[LaneKey]
    effects: int
    duplicates: int
    superseded: int
    dead: Mapping[str, int]  # by code
    outputs: int
    seconds: float  # from the begin of the transaction to the result of its commit
    counts: Mapping[str, int]  # what the handler counted


class Telemetry:
    """The events of the loop, in the order in which a batch meets them, then those of lanes."""

    def transaction_begun(self, lanes: Collection[LaneKey]) -> None:
        """The rows are locked, the work has not begun."""

    def committing(self, lanes: Collection[LaneKey]) -> None:
        """Everything is written; the commit is the next statement."""

    def committed(self, batch: BatchSummary) -> None:
        """The commit succeeded; nothing is published yet."""

    def produced(self, lanes: Collection[LaneKey]) -> None:
        """The batch's outputs are with the producer; none need be acknowledged."""

    def published(self, lane: LaneKey) -> None:
        """All outputs are acknowledged; the position for lag tools is not stored yet."""

    def acquired(self, lane: LaneKey, epoch: int, offset: int, republished: int) -> None:
        """The lane is owned. `republished`: the number of outputs that its row still held."""

    def assigned(self, lanes: Collection[LaneKey]) -> None: ...
    def revoked(self, lanes: Collection[LaneKey]) -> None: ...
    def lost(self, lanes: Collection[LaneKey]) -> None: ...
    def fenced(self, lanes: Collection[LaneKey]) -> None:
        """The rows are another process's, or were moved."""

    def stopped(self, lane: LaneKey, code: str, text: str) -> None:
        """The lane is stopped until an operator decides."""

    def repositioned(self, lane: LaneKey, offset: int, reason: str) -> None:
        """The client's position was in doubt, so it reads again from the lane's tail."""

    def hole_suspected(self, lane: LaneKey, offset: int) -> None:
        """Offsets are missing, so the client reads again from here. Usual where a log has holes."""

    def client_skipped_record(self, lane: LaneKey, offset: int) -> None:
        """The client had skipped a record, and brought it when it read again."""

    def backing_off(self, error: BaseException, attempt: int, wait_s: float) -> None:
        """A dependency failed: the loop waits so many seconds."""

    def warning(self, error: StublineError) -> None:
        """Something is configured wrongly; the loop goes on."""

    def record_failed(self, record_at: tuple[str, int, int], error: BaseException) -> None:
        """A record raised an unexpected exception, at (topic, partition, offset)."""

    def conservation(self, gaps: Mapping[LaneKey, int]) -> None:
        """Per lane, the consumed records less those with an outcome, as the rows have it: zero."""

    def iteration_done(self, *, is_ready: bool, reason: str) -> None:
        """Once per iteration of the loop; at most some hundreds a second."""

    def paused(self, *, is_paused: bool, reason: str) -> None:
        """The service was paused or resumed."""

    def gauges(
        self,
        lag: Mapping[LaneKey, tuple[int, float]],
        unacknowledged: Mapping[LaneKey, int],
        stopped: Collection[LaneKey],
        uncommitted: Mapping[LaneKey, int],
    ) -> None:
        """Every few seconds. `lag`: (records, seconds) per lane; `uncommitted`: records of open
        transactions.
        """
