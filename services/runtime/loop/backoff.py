"""Waits that grow from failure to failure, and are forgotten once the loop works again."""

from __future__ import annotations

import random

QUIET_S = 0.5


class Backoff:
    """Exponential backoff with jitter for the whole loop.

    One iteration without a failure proves nothing: a batch that fails each time is acquired in one
    iteration and fails in the next. So failures are forgotten only after a commit, or after the
    loop ran without a failure for longer than its last wait.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._waits_until = self._quiet_at = 0.0
        self.failures = 0
        self.code = ""  # of the last failure; empty: none is remembered

    def record_failure(self, code: str, now: float) -> float:
        """Return how many seconds to wait, with jitter."""
        self.failures += 1
        self.code = code
        wait = min(self._longest_s, 0.1 * float(1 << min(self.failures - 1, 10))) * random.uniform(
            0.5, 1.0
        )
        self._waits_until = now + wait
        self._quiet_at = self._waits_until + wait + QUIET_S
        return wait

    def remaining(self, now: float) -> float:
        """Return the seconds that are still to wait."""
        return max(0.0, self._waits_until - now)

    def note_success(self, now: float) -> None:
        """Forget the failures if an iteration succeeded long enough after the last of them."""
        if self.failures and now > self._quiet_at:
            self.reset()

    def reset(self) -> None:
        """Forget the failures: something was committed."""
        self.failures, self.code = 0, ""
