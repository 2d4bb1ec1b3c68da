"""Rate limits per source, so that one source's flood leaves room for the others. Pure: the caller
has the clock.

Repeats have a rate of their own: anybody who has seen one signed body can send it any number of
times, and must not use up the rate of new callbacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.runtime.failures.token_bucket import TokenBucket

BURST_S = 2.0  # of its rate at once: shops send a sale's orders in bursts
RECENT_MAX = 5_000  # bodies of one source that are remembered


@dataclass(slots=True)
class SourceRateLimits:
    """The limits of one source: one for new callbacks, and an equal one for repeats."""

    rate_max: float
    _new: TokenBucket = field(init=False)
    _repeated: TokenBucket = field(init=False)
    # by a hash that differs between processes
    _remembered: dict[int, None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._new = TokenBucket(self.rate_max, BURST_S)
        self._repeated = TokenBucket(self.rate_max, BURST_S)

    def has_room(self, now: float) -> bool:
        """Return whether a callback may come now, before its body shows whether it is a repeat."""
        return self._new.available(now) > 0 or self._repeated.available(now) > 0

    def take(self, now: float, body: bytes) -> bool:
        return (self._repeated if hash(body) in self._remembered else self._new).take(now)

    def remember(self, body: bytes) -> None:
        """Remember a body that Kafka has acknowledged."""
        self._remembered[hash(body)] = None
        if len(self._remembered) > RECENT_MAX:
            del self._remembered[next(iter(self._remembered))]
