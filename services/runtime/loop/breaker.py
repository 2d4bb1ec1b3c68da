"""Protects a topic from a bad release: if half of the last records fail unexpectedly, the service
pauses itself instead of dead-lettering everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from services.runtime.errors import FailureRateExceeded
from services.runtime.records import Dead, Outcome


class FailureRateBreaker:
    """Watches the last `window_records` outcomes. Expected poison (a returned Dead) is no failure.

    `check` is called before a commit and `record` after it, so a batch full of failures writes no
    dead letter. It is not the `CircuitBreaker` (failures/circuit_breaker.py), which stops calls to
    one server.
    """

    def __init__(self, window_records: int, share: float) -> None:
        self._window: deque[bool] = deque(maxlen=window_records)
        self._limit = window_records * share
        self._share = share

    def check(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """Return which outcomes are failures, for `record`. Raises FailureRateExceeded."""
        if Dead not in set(map(type, outcomes)):
            return [False] * len(outcomes)
        failed = [isinstance(outcome, Dead) and outcome.unexpected for outcome in outcomes]
        if any(failed):
            window = deque(self._window, maxlen=self._window.maxlen)
            # A batch may be longer than the window, so the limit is checked at each record: sound
            # records at the end of a batch must not hide the failures before them.
            for is_failure in failed:
                window.append(is_failure)
                if is_failure and sum(window) >= self._limit:
                    raise FailureRateExceeded(
                        f"{sum(window)} of {len(window)} records in a row failed unexpectedly"
                    )
        return failed

    def record(self, failed: Sequence[bool]) -> None:
        """Take the outcomes of a committed batch into the window."""
        self._window.extend(failed)

    def reset(self) -> None:
        """Forget the window: an operator resumed the service."""
        self._window.clear()
