"""A circuit breaker for one server of mails or of files. While the one for mails is open, nothing
is leased: jobs stay due and lose no attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class CircuitBreaker:
    """Closed: everything passes. Open: nothing, for a delay that doubles with each trip. Half-open:
    one job tries, and its result decides.
    """

    failures_max: int
    wait_min_s: float
    wait_max_s: float
    clock: Callable[[], float]
    rng: Callable[[], float]
    _failures: int = 0
    _trips: int = 0
    _until: float = 0.0

    @property
    def is_open(self) -> bool:
        return self._trips > 0 and self.clock() < self._until

    @property
    def openness(self) -> float:
        """Return 0 when closed, 0.5 when half-open, 1 when open: for the gauge."""
        if self._trips == 0:
            return 0.0
        return 1.0 if self.is_open else 0.5

    @property
    def wait_s(self) -> float:
        return max(0.0, self._until - self.clock())

    def allows(self, jobs: int) -> int:
        if self._trips == 0:
            return jobs
        return 0 if self.is_open else 1

    def succeeded(self) -> None:
        self._failures = self._trips = 0

    def failed(self, *, at_once: bool = False) -> None:
        """Count a failure. `at_once`: another try cannot succeed, as with a wrong password."""
        self._failures += 1
        if at_once or self._trips or self._failures >= self.failures_max:
            doubled = self.wait_min_s * 2.0 ** min(self._trips, 30)
            self._until = self.clock() + min(self.wait_max_s, doubled) * (0.75 + self.rng() / 4)
            self._trips += 1
