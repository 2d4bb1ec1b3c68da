"""The janitor looks after this machine's plates once an hour, also where files are kept for
ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from services.delivery.blob_store import BlobStore
from services.delivery.sender.cleanup import PLATES_INTERVAL_S, FileCleanup
from services.delivery.sender.telemetry import SenderTelemetry
from services.delivery.store import FileIndex


class Told(SenderTelemetry):
    def __init__(self) -> None:
        self.removed: list[int] = []

    @override
    def plates_removed(self, plates: int) -> None:
        self.removed.append(plates)


def no_register() -> FileIndex:
    pytest.fail("the database is not asked")


def test_unused_plates_go_once_an_hour_and_a_folder_that_is_away_stops_nobody(
    tmp_path: Path,
) -> None:
    told, now, asked = Told(), [0.0], list[float]()

    def purge() -> Iterator[int]:
        yield 3
        yield 0
        raise PermissionError

    steps = purge()

    def plates() -> int:
        asked.append(now[0])
        return next(steps)

    janitor = FileCleanup(no_register, BlobStore(str(tmp_path)), 0, told, lambda: now[0], plates)
    for _ in range(30):
        janitor.turn()
        now[0] += PLATES_INTERVAL_S / 10
    assert (told.removed, len(asked)) == ([3], 3)
