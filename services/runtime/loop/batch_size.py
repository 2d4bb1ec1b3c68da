"""How many records a transaction takes: no more than it can work in its time, and no more than
memory bears.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime.loop.batch import LaneSlice, halved
from services.runtime.settings import LaneSettings

QUICK_SHARE = 0.25  # of the time that a transaction has: then twice as many records are no danger


class AdaptiveBatchSize:
    """A batch that lasted too long is tried with half of its records, and those behind it are taken
    in that measure until they are quick again: a single record may ask for thousands of rows.
    """

    def __init__(self, settings: LaneSettings) -> None:
        self._most, self._bytes_max = settings.batch_records_max, settings.batch_bytes_max
        self._quick_s = settings.transaction_timeout_ms / 1_000 * QUICK_SHARE
        self._bytes_each = 1_000.0  # of the records fetched last
        self.records = self._most

    def room(self, prepared: int) -> int:
        """For records to be fetched. As large as the last ones were: a client's fetch is bounded in
        records only, and a record may have a megabyte.
        """
        return min(self._most, max(1, int(self._bytes_max / max(self._bytes_each, 1.0)))) - prepared

    def prepared(self, sizes: Sequence[int]) -> None:
        """Bytes of the records that a fetch brought."""
        if sizes:
            self._bytes_each = max(sum(sizes) / len(sizes), self._bytes_each / 2)

    def shorten(self, parts: Sequence[LaneSlice]) -> list[LaneSlice]:
        """The first half of what lasted too long."""
        half = halved(parts)
        self.records = sum(len(part.taken) for part in half)
        return half

    def done(self, seconds: float) -> None:
        if seconds < self._quick_s:
            self.records = min(self._most, 2 * self.records)
