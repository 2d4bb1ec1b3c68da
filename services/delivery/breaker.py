"""One server, for mails or for files, and whether it is worth asking. Open for mails, nothing is
leased: jobs stay due and lose no attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class CircuitBreaker:
    """Closed: all goes. Open: nothing, for a while that doubles. Then one job tries, and its end
    decides.
    """

    failures_max: int
    wait_min_s: float
    wait_max_s: float
    clock: Callable[[], float]
    chance: Callable[[], float]
    _failures: int = 0
    _trips: int = 0
    _until: float = 0.0

    @property
    def is_open(self) -> bool:
        return self._trips > 0 and self.clock() < self._until

    @property
    def openness(self) -> float:
        """0 closed, 0.5 trying, 1 open: for the gauge."""
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
        """`at_once`: no second try can end otherwise, such as with a wrong password."""
        self._failures += 1
        if at_once or self._trips or self._failures >= self.failures_max:
            doubled = self.wait_min_s * 2.0 ** min(self._trips, 30)
            self._until = self.clock() + min(self.wait_max_s, doubled) * (0.75 + self.chance() / 4)
            self._trips += 1
