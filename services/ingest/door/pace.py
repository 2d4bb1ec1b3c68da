"""How fast one source may bring callbacks, so that one that runs wild leaves room for the others. Pure: the caller has the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

BURST_S = 2.0  # of its rate at once: shops tell a sale's orders in bursts


@dataclass(slots=True)
class Pace:
    """A bucket that fills at `rate_max` a second. Not shared between threads."""

    rate_max: float
    burst_s: float = BURST_S
    _level: float = field(init=False)
    _at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._level = self._room

    @property
    def _room(self) -> float:
        return max(1.0, self.rate_max * self.burst_s)

    def has_room(self, now: float) -> bool:
        """Whether one more may come now (seconds of a clock that never goes back). Uses up nothing."""
        self._level = min(self._room, self._level + max(0.0, now - self._at) * self.rate_max)
        self._at = max(self._at, now)
        return self._level >= 1

    def take(self, now: float) -> bool:
        """Whether one more may come now, which then has come."""
        if not self.has_room(now):
            return False
        self._level -= 1
        return True
