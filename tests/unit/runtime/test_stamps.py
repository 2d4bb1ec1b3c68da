"""A topic that its producers stamp is reported, at most once a minute, and only where that
matters.
"""

from __future__ import annotations

from typing_extensions import override

from services.runtime.errors import ProducerTimestamps, StublineError
from services.runtime.loop.ports import FetchResult
from services.runtime.loop.timestamps import REPORT_INTERVAL_S, TimestampChecks
from services.runtime.observability.telemetry import Telemetry


class Heard(Telemetry):
    def __init__(self) -> None:
        self.warnings: list[StublineError] = []

    @override
    def warned(self, error: StublineError) -> None:
        self.warnings.append(error)


def test_it_is_reported_at_most_once_a_minute_and_names_the_topic() -> None:
    observe, now = Heard(), [0.0]
    stamps = TimestampChecks(["in"], observe, lambda: now[0])
    stamps.observe(FetchResult())
    stamps.observe(FetchResult(stamped_by_producers={"other"}))
    assert observe.warnings == []
    for at in (0.0, 1.0, REPORT_INTERVAL_S - 1, REPORT_INTERVAL_S):
        now[0] = at
        stamps.observe(FetchResult(stamped_by_producers={"in", "other"}))
    assert [type(it) for it in observe.warnings] == [ProducerTimestamps] * 2
    assert {it.cause for it in observe.warnings} == {"in"}
