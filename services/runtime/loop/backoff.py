"""How long the loop leaves the world alone: waits that grow while troubles go on, and end when
something was committed.
"""

from __future__ import annotations

import random

QUIET_S = 0.5


class Backoff:
    """One turn without trouble says nothing: a batch that fails each time is acquired in one turn
    and fails in the next.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._away_until = self._calm_at = 0.0
        self.troubles = 0
        self.code = ""  # of the last trouble; empty: all is well

    def begin(self, code: str, now: float) -> float:
        """Another trouble. The answer is how long to wait, with jitter."""
        self.troubles += 1
        self.code = code
        wait = min(self._longest_s, 0.1 * float(1 << min(self.troubles - 1, 10))) * random.uniform(
            0.5, 1.0
        )
        self._away_until = now + wait
        self._calm_at = self._away_until + wait + QUIET_S
        return wait

    def rest(self, now: float) -> float:
        """Seconds still to wait."""
        return max(0.0, self._away_until - now)

    def passed(self, now: float) -> None:
        """A turn went well: calm, if it was quiet for longer than the last wait."""
        if self.troubles and now > self._calm_at:
            self.end()

    def end(self) -> None:
        """Something was committed."""
        self.troubles, self.code = 0, ""
