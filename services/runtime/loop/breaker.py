"""A bad release must not dead-letter a topic: when half of the last records fail unexpectedly, the
service pauses itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from services.runtime.errors import FailureRateExceeded
from services.runtime.records import Dead, Outcome


class FailureRateBreaker:
    """Looks at the last `window_records` outcomes. Poison that was expected (a returned Dead) never
    brakes.
    """

    def __init__(self, window_records: int, share: float) -> None:
        self._window: deque[bool] = deque(maxlen=window_records)
        self._limit = window_records * share
        self._share = share

    def check(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """Before the commit, so that a batch full of failures leaves no letter. Raises Braked; else
        answers for `note`.
        """
        if Dead not in set(map(type, outcomes)):
            return [False] * len(outcomes)
        flags = [isinstance(outcome, Dead) and outcome.unexpected for outcome in outcomes]
        if any(flags):
            ahead = deque(self._window, maxlen=self._window.maxlen)
            # a batch is longer than the window, and good records at its end hide none before them
            for flag in flags:
                ahead.append(flag)
                if flag and sum(ahead) >= self._limit:
                    raise FailureRateExceeded(
                        f"{sum(ahead)} of {len(ahead)} records in a row failed unexpectedly"
                    )
        return flags

    def note(self, flags: Sequence[bool]) -> None:
        """After the commit."""
        self._window.extend(flags)

    def release(self) -> None:
        """An operator resumed the service: it is judged by what comes now."""
        self._window.clear()
