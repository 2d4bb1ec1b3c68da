"""A circuit breaker for one server that the process calls: of mails, of files, of a vendor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.runtime.failures.backoff import ExponentialDelay


@dataclass(slots=True)
class CircuitBreaker:
    """Stops calls to a server that fails. Closed: every call may pass. Open: none, for a delay that
    doubles with each trip. Half-open: one call is tried, and its result decides.

    It lives in one process, and its caller refrains from calls, so nothing counts as an attempt
    while it is open. It is not the `FailureRateBreaker` (loop/breaker.py), which pauses a whole
    service of whose last records too many became dead letters.
    """

    failures_max: int  # in a row, that open it
    delay: ExponentialDelay  # how long it is open
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
        """The seconds until a call is tried again."""
        return max(0.0, self._until - self.clock())

    def allows(self, calls: int) -> int:
        """Return how many of so many calls may be made now."""
        if self._trips == 0:
            return calls
        return 0 if self.is_open else 1

    def succeeded(self) -> None:
        self._failures = self._trips = 0

    def failed(self, *, at_once: bool = False) -> None:
        """Count a failure. `at_once`: another try cannot succeed, as with a wrong password."""
        self._failures += 1
        if at_once or self._trips or self._failures >= self.failures_max:
            self._trips += 1
            self._until = self.clock() + self.delay.delay_s(self._trips, self.rng())
