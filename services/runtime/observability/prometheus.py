"""The runtime's own metrics, and the telemetry that sets them: sums per batch, gauges every few
seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from typing_extensions import override

from services.runtime.observability import metrics
from services.runtime.observability.metrics import Counter, Gauge, Histogram, declare
from services.runtime.observability.telemetry import BatchSummary, Telemetry
from services.runtime.records import LaneKey

LANE = ("group", "topic", "partition")

RECORDS = declare(
    Counter(
        "stubline_lane_records_total",
        (
            "Committed records by outcome: effect, duplicate, superseded, dead. If it is flat "
            "while the lag grows, the service makes no progress."
        ),
        ("group", "outcome"),
    )
)
OUTPUTS = declare(
    Counter(
        "stubline_lane_outputs_total", "Events that were committed to be published.", ("group",)
    )
)
BATCHES = declare(
    Counter("stubline_lane_batches_total", "Committed transactions of lanes.", ("group",))
)
BATCH_SECONDS = declare(
    Histogram(
        "stubline_lane_batch_seconds",
        "From the begin of a lane transaction to the result of its commit.",
        ("group",),
    )
)
DEAD = declare(
    Counter(
        "stubline_dead_letters_total",
        "Records that became dead letters, by error code.",
        ("group", "code"),
    )
)
LAG_RECORDS = declare(
    Gauge(
        "stubline_lane_lag_records",
        "Records between a lane's position and the end of its partition.",
        LANE,
    )
)
LAG_SECONDS = declare(
    Gauge(
        "stubline_lane_lag_seconds",
        "Age of the last record that a lane has committed while it has lag; else zero.",
        LANE,
    )
)
UNACKNOWLEDGED = declare(
    Gauge(
        "stubline_lane_unacknowledged",
        "Committed outputs that the broker has not acknowledged yet.",
        LANE,
    )
)
UNCOMMITTED = declare(
    Gauge(
        "stubline_lane_uncommitted_records",
        (
            "Offsets of transactions that their producers have not ended. The lane waits for them, "
            "and they do not count as lag."
        ),
        LANE,
    )
)
CONSERVATION_GAP = declare(
    Gauge(
        "stubline_lane_conservation_gap",
        "Consumed records less those with an outcome. Must always be zero.",
        LANE,
    )
)
STOPPED = declare(
    Gauge(
        "stubline_lane_stopped",
        "Lanes of this process that wait for an operator: `stubline lanes list`.",
        ("group",),
    )
)
ACQUIRED = declare(
    Counter(
        "stubline_lane_acquired_total",
        "Lanes acquired, after an assignment or an error.",
        ("group",),
    )
)
FENCED = declare(
    Counter(
        "stubline_lane_fenced_total",
        "Lanes found to be another process's. A few in each rebalance; a steady rate is an error.",
        ("group",),
    )
)
REPOSITIONED = declare(
    Counter(
        "stubline_lane_repositioned_total",
        "Times a client had to read again from a lane's position because its own was in doubt.",
        ("group",),
    )
)
REPUBLISHED = declare(
    Counter(
        "stubline_lane_redeliveries_total",
        ("Outputs that a lane's new owner published again. Readers count them as duplicates."),
        ("group",),
    )
)
PAUSED = declare(
    Gauge(
        "stubline_service_paused",
        "1 while the service is paused, by an operator or by its failure rate.",
        ("group",),
    )
)
BACKOFFS = declare(
    Counter(
        "stubline_service_backoffs_total",
        "Times the loop backed off because the database or the broker failed.",
        ("group",),
    )
)


class PrometheusTelemetry(Telemetry):
    """Sets the metrics of one process and group."""

    def __init__(self, group: str) -> None:
        self._group = group
        PAUSED.set(0, group=group)
        STOPPED.set(0, group=group)

    @override
    def committed(self, batch: BatchSummary) -> None:
        dead = sum(batch.dead.values())
        outcomes = {
            "effect": batch.effects,
            "duplicate": batch.duplicates,
            "superseded": batch.superseded,
            "dead": dead,
        }
        for outcome, records in outcomes.items():
            if records:
                RECORDS.add(records, group=self._group, outcome=outcome)
        for code, records in batch.dead.items():
            DEAD.add(records, group=self._group, code=code)
        if batch.outputs:
            OUTPUTS.add(batch.outputs, group=self._group)
        BATCHES.add(group=self._group)
        BATCH_SECONDS.observe(batch.seconds, group=self._group)
        metrics.raise_counts(batch.counts)

    @override
    def acquired(self, lane: LaneKey, epoch: int, offset: int, republished: int) -> None:
        ACQUIRED.add(group=self._group)
        REPUBLISHED.add(republished, group=self._group)

    @override
    def fenced(self, lanes: Collection[LaneKey]) -> None:
        FENCED.add(len(lanes), group=self._group)

    @override
    def repositioned(self, lane: LaneKey, offset: int, reason: str) -> None:
        REPOSITIONED.add(group=self._group)

    @override
    def hole_suspected(self, lane: LaneKey, offset: int) -> None:
        REPOSITIONED.add(group=self._group)

    @override
    def backing_off(self, error: BaseException, attempt: int, wait_s: float) -> None:
        BACKOFFS.add(group=self._group)

    @override
    def paused(self, *, is_paused: bool, reason: str) -> None:
        PAUSED.set(int(is_paused), group=self._group)

    @override
    def gauges(
        self,
        lag: Mapping[LaneKey, tuple[int, float]],
        unacknowledged: Mapping[LaneKey, int],
        stopped: Collection[LaneKey],
        uncommitted: Mapping[LaneKey, int],
    ) -> None:
        LAG_RECORDS.set_all({self._labels(lane): records for lane, (records, _) in lag.items()})
        LAG_SECONDS.set_all({self._labels(lane): seconds for lane, (_, seconds) in lag.items()})
        UNACKNOWLEDGED.set_all(
            {self._labels(lane): outputs for lane, outputs in unacknowledged.items()}
        )
        STOPPED.set(len(stopped), group=self._group)
        UNCOMMITTED.set_all({self._labels(lane): records for lane, records in uncommitted.items()})

    @override
    def conservation(self, gaps: Mapping[LaneKey, int]) -> None:
        """Set from the rows of the lanes that this process owns."""
        CONSERVATION_GAP.set_all({self._labels(lane): gap for lane, gap in gaps.items()})

    def _labels(self, lane: LaneKey) -> tuple[str, str, str]:
        return (self._group, lane.topic, str(lane.partition))
