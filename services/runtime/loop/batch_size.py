"""How many records a transaction takes: what fits into its time, and into memory."""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime.loop.batch import LaneSlice, halved, records_in
from services.runtime.settings import LaneSettings

QUICK_SHARE = 0.25  # of a transaction's time: after such a batch, twice as many records are safe


class AdaptiveBatchSize:
    """Halves the batch when it lasted too long, and doubles it while batches are quick.

    A batch that lasted too long is tried again with half of its records, and the batches after it
    are as small: a single record may cause thousands of rows.
    """

    def __init__(self, settings: LaneSettings) -> None:
        self._records_max, self._bytes_max = settings.batch_records_max, settings.batch_bytes_max
        self._quick_s = settings.transaction_timeout_ms / 1_000 * QUICK_SHARE
        self._record_bytes = 1_000.0  # mean of the last fetch
        self.records = self._records_max

    def room(self, prepared: int) -> int:
        """Return how many more records may be fetched.

        A fetch can be bounded in records only, and one record may have a megabyte. So the next
        records are assumed to be as large as the last ones were.
        """
        fitting = int(self._bytes_max / max(self._record_bytes, 1.0))
        return min(self._records_max, max(1, fitting)) - prepared

    def observe_sizes(self, sizes: Sequence[int]) -> None:
        """Learn from the sizes, in bytes, of the records that a fetch brought."""
        if sizes:
            self._record_bytes = max(sum(sizes) / len(sizes), self._record_bytes / 2)

    def halve(self, slices: Sequence[LaneSlice]) -> list[LaneSlice]:
        """Return the first half of a batch that lasted too long; later batches are as short."""
        half = halved(slices)
        self.records = records_in(half)
        return half

    def observe_duration(self, seconds: float) -> None:
        """Double the size after a quick batch, up to the maximum."""
        if seconds < self._quick_s:
            self.records = min(self._records_max, 2 * self.records)
