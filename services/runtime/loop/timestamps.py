"""Whether records of a topic whose broker should stamp them still carry their producers' times."""

from __future__ import annotations

from collections.abc import Callable, Collection

from services.runtime.errors import ProducerTimestamps
from services.runtime.loop.ports import FetchResult
from services.runtime.observability.telemetry import Telemetry

REPORT_INTERVAL_S = 60.0


class TimestampChecks:
    """Reports such topics at most once a minute. Nothing is stopped for it: the records are worked
    as they are.
    """

    def __init__(
        self, topics: Collection[str], telemetry: Telemetry, clock: Callable[[], float]
    ) -> None:
        self._topics, self._telemetry, self._clock = frozenset(topics), telemetry, clock
        self._next = float("-inf")

    def heard(self, fetch: FetchResult) -> None:
        """Called for each fetch."""
        found = self._topics & fetch.stamped_by_producers
        if found and (now := self._clock()) >= self._next:
            self._next = now + REPORT_INTERVAL_S
            self._telemetry.warned(ProducerTimestamps(", ".join(sorted(found))))
