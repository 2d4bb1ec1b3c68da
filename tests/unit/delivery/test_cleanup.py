"""The cleanup purges this machine's plates once an hour, also where files are kept for ever."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from services.delivery.blob_store import BlobStore
from services.delivery.sender.cleanup import PLATES_INTERVAL_S, FileCleanup
from services.delivery.sender.process import file_cleanup
from services.delivery.sender.telemetry import SenderTelemetry
from services.delivery.settings import DeliverySettings
from services.delivery.store import FileIndex


class CleanupTelemetry(SenderTelemetry):
    def __init__(self) -> None:
        self.removed: list[int] = []

    @override
    def plates_removed(self, plates: int) -> None:
        self.removed.append(plates)


def test_a_senders_cleanup_purges_this_machines_plates_and_those_in_the_blob_store(
    tmp_path: Path,
) -> None:
    long_ago = time.time() - 91 * 86_400
    for name in ("files/plates/" + "0" * 64 + ".bundle", "plates/" + "0" * 64 + ".plate"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (long_ago, long_ago))
    settings = DeliverySettings(
        files_url=str(tmp_path / "files"),
        plates_folder=str(tmp_path / "plates"),
        files_keep_days=0,
    )
    telemetry, files = CleanupTelemetry(), BlobStore(settings.files_url)
    file_cleanup(settings, no_index, files, telemetry).step()
    assert telemetry.removed == [2]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


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
