"""The delay after a failure: it doubles with each failure up to a bound, and is shortened at random
so that many clients do not return at once. Time and randomness are handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DOUBLINGS_MAX = 64  # the longest delay is reached long before; a float overflows at 1,024
FIRST_S = 0.1  # of a loop whose database or broker is unavailable
SUCCESS_S = 0.5  # how long a loop runs without a failure, at least, before failures are forgotten


@dataclass(frozen=True, slots=True)
class ExponentialDelay:
    """The one law of growth and jitter; every backoff of the project has its own bounds.

    Without jitter the delay never shrinks from one failure to the next, and it is between `first_s`
    and `longest_s`. Jitter takes up to half of it away.
    """

    first_s: float
    longest_s: float

    def delay_s(self, failures: int, jitter: float = 0.0) -> float:
        """Return the delay after so many failures in a row, from 1; `jitter` is from 0 to 1."""
        doublings = min(failures - 1, DOUBLINGS_MAX)
        return min(self.longest_s, self.first_s * 2.0**doublings) * (1 - jitter / 2)


class Backoff:
    """The backoff of a whole loop.

    One iteration without a failure proves nothing: a batch that fails each time is acquired in one
    iteration and fails in the next. So failures are forgotten only after a commit, or after the
    loop ran without a failure for longer than its last delay.
    """

    def __init__(self, longest_s: float, rng: Callable[[], float]) -> None:
        """`rng` returns a number from 0 to 1."""
        self._delay, self._rng = ExponentialDelay(FIRST_S, longest_s), rng
        self._ends_at = self._forgets_at = 0.0
        self.failures = 0
        self.code = ""  # of the last failure; empty: none is remembered

    def record_failure(self, code: str, now: float) -> float:
        """Return the seconds to wait."""
        self.failures += 1
        self.code = code
        delay_s = self._delay.delay_s(self.failures, self._rng())
        self._ends_at = now + delay_s
        self._forgets_at = self._ends_at + delay_s + SUCCESS_S
        return delay_s

    def remaining(self, now: float) -> float:
        """Return the seconds that are still to wait."""
        return max(0.0, self._ends_at - now)

    def record_success(self, now: float) -> None:
        """Forget the failures if an iteration succeeded long enough after the last of them."""
        if self.failures and now > self._forgets_at:
            self.reset()

    def reset(self) -> None:
        """Forget the failures: something was committed."""
        self.failures, self.code = 0, ""
