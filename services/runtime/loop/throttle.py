"""How fast, and whether at all: an operator's pause and rate, and the service's own backlog."""

from __future__ import annotations

from typing import Generic, TypeVar

from services.runtime.loop.context import WorkerContext

S = TypeVar("S")
BURST_S = 0.2  # of the rate: what may be worked at once after a rest


class Throttle(Generic[S]):
    """Reads the controls twice a second, so that they act within one. A process takes its lanes'
    share of the rate.
    """

    def __init__(self, means: WorkerContext[S]) -> None:
        self._backlog, self._ledger, self._telemetry = (
            means.service.backlog,
            means.ledger,
            means.telemetry,
        )
        self._clock, self._interval_s = means.clock, means.settings.controls_interval_ms / 1_000
        self._next = float("-inf")
        self._paused, self._why = False, ""
        self._rate: float | None = None
        self._tokens, self._at = 0.0, means.clock()

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def why(self) -> str:
        return self._why

    def refresh(self) -> None:
        """Raises what the ledger raises."""
        now = self._clock()
        if now < self._next:
            return
        controls = self._ledger.controls()
        why = "paused" if controls.paused else ""
        if not why and self._backlog is not None:
            why = self._ledger.backlog(self._backlog) or ""
        self._next = now + self._interval_s
        self._rate = controls.rate_limit_per_s
        if why != self._why:
            self._telemetry.paused(is_paused=bool(why), why=why)
        self._paused, self._why = bool(why), why

    def refresh_soon(self) -> None:
        self._next = float("-inf")

    def allowance(self, records_max: int, own_lanes: int, all_lanes: int) -> int:
        """How many records may be fetched now."""
        if self._rate is None:
            return records_max
        now = self._clock()
        rate = self._rate * own_lanes / max(all_lanes, own_lanes, 1)
        self._tokens = min(self._tokens + (now - self._at) * rate, max(rate * BURST_S, 1.0))
        self._at = now
        return min(records_max, int(self._tokens))

    def took(self, records: int) -> None:
        if self._rate is not None:
            self._tokens -= records
