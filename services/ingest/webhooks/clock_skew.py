"""How far this machine's clock is from the broker's, measured at each acknowledgement. Pure: the
caller has the clocks.
"""

from __future__ import annotations

WARN_AGAIN_S = 60.0


def skew_seconds(produced_at: float, acknowledged_at: float, logged_at: float) -> float:
    """Return by how many seconds, at least, this clock is ahead of the broker's (behind: negative).

    The broker stamped the record at some moment between the two of ours. A stamp between them shows
    no skew; one outside shows at least its distance from them. So a slow acknowledgement is never
    taken for a wrong clock.
    """
    if logged_at < produced_at:
        return produced_at - logged_at
    return min(0.0, acknowledged_at - logged_at)


class ClockSkewMonitor:
    """The last measured skew, and when to report it."""

    def __init__(self, warning_s: float) -> None:
        self._warning_s = warning_s
        self._warn_at = float("-inf")
        self.seconds: float | None = None  # None: the broker has not stamped a record yet

    @property
    def warning(self) -> str:
        """The warning, or nothing while the skew is within its bound."""
        if self.seconds is None or abs(self.seconds) <= self._warning_s:
            return ""
        side = "ahead of" if self.seconds > 0 else "behind"
        return f"this machine's clock is at least {abs(self.seconds):.1f} s {side} Kafka's"

    def measured(self, seconds: float) -> None:
        self.seconds = seconds

    def is_to_be_reported(self, now: float) -> bool:
        """Return whether to log the warning now, at most once a minute. `now` is monotonic."""
        if not self.warning or now < self._warn_at:
            return False
        self._warn_at = now + WARN_AGAIN_S
        return True
