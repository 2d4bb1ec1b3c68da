"""Detects producers' timestamps in topics whose broker should stamp the records."""

from __future__ import annotations

from collections.abc import Callable, Collection

from services.runtime.errors import ProducerTimestamps
from services.runtime.observability.telemetry import Telemetry
from services.runtime.ports import FetchResult

REPORT_INTERVAL_S = 60.0


class TimestampChecks:
    """Reports such topics at most once a minute. The records are worked all the same."""

    def __init__(
        self, topics: Collection[str], telemetry: Telemetry, clock: Callable[[], float]
    ) -> None:
        self._topics, self._telemetry, self._clock = frozenset(topics), telemetry, clock
        self._next = float("-inf")

    def observe(self, fetch: FetchResult) -> None:
        """Examine a fetch. It is called for every fetch."""
        topics = self._topics & fetch.producer_stamped
        if topics and (now := self._clock()) >= self._next:
            self._next = now + REPORT_INTERVAL_S
            self._telemetry.warning(ProducerTimestamps(", ".join(sorted(topics))))
