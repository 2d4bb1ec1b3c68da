"""Removes files and plates that nobody used for long. What it removes too early costs a rendering,
and gives the same bytes.
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

STEP_FILES_MAX = 50  # mails wait meanwhile: a second at most, on a store that takes 20 ms a file
FULL_INTERVAL_S = 5.0  # behind a step that left something
IDLE_INTERVAL_S = 600.0
PLATES_INTERVAL_S = 3_600.0


@dataclass(slots=True)
class FileCleanup:
    """Crash: contents go first, their rows behind them. Rows that are left name nothing, and go
    with the next step.
    """

    register: Callable[[], FileIndex]
    files: BlobStore
    keep_days: int
    telemetry: SenderTelemetry
    clock: Callable[[], float]
    plates: Callable[[], int] = lambda: 0  # removes unused ones of this machine: how many
    _next_at: float = float("-inf")
    _plates_at: float = float("-inf")

    def turn(self) -> None:
        """One bounded step, when it is time for one. Raises what the database raises."""
        now = self.clock()
        if now >= self._plates_at:
            self._plates_at = now + PLATES_INTERVAL_S
            self._purge()
        if not self.keep_days or now < self._next_at:
            return
        self._next_at = now + IDLE_INTERVAL_S
        register = self.register()
        with register.removal() as is_ours:
            if is_ours and self._step(register):
                self._next_at = now + FULL_INTERVAL_S

    def _purge(self) -> None:
        with suppress(
            OSError, PlatesFolderUnusable
        ):  # a folder that is away is a trouble of printing, and told there
            if gone := self.plates():
                self.telemetry.plates_removed(gone)

    def _step(self, register: FileIndex) -> bool:
        """Whether there may be more."""
        unused = register.unused(self.keep_days, STEP_FILES_MAX)
        gone: list[UnusedFile] = []
        try:
            for file in unused:
                if file.is_last:
                    self.files.delete(file.sha256)
                gone.append(file)
        except BlobStoreUnavailable as error:
            self.telemetry.file_trouble("", error)
        if gone:
            register.forget(gone)
            self.telemetry.files_removed(len(gone))
        return len(gone) == STEP_FILES_MAX
