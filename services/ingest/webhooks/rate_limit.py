"""How fast one source may bring callbacks, so that one that runs wild leaves room for the others.
Pure: the caller has the clock.

What was taken before has a pace of its own: who has seen one signed body can send it again and
again, and must not use up the rate of those that are new.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BURST_S = 2.0  # of its rate at once: shops tell a sale's orders in bursts
RECENT_MAX = 5_000  # bodies of a source that are remembered


@dataclass(slots=True)
class TokenBucket:
    """A bucket that fills at `rate_max` a second. Not shared between threads."""

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
        """Whether one more may come now (seconds of a clock that never goes back). Uses up
        nothing.
        """
        self._level = min(self._capacity, self._level + max(0.0, now - self._at) * self.rate_max)
        self._at = max(self._at, now)
        return self._level >= 1

    def take(self, now: float) -> bool:
        """Whether one more may come now, which then has come."""
        if not self.has_room(now):
            return False
        self._level -= 1
        return True


@dataclass(slots=True)
class SourceRateLimits:
    """Of one source: for what is new, and, as fast again, for what comes once more."""

    rate_max: float
    _new: TokenBucket = field(init=False)
    _repeated: TokenBucket = field(init=False)
    _remembered: dict[int, None] = field(
        init=False, default_factory=dict
    )  # by a hash that differs in each process

    def __post_init__(self) -> None:
        self._new, self._repeated = TokenBucket(self.rate_max), TokenBucket(self.rate_max)

    def has_room(self, now: float) -> bool:
        """Whether anything may come now: what it is, nobody knows yet."""
        return self._new.has_room(now) or self._repeated.has_room(now)

    def take(self, now: float, body: bytes) -> bool:
        return (self._repeated if hash(body) in self._remembered else self._new).take(now)

    def remember(self, body: bytes) -> None:
        """Kafka has it."""
        self._remembered[hash(body)] = None
        if len(self._remembered) > RECENT_MAX:
            del self._remembered[next(iter(self._remembered))]
