"""How far this machine's clock is from the broker's, as each acknowledgement shows. Pure: the
caller has the clocks.
"""

from __future__ import annotations

WARN_AGAIN_S = 60.0


def skew_seconds(produced_at: float, acknowledged_at: float, logged_at: float) -> float:
    """Ahead of the broker's clock (behind: negative), in seconds, at least.

    The broker stamped the record at some moment between the two of ours. A stamp within them shows
    no skew; one outside shows at least its distance from them. So a slow acknowledgement is never
    taken for a wrong clock.
    """
    if logged_at < produced_at:
        return produced_at - logged_at
    return min(0.0, acknowledged_at - logged_at)


class ClockSkewMonitor:
    """The last one that was measured, and when to report it."""

    def __init__(self, warning_s: float) -> None:
        self._warning_s = warning_s
        self._warn_at = float("-inf")
        self.seconds: float | None = None  # None: no record was stamped by the broker yet

    @property
    def warning(self) -> str:
        """Empty while it is within its bound."""
        if self.seconds is None or abs(self.seconds) <= self._warning_s:
            return ""
        side = "ahead of" if self.seconds > 0 else "behind"
        return f"this machine's clock is at least {abs(self.seconds):.1f} s {side} Kafka's"

    def measured(self, seconds: float) -> None:
        self.seconds = seconds

    def is_to_be_reported(self, now: float) -> bool:
        """At most once a minute (`now`: seconds of a clock that never goes back)."""
        if not self.warning or now < self._warn_at:
            return False
        self._warn_at = now + WARN_AGAIN_S
        return True
