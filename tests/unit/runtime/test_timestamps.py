"""A topic with producers' timestamps is reported, at most once a minute and only if it matters."""

from __future__ import annotations

from typing_extensions import override

from services.runtime.errors import ProducerTimestamps, StublineError
from services.runtime.loop.timestamps import REPORT_INTERVAL_S, TimestampChecks
from services.runtime.observability.telemetry import Telemetry
from services.runtime.ports import FetchResult


class RecordingTelemetry(Telemetry):
    def __init__(self) -> None:
        self.warnings: list[StublineError] = []

    @override
    def warning(self, error: StublineError) -> None:
        self.warnings.append(error)


def test_it_is_reported_at_most_once_a_minute_and_names_the_topic() -> None:
    telemetry, now = RecordingTelemetry(), [0.0]
    checks = TimestampChecks(["in"], telemetry, lambda: now[0])
    checks.observe(FetchResult())
    checks.observe(FetchResult(producer_stamped={"other"}))
    assert telemetry.warnings == []
    for at in (0.0, 1.0, REPORT_INTERVAL_S - 1, REPORT_INTERVAL_S):
        now[0] = at
        checks.observe(FetchResult(producer_stamped={"in", "other"}))
    assert [type(warning) for warning in telemetry.warnings] == [ProducerTimestamps] * 2
    assert {warning.cause for warning in telemetry.warnings} == {"in"}
