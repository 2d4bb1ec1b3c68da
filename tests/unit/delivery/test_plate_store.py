"""Plates in the blob store, one suite of laws for a folder and for what fsspec reaches: a failure
is as if a plate were missing, and only plates are ever removed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem

from services.delivery.blob_store import BlobStore, backend_of, blob_path, written_at
from services.delivery.errors import BlobStoreUnavailable, FileDamaged
from services.delivery.plate_store import DAY_S, PURGED_MAX, PlateStore
from services.delivery.printing.errors import PlateUnreadable
from services.runtime.errors import StublineError
from services.runtime.failures.backoff import ExponentialDelay
from services.runtime.failures.circuit_breaker import CircuitBreaker

NAME, CONTENT = f"{'0123456789abcdef' * 4}.bundle", b"a plate"
KEEP_DAYS = 90


class StoredPlates:
    """A plate store, and a way round it."""

    def __init__(self, url: str) -> None:
        self.url, self.now, self.reported = url, 0.0, list[StublineError]()
        self._system, self._root = fsspec.url_to_fs(url)
        self.plates = PlateStore(
            url,
            self.reported.append,
            CircuitBreaker(1, ExponentialDelay(1.0, 60.0), lambda: self.now, lambda: 0.0),
        )

    def names(self) -> list[str]:
        return sorted(name.removeprefix(f"{self._root}/") for name in self._system.find(self._root))

    def put(self, path: str, age_days: float = 0.0) -> None:
        self._system.makedirs(f"{self._root}/plates", exist_ok=True)
        self._system.pipe_file(f"{self._root}/{path}", CONTENT)
        at = time.time() - age_days * DAY_S
        if self.url.startswith("memory://"):
            self._system.store[f"{self._root}/{path}"].modified = datetime.fromtimestamp(at, UTC)
            self._system.store[f"{self._root}/{path}"].created = datetime.fromtimestamp(at, UTC)
        else:
            os.utime(Path(self.url) / path, (at, at))


@pytest.fixture(params=["folder", "memory://"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoredPlates]:
    yield StoredPlates(
        str(tmp_path / "files") if request.param == "folder" else f"memory://{tmp_path.name}/files"
    )
    fsspec.filesystem("memory").store.clear()


def test_what_is_written_is_read_by_its_name_also_by_another(store: StoredPlates) -> None:
    assert store.plates.read(NAME) is None
    store.plates.write(NAME, b"older")
    store.plates.write(NAME, CONTENT)
    assert store.plates.read(NAME) == CONTENT
    assert StoredPlates(store.url).plates.read(NAME) == CONTENT
    assert store.names() == [f"plates/{NAME}"]
    assert store.reported == []


@pytest.mark.parametrize(
    "name",
    ["", ".bundle", "../" * 3 + "etc/passwd", NAME.upper(), f"{NAME}/x", f"{NAME}\n", NAME[1:]],
)
def test_only_a_key_is_a_name(name: str, store: StoredPlates) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.plates.read(name)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.plates.write(name, CONTENT)
    assert store.names() == []


def test_damage_is_reported_as_that_of_a_file(store: StoredPlates) -> None:
    store.plates.damaged(NAME, PlateUnreadable("it is truncated"))
    [error] = store.reported
    assert isinstance(error, FileDamaged)
    assert error.cause == f"plates/{NAME}: it is truncated"


def test_old_plates_are_purged_and_nothing_else_is(store: StoredPlates) -> None:
    sha256 = BlobStore(store.url).put(b"a ticket")
    part = f".{NAME}.1a2b3c4d"
    for name, age_days in ((NAME, 91), ("f" * 64 + ".bundle", 89), (part, 91), ("notes", 400)):
        store.put(f"plates/{name}", age_days)
    assert store.plates.purge(0) == 0
    assert store.plates.purge(KEEP_DAYS) == 2
    assert store.names() == sorted([blob_path(sha256), "plates/notes", f"plates/{'f' * 64}.bundle"])
    assert store.plates.purge(KEEP_DAYS) == 0
    assert store.reported == []


def test_a_store_without_plates_is_purged_without_a_word(store: StoredPlates) -> None:
    assert store.plates.purge(KEEP_DAYS) == 0
    assert store.reported == []


def test_a_purge_is_bounded_and_begins_with_the_oldest(store: StoredPlates) -> None:
    for number in range(PURGED_MAX + 3):
        store.put(f"plates/{number:064x}.bundle", 91 + number)
    assert store.plates.purge(KEEP_DAYS) == PURGED_MAX
    assert store.names() == [f"plates/{number:064x}.bundle" for number in range(3)]
    assert store.plates.purge(KEEP_DAYS) == 3


def test_a_store_that_fails_is_reported_once_for_each_time_that_it_is_tried(
    tmp_path: Path,
) -> None:
    store = StoredPlates(str(tmp_path / "files"))
    (tmp_path / "files" / "plates").write_text("in its place")
    for second, tries in ((0.0, 1), (0.9, 1), (1.1, 2), (2.9, 2), (3.2, 3)):
        store.now = second
        assert store.plates.read(NAME) is None
        store.plates.write(NAME, CONTENT)
        assert store.plates.purge(KEEP_DAYS) == 0
        assert len(store.reported) == tries
    assert {type(error) for error in store.reported} == {BlobStoreUnavailable}
    (tmp_path / "files" / "plates").unlink()
    store.now = 20.0
    store.plates.write(NAME, CONTENT)
    assert store.plates.read(NAME) == CONTENT


class HangingBucket(AsyncFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Takes every request and never responds."""

    protocol = "hanging-plates"

    async def _cat_file(self, *_: object, **__: object) -> bytes:
        await asyncio.sleep(3_600)
        return b""

    async def _pipe_file(self, *_: object, **__: object) -> None:
        await asyncio.sleep(3_600)

    async def _ls(self, *_: object, **__: object) -> list[str]:
        await asyncio.sleep(3_600)
        return []


def test_a_store_that_hangs_is_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fsspec.register_implementation("hanging-plates", HangingBucket, clobber=True)
    monkeypatch.setattr("services.delivery.blob_store.RESPONSE_S_MAX", 0.2)
    begun = time.monotonic()
    reported = list[StublineError]()
    stores = [PlateStore("hanging-plates://bucket", reported.append) for _ in range(3)]
    assert stores[0].read(NAME) is None
    stores[1].write(NAME, CONTENT)
    assert stores[2].purge(KEEP_DAYS) == 0
    assert [error.code for error in reported] == ["delivery-files-unavailable"] * 3
    assert time.monotonic() - begun < 60  # and not the hour for which the store hangs


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"LastModified": datetime(2026, 1, 1, tzinfo=UTC)}, 1_767_225_600.0),
        ({"mtime": 1_767_225_600.5}, 1_767_225_600.5),
        ({"updated": "2026-01-01T00:00:00.000Z"}, 1_767_225_600.0),
        ({"last_modified": "yesterday"}, None),
        ({"name": "x"}, None),
    ],
)
def test_when_a_file_was_written_is_read_as_each_library_reports_it(
    row: dict[str, object], expected: float | None
) -> None:
    """Without it, nothing is removed."""
    assert written_at(row) == expected


def test_a_listing_is_bounded(store: StoredPlates) -> None:
    for number in range(9):
        store.put(f"plates/{number:064x}.bundle", 91)
    backend = backend_of(store.url)
    assert len(backend.listed("plates", 5)) == 5
    assert len(backend.listed("plates", 10)) == 9
