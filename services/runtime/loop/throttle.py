"""Whether and how fast the service reads: an operator's pause and rate limit, and the service's own
backlog.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from services.runtime.failures.token_bucket import TokenBucket
from services.runtime.loop.context import WorkerContext

S = TypeVar("S")
BURST_S = 0.2  # of the rate: what may be worked at once after an idle time


class Throttle(Generic[S]):
    """Reads the controls twice a second, so that a change acts within one second.

    The rate limit is for the whole service: a process takes the share of the lanes that it owns.
    """

    def __init__(self, context: WorkerContext[S]) -> None:
        self._backlog, self._lane_store = context.service.backlog, context.lane_store
        self._telemetry, self._clock = context.telemetry, context.clock
        self._interval_s = context.settings.controls_interval_ms / 1_000
        self._next = float("-inf")
        self._reason = ""
        self._rate: float | None = None
        self._bucket = TokenBucket(1.0, BURST_S)

    @property
    def is_paused(self) -> bool:
        return bool(self._reason)

    @property
    def reason(self) -> str:
        """Why the service is paused; empty: it is not."""
        return self._reason

    def refresh(self) -> None:
        """Read the controls if they are due. Raises what the lane store raises."""
        now = self._clock()
        if now < self._next:
            return
        controls = self._lane_store.controls()
        reason = "paused" if controls.paused else ""
        if not reason and self._backlog is not None:
            reason = self._lane_store.read(self._backlog) or ""
        self._next = now + self._interval_s
        self._rate = controls.rate_limit_per_s
        if reason != self._reason:
            self._telemetry.paused(is_paused=bool(reason), reason=reason)
        self._reason = reason

    def expire(self) -> None:
        """Have the next `refresh` read the controls."""
        self._next = float("-inf")

    def allowance(self, records_max: int, own_lanes: int, all_lanes: int) -> int:
        """Return how many records may be fetched now."""
        if self._rate is None:
            return records_max
        self._bucket.rate_per_s = self._rate * own_lanes / max(all_lanes, own_lanes, 1)
        return min(records_max, self._bucket.available(self._clock()))

    def consume(self, records: int) -> None:
        """Take fetched records off the allowance."""
        if self._rate is not None:
            self._bucket.take(self._clock(), records)
