"""Laws of the runtime's metrics: sums are the batch's, and only owned lanes are exposed."""

from __future__ import annotations

import secrets

import pytest

from services.runtime.observability import metrics
from services.runtime.observability.metrics import Counter, declare
from services.runtime.observability.prometheus import PrometheusTelemetry
from services.runtime.observability.telemetry import BatchSummary
from services.runtime.records import LaneKey

ONE, OTHER = LaneKey("in.v1", 0), LaneKey("in.v1", 1)


@pytest.fixture
def group() -> str:
    return f"g{secrets.token_hex(4)}"


def records(group: str, outcome: str) -> float:
    return metrics.value_of("stubline_lane_records_total", group=group, outcome=outcome)


def test_each_record_of_a_batch_is_counted_in_one_outcome(group: str) -> None:
    counted = declare(Counter(f"stubline_test_{group}_total", "Counted by a handler."))
    telemetry = PrometheusTelemetry(group)
    for _ in range(2):
        telemetry.committed(
            BatchSummary(
                lanes=[ONE],
                effects=5,
                duplicates=3,
                superseded=2,
                dead={"a-code": 1, "b-code": 4},
                outputs=6,
                seconds=0.01,
                counts={counted.name: 7},
            )
        )
    assert [
        records(group, outcome) for outcome in ("effect", "duplicate", "superseded", "dead")
    ] == [10, 6, 4, 10]
    assert metrics.value_of("stubline_dead_letters_total", group=group, code="b-code") == 8
    assert metrics.value_of("stubline_lane_outputs_total", group=group) == 12
    assert metrics.value_of("stubline_lane_batches_total", group=group) == 2
    assert metrics.value_of("stubline_lane_batch_seconds_count", group=group) == 2
    assert metrics.value_of(counted.name) == 14


def test_a_lane_that_is_anothers_now_is_exposed_no_longer(group: str) -> None:
    telemetry = PrometheusTelemetry(group)
    telemetry.gauges({ONE: (7, 1.5), OTHER: (1, 0.0)}, {ONE: 3}, [OTHER], {})
    assert (
        metrics.value_of("stubline_lane_lag_records", group=group, topic="in.v1", partition="0")
        == 7
    )
    assert metrics.value_of("stubline_lane_stopped", group=group) == 1
    telemetry.gauges({OTHER: (2, 0.5)}, {}, [], {})
    text = metrics.exposition().decode()
    assert f'stubline_lane_lag_records{{group="{group}",partition="0"' not in text
    assert f'stubline_lane_lag_seconds{{group="{group}",partition="1",topic="in.v1"}} 0.5' in text
    assert metrics.value_of("stubline_lane_stopped", group=group) == 0
