"""A circuit breaker for one server that the process calls: of mails, of files, of a vendor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from threading import Lock

from services.runtime.failures.backoff import ExponentialDelay


class BreakerState(IntEnum):
    """The numbers are what a gauge shows."""

    CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@dataclass(slots=True)
class CircuitBreaker:
    """Stops calls to a server that fails. Closed: every call may pass. Open: none, for a delay that
    doubles with each trip. Half-open: one call is tried, and its result decides.

    It lives in one process, whose threads may share it. Its callers refrain from calls, so nothing
    counts as an attempt while it is open. It is not the `FailureRateBreaker` (loop/breaker.py),
    which pauses a whole service of whose last records too many became dead letters.
    """

    failures_max: int  # in a row, that open it
    delay: ExponentialDelay  # how long it is open
    clock: Callable[[], float]
    rng: Callable[[], float]
    _failures: int = 0
    _trips: int = 0
    _until: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def is_open(self) -> bool:
        return self._trips > 0 and self.clock() < self._until

    @property
    def state(self) -> BreakerState:
        """Return the state now; an open breaker becomes half-open as time passes."""
        if self._trips == 0:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.is_open else BreakerState.HALF_OPEN

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
        with self._lock:
            self._failures = self._trips = 0

    def failed(self, *, at_once: bool = False) -> None:
        """Count a failure. `at_once`: another try cannot succeed, as with a wrong password. Calls
        that began before the breaker opened do not make it stay open for longer.
        """
        with self._lock:
            if self.is_open:
                return
            self._failures += 1
            if at_once or self._trips or self._failures >= self.failures_max:
                self._trips += 1
                self._until = self.clock() + self.delay.delay_s(self._trips, self.rng())
