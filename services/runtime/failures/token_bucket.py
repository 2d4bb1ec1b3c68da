"""A token bucket: what limits a rate and still lets a burst through. Pure: the caller has the
clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """A bucket that fills at `rate_per_s` and holds the tokens of `burst_s`, at least one. It
    begins full. The rate may be changed at any time. Not shared between threads.

    Takes at most `capacity + rate_per_s * t` tokens in any time t. A caller that waits for n tokens
    gets them after at most `n / rate_per_s` seconds, if n is no more than the capacity.
    """

    rate_per_s: float
    burst_s: float
    _level: float = field(init=False)
    _filled_at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._level = self.capacity

    @property
    def capacity(self) -> float:
        return max(1.0, self.rate_per_s * self.burst_s)

    def available(self, now: float) -> int:
        """Return how many tokens may be taken at `now` (a monotonic time). Takes none."""
        if now > self._filled_at:
            self._level += (now - self._filled_at) * self.rate_per_s
            self._filled_at = now
        self._level = min(self._level, self.capacity)
        return int(self._level)

    def take(self, now: float, tokens: int = 1) -> bool:
        """Take the tokens if all of them are available. Return whether they were."""
        if self.available(now) < tokens:
            return False
        self._level -= tokens
        return True
