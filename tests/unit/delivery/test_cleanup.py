"""The cleanup purges this machine's plates once an hour, also where files are kept for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from services.delivery.blob_store import BlobStore
from services.delivery.sender.cleanup import PLATES_INTERVAL_S, FileCleanup
from services.delivery.sender.telemetry import SenderTelemetry
from services.delivery.store import FileIndex


class CleanupTelemetry(SenderTelemetry):
    def __init__(self) -> None:
        self.removed: list[int] = []

    @override
    def plates_removed(self, plates: int) -> None:
        self.removed.append(plates)


def no_index() -> FileIndex:
    pytest.fail("the database is not queried")


def test_unused_plates_are_removed_once_an_hour_and_an_unavailable_folder_stops_nothing(
    tmp_path: Path,
) -> None:
    telemetry, now, purged_at = CleanupTelemetry(), [0.0], list[float]()

    def purge() -> Iterator[int]:
        yield 3
        yield 0
        raise PermissionError

    steps = purge()

    def plates() -> int:
        purged_at.append(now[0])
        return next(steps)

    cleanup = FileCleanup(no_index, BlobStore(str(tmp_path)), 0, telemetry, lambda: now[0], plates)
    for _ in range(30):
        cleanup.step()
        now[0] += PLATES_INTERVAL_S / 10
    assert (telemetry.removed, len(purged_at)) == ([3], 3)
