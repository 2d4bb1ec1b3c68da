"""Limits repeated log lines: one line a minute per cause, with the number of suppressed lines."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from time import monotonic

INTERVAL_S = 60.0
CAUSES_MAX = 1_000  # that are remembered; the oldest is forgotten first
ADDRESSES_AND_COUNTS = re.compile(r"\[thrd:[^]]*\]:?|\S*\d\S*|\(.*?\)")


@dataclass(slots=True)
class LoggedCause:
    """When a cause was logged last, and how many lines were suppressed since."""

    at: float
    suppressed: int = 0


class RepeatLimiter:
    """Decides which lines are written. Thread-safe."""

    def __init__(
        self, interval_s: float = INTERVAL_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._written: dict[Hashable, LoggedCause] = {}
        self._lock = threading.Lock()

    def due(self, cause: Hashable) -> int | None:
        """Return how many lines of this cause were suppressed since the last one, or None if this
        line is to be suppressed too.
        """
        with self._lock:
            now, before = self._clock(), self._written.get(cause)
            if before is not None and now - before.at < self._interval_s:
                before.suppressed += 1
                return None
            self._written.pop(cause, None)
            self._written[cause] = LoggedCause(now)
            if len(self._written) > CAUSES_MAX:
                del self._written[next(iter(self._written))]
            return before.suppressed if before is not None else 0


def message_shape(text: str) -> str:
    """Return a line without addresses, numbers and durations: lines of one cause share it."""
    return " ".join(ADDRESSES_AND_COUNTS.sub("#", text).split())
