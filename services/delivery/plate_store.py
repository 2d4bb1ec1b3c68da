"""Plates in the blob store, so that one sender or `stubline campaigns apply` compiles a campaign's
design, and every other sender loads it.

Crash: a plate is complete under its name, or it does not exist. It can always be compiled again,
so nothing here is the only copy of anything, and no failure stops a mail.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from services.delivery.blob_store import backend_of, reached, store_breaker
from services.delivery.errors import BlobStoreUnavailable, FileDamaged
from services.delivery.printing.errors import PlateUnreadable
from services.runtime.errors import StublineError
from services.runtime.failures.circuit_breaker import CircuitBreaker

T = TypeVar("T")
FOLDER = "plates"
NAME = re.compile(r"[0-9a-f]{64}\.bundle")
# A purge removes nothing else: plates, and what a killed process left of one.
REMOVABLE = re.compile(rf"{NAME.pattern}|\.{NAME.pattern}\.[0-9a-f]+")
PLATE_BYTES_MAX = 64 * 2**20  # a design has 32 MB at most
LISTED_MAX = 10_000
PURGED_MAX = 50  # mails wait meanwhile
DAY_S = 86_400.0


class PlateStore:
    """The store of `printing.plate_bundle.SharedPlates`. Threads may share it.

    `report` receives a failure each time that the store was tried, and not while its circuit
    breaker is open.
    """

    def __init__(
        self,
        url: str,
        report: Callable[[StublineError], None],
        breaker: CircuitBreaker | None = None,
    ) -> None:
        """Raises FilesUrlUnusable."""
        self._backend, self._report = backend_of(url), report
        self._breaker = breaker or store_breaker()

    def read(self, name: str) -> bytes | None:
        path = plate_path(name)

        def read_if_there() -> bytes | None:
            try:
                return self._backend.read(path, PLATE_BYTES_MAX)
            except FileNotFoundError:
                return None

        return self._attempt(read_if_there)

    def write(self, name: str, content: bytes) -> None:
        path = plate_path(name)
        self._attempt(lambda: self._backend.write(path, content))

    def damaged(self, name: str, error: PlateUnreadable) -> None:
        self._report(FileDamaged(f"{plate_path(name)}: {error.cause}"))

    def purge(self, keep_days: int) -> int:
        """Remove some of the plates that were written so many days ago, the oldest first, and
        return how many. A sender that uses one has it on its own disk; a new one compiles it again.
        """
        before = time.time() - keep_days * DAY_S

        def remove_old() -> int:
            files = sorted(
                self._backend.listed(FOLDER, LISTED_MAX), key=lambda file: file.modified_at
            )
            old = [
                file.name
                for file in files
                if file.modified_at < before and REMOVABLE.fullmatch(file.name)
            ][:PURGED_MAX]
            for name in old:
                self._backend.remove(f"{FOLDER}/{name}")
            return len(old)

        return (self._attempt(remove_old) or 0) if keep_days else 0

    def _attempt(self, act: Callable[[], T]) -> T | None:
        """Return what the store returns, or None if it fails, or failed a moment ago."""
        if not self._breaker.allows(1):
            return None
        try:
            with reached(self._breaker):
                return act()
        except BlobStoreUnavailable as error:
            self._report(error)
        return None


def plate_path(name: str) -> str:
    """Return the path of a plate. No other text ever becomes part of a path."""
    if not NAME.fullmatch(name):
        raise ValueError("a plate's name is 64 hexadecimal digits and `.bundle`")
    return f"{FOLDER}/{name}"
