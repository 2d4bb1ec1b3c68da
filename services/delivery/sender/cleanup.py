"""Removes files and plates that have not been used for long. If one is removed too early, it is
rendered again with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from services.delivery.blob_store import BlobStore
from services.delivery.errors import BlobStoreUnavailable
from services.delivery.printing.errors import PlatesFolderUnusable
from services.delivery.sender.telemetry import SenderTelemetry
from services.delivery.store import FileIndex, UnusedFile

BATCH_FILES_MAX = 50  # mails wait meanwhile: a second at most, on a store that takes 20 ms a file
BACKLOG_INTERVAL_S = 5.0  # after a batch that left something
IDLE_INTERVAL_S = 600.0
PLATES_INTERVAL_S = 3_600.0


@dataclass(slots=True)
class FileCleanup:
    """Removes files in batches.

    Crash: contents are removed first, then their rows. Rows that are left have no content, and the
    next step removes them.
    """

    index: Callable[[], FileIndex]
    files: BlobStore
    keep_days: int
    telemetry: SenderTelemetry
    clock: Callable[[], float]
    purge_plates: Callable[[], int] = lambda: 0  # returns how many it removed
    _next_at: float = float("-inf")
    _plates_at: float = float("-inf")

    def step(self) -> None:
        """Remove one bounded batch, when it is due. Raises what the database raises."""
        now = self.clock()
        if now >= self._plates_at:
            self._plates_at = now + PLATES_INTERVAL_S
            self._purge()
        if not self.keep_days or now < self._next_at:
            return
        self._next_at = now + IDLE_INTERVAL_S
        index = self.index()
        with index.removal() as is_ours:
            if is_ours and self._remove_batch(index):
                self._next_at = now + BACKLOG_INTERVAL_S

    def _purge(self) -> None:
        # Printing itself reports a folder that is unavailable.
        with suppress(OSError, PlatesFolderUnusable):
            if removed := self.purge_plates():
                self.telemetry.plates_removed(removed)

    def _remove_batch(self, index: FileIndex) -> bool:
        """Return whether there may be more."""
        removed: list[UnusedFile] = []
        try:
            for file in index.unused(self.keep_days, BATCH_FILES_MAX):
                if file.is_last:
                    self.files.delete(file.sha256)
                removed.append(file)
        except BlobStoreUnavailable as error:
            self.telemetry.file_trouble("", error)
        if removed:
            index.forget(removed)
            self.telemetry.files_removed(len(removed))
        return len(removed) == BATCH_FILES_MAX
