"""Rate limits per source, so that one source's flood leaves room for the others. Pure: the caller
has the clock.

Repeats have a rate of their own: anybody who has seen one signed body can send it any number of
times, and must not use up the rate of new callbacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BURST_S = 2.0  # of its rate at once: shops send a sale's orders in bursts
RECENT_MAX = 5_000  # bodies of one source that are remembered


@dataclass(slots=True)
class TokenBucket:
    """A token bucket that fills at `rate_max` per second. Not shared between threads."""

    rate_max: float
    burst_s: float = BURST_S
    _level: float = field(init=False)
    _at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._level = self._capacity

    @property
    def _capacity(self) -> float:
        return max(1.0, self.rate_max * self.burst_s)

    def has_room(self, now: float) -> bool:
        """Return whether a token is available at `now` (a monotonic time). Takes none."""
        self._level = min(self._capacity, self._level + max(0.0, now - self._at) * self.rate_max)
        self._at = max(self._at, now)
        return self._level >= 1

    def take(self, now: float) -> bool:
        """Take a token if one is available. Return whether it was."""
        if not self.has_room(now):
            return False
        self._level -= 1
        return True


@dataclass(slots=True)
class SourceRateLimits:
    """The limits of one source: one for new callbacks, and an equal one for repeats."""

    rate_max: float
    _new: TokenBucket = field(init=False)
    _repeated: TokenBucket = field(init=False)
    # by a hash that differs between processes
    _remembered: dict[int, None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._new, self._repeated = TokenBucket(self.rate_max), TokenBucket(self.rate_max)

    def has_room(self, now: float) -> bool:
        """Return whether a callback may come now, before its body shows whether it is a repeat."""
        return self._new.has_room(now) or self._repeated.has_room(now)

    def take(self, now: float, body: bytes) -> bool:
        return (self._repeated if hash(body) in self._remembered else self._new).take(now)

    def remember(self, body: bytes) -> None:
        """Remember a body that Kafka has acknowledged."""
        self._remembered[hash(body)] = None
        if len(self._remembered) > RECENT_MAX:
            del self._remembered[next(iter(self._remembered))]
