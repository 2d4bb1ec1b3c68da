"""The content store, one suite of laws for a folder and for what fsspec reaches: whole or not at
all, and never another's bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from hypothesis import given
from hypothesis.strategies import binary

from services.delivery import blob_store as module
from services.delivery.blob_store import PART_AGE_S, BlobStore, blob_path, default_folder
from services.delivery.errors import (
    BlobStoreUnavailable,
    FileDamaged,
    FileMissing,
    FilesUrlUnusable,
)
from services.runtime.failures.backoff import ExponentialDelay
from services.runtime.failures.circuit_breaker import CircuitBreaker

CONTENT = b"%PDF-1.7 a ticket"
SHA256 = hashlib.sha256(CONTENT).digest()


def tireless() -> CircuitBreaker:
    """Asks on, however often the store fails."""
    return CircuitBreaker(10**9, ExponentialDelay(1.0, 1.0), lambda: 0.0, lambda: 0.0)


class DamagedStore:
    """A store, and a way round it: what a disk, or somebody else, may do to a file."""

    def __init__(self, url: str, folder: Path | None) -> None:
        self.url, self.files, self._folder = url, BlobStore(url, tireless()), folder
        self._system, self._root = fsspec.url_to_fs(url)

    def names(self) -> list[str]:
        if self._folder is not None:
            return sorted(
                str(path.relative_to(self._folder))
                for path in self._folder.rglob("*")
                if path.is_file()
            )
        return sorted(name.removeprefix(f"{self._root}/") for name in self._system.find(self._root))

    def replace(self, sha256: bytes, content: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{blob_path(sha256)}", content)


@pytest.fixture(params=["plain path", "file://", "memory://"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DamagedStore]:
    folder = tmp_path / "state" / "files"
    urls = {
        "plain path": str(folder),
        "file://": folder.as_uri(),
        "memory://": f"memory://{tmp_path.name}/files",
    }
    yield DamagedStore(urls[request.param], None if request.param == "memory://" else folder)
    fsspec.filesystem("memory").store.clear()


def test_what_is_put_is_got_by_its_hash_also_by_another(store: DamagedStore) -> None:
    assert store.files.put(CONTENT) == SHA256
    assert store.files.get(SHA256) == CONTENT
    assert BlobStore(store.url).get(SHA256) == CONTENT
    assert store.names() == [f"{SHA256.hex()[:2]}/{SHA256.hex()[2:]}.pdf"]


def test_empty_and_binary_content_is_content(store: DamagedStore) -> None:
    for content in (b"", bytes(range(256)) * 1_000, b"\r\n\x00\xff"):
        assert store.files.get(store.files.put(content)) == content


def test_what_is_there_is_not_written_again(
    store: DamagedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.files.put(CONTENT)

    def write(*_: object) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(store.files._backend, "write", write)
    assert store.files.put(CONTENT) == SHA256


def test_what_was_never_put_is_missing_and_what_is_deleted_is_so_again(store: DamagedStore) -> None:
    with pytest.raises(FileMissing):
        store.files.get(SHA256)
    store.files.put(CONTENT)
    store.files.delete(SHA256)
    with pytest.raises(FileMissing):
        store.files.get(SHA256)
    store.files.delete(SHA256)  # removed already
    assert store.names() == []


@pytest.mark.parametrize("other", [b"", CONTENT[:-1], CONTENT + b"x", b"%PDF-1.7 b ticket"])
def test_another_content_under_the_name_is_detected_and_never_returned_and_putting_repairs_it(
    store: DamagedStore, other: bytes
) -> None:
    store.files.put(CONTENT)
    store.replace(SHA256, other)
    with pytest.raises(FileDamaged, match=SHA256.hex()):
        store.files.get(SHA256)
    assert store.files.put(CONTENT) == SHA256
    assert store.files.get(SHA256) == CONTENT


def test_many_that_put_the_same_at_once_leave_one_complete_file(store: DamagedStore) -> None:
    content = CONTENT * 50_000
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: BlobStore(store.url).put(content), range(24)))) == 1
    assert len(store.names()) == 1
    assert store.files.get(hashlib.sha256(content).digest()) == content


@pytest.mark.parametrize(
    "name", [b"", b"\x00" * 31, b"../../../../etc/passwd", b"x" * 64, SHA256 + b"/"]
)
def test_only_a_hash_is_a_name(store: DamagedStore, name: bytes) -> None:
    for act in (store.files.get, store.files.delete):
        with pytest.raises(ValueError, match="SHA-256"):
            act(name)
    assert store.names() == []


@given(binary(min_size=32, max_size=32))
def test_no_name_leaves_the_store(sha256: bytes) -> None:
    """Whatever the bytes, hexadecimal holds neither a dot at the beginning nor a separator."""
    folder, _, name = blob_path(sha256).partition("/")
    assert folder.isalnum()
    assert name.removesuffix(".pdf").isalnum()
    assert (len(folder), len(name)) == (2, 66)


# What only a folder can promise.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "files"


def test_nobody_else_may_read_a_file(folder: Path) -> None:
    before = os.umask(0)
    try:
        BlobStore(str(folder)).put(CONTENT)
    finally:
        os.umask(before)
    place = folder / blob_path(SHA256)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, place.parent, place)] == [
        0o700,
        0o700,
        0o600,
    ]


def test_a_reader_never_sees_half_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has its name when it is synced is whole; before, there is nothing of that name."""
    files, seen = BlobStore(str(folder)), list[bool]()
    sync = os.fsync

    def record_flush(handle: int) -> None:
        seen.append((folder / blob_path(SHA256)).exists())
        assert os.fstat(handle).st_size == len(CONTENT)
        sync(handle)

    monkeypatch.setattr(os, "fsync", record_flush)
    files.put(CONTENT)
    assert seen == [False]
    assert files.get(SHA256) == CONTENT


def test_a_disk_that_is_full_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = BlobStore(str(folder))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BlobStoreUnavailable, match="No space left"):
        files.put(CONTENT)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_what_a_killed_writer_left_goes_with_its_file(folder: Path) -> None:
    files = BlobStore(str(folder))
    files.put(CONTENT)
    place = folder / blob_path(SHA256)
    (left := place.with_name(f".{place.name}.1a2b3c4d")).write_bytes(CONTENT[:5])
    (others := place.with_name(f".{'0' * 62}.pdf.1a2b3c4d")).write_bytes(b"")
    (young := place.with_name(f".{place.name}.5e6f7a8b")).write_bytes(
        CONTENT[:5]
    )  # another sender's, at work
    long_ago = time.time() - 2 * PART_AGE_S
    for path in (left, others):
        os.utime(path, (long_ago, long_ago))
    files.delete(SHA256)
    assert (left.exists(), others.exists(), young.exists()) == (False, True, True)


def test_a_folder_that_was_removed_is_a_dependency_failure(folder: Path) -> None:
    files = BlobStore(str(folder), tireless())
    folder.rmdir()
    with pytest.raises(BlobStoreUnavailable):
        files.put(CONTENT)
    with pytest.raises(FileMissing):
        files.get(SHA256)


def test_a_folder_of_that_name_in_the_place_of_a_file_is_the_worlds_fault(folder: Path) -> None:
    files = BlobStore(str(folder), tireless())
    (folder / blob_path(SHA256)).mkdir(parents=True)
    for act in (files.get, files.delete):
        with pytest.raises(BlobStoreUnavailable):
            act(SHA256)
    with pytest.raises(BlobStoreUnavailable):
        files.put(CONTENT)


def test_more_than_a_file_can_be_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = BlobStore(str(folder))
    files.put(CONTENT)
    monkeypatch.setattr(module, "FILE_BYTES_MAX", len(CONTENT) - 1)
    with pytest.raises(FileDamaged):
        files.get(SHA256)


def test_a_link_to_elsewhere_is_replaced_and_not_followed(folder: Path, tmp_path: Path) -> None:
    files = BlobStore(str(folder))
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs")
    place = folder / blob_path(SHA256)
    place.parent.mkdir()
    place.symlink_to(victim)
    files.put(CONTENT)
    assert (files.get(SHA256), victim.read_bytes(), place.is_symlink()) == (
        CONTENT,
        b"theirs",
        False,
    )


# A store that is unavailable.


class Hanging(AsyncFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Takes the question and never answers."""

    protocol = "hanging"

    async def _cat_file(self, *_: object, **__: object) -> bytes:
        await asyncio.sleep(3_600)
        return b""

    async def _pipe_file(self, *_: object, **__: object) -> None:
        await asyncio.sleep(3_600)

    async def _rm_file(self, *_: object, **__: object) -> None:
        await asyncio.sleep(3_600)


def test_a_store_that_hangs_is_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fsspec.register_implementation("hanging", Hanging, clobber=True)
    monkeypatch.setattr(module, "RESPONSE_S_MAX", 0.2)
    files = BlobStore("hanging://bucket", tireless())
    begun = time.monotonic()
    for operation in (
        lambda: files.get(SHA256),
        lambda: files.put(CONTENT),
        lambda: files.delete(SHA256),
    ):
        with pytest.raises(BlobStoreUnavailable, match="Timeout"):
            operation()
    assert time.monotonic() - begun < 60  # and not the hour for which the store hangs


def test_a_store_that_fails_is_not_tried_for_a_delay_that_doubles_and_then_tried_again(
    folder: Path,
) -> None:
    now = 0.0
    files = BlobStore(
        str(folder), CircuitBreaker(1, ExponentialDelay(1.0, 60.0), lambda: now, lambda: 0.0)
    )
    moved = folder.rename(folder.with_name("away"))
    folder.write_text("in its place")
    is_open = []
    for second in (0.0, 0.9, 1.1, 2.9, 3.2):
        now = second
        with pytest.raises(BlobStoreUnavailable) as state:
            files.get(SHA256)
        is_open.append("circuit breaker open" in str(state.value))
    assert is_open == [False, True, False, True, False]
    folder.unlink()
    moved.rename(folder)
    now = 20.0
    assert files.put(CONTENT) == SHA256
    assert files.get(SHA256) == CONTENT
    folder.rename(moved)
    folder.write_text("in its place")
    for second, is_skipped in (
        (20.0, False),
        (20.9, True),
        (21.1, False),
    ):  # its delays begin again
        now = second
        with pytest.raises(BlobStoreUnavailable) as state:
            files.get(SHA256)
        assert ("circuit breaker open" in str(state.value)) == is_skipped


# Its address.


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("files", "absolute path"),
        ("./files", "absolute path"),
        ("file://files/here", "three slashes"),
        ("nosuch://bucket", "cannot be used"),
        ("s3://", "bucket"),
        ("s3://key:secret@bucket/prefix", "credentials"),
        ("simplecache::s3://bucket", "bucket"),
    ],
)
def test_an_address_that_is_none_is_refused_at_the_start_and_not_quoted(url: str, why: str) -> None:
    with pytest.raises(FilesUrlUnusable, match=why) as refused:
        BlobStore(url)
    assert "secret" not in str(refused.value)


def test_a_place_that_is_no_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FilesUrlUnusable, match="cannot be created"):
            BlobStore(str(place))


def test_an_address_may_hold_blanks(tmp_path: Path) -> None:
    files = BlobStore((tmp_path / "my files").as_uri())
    assert (tmp_path / "my files" / blob_path(files.put(CONTENT))).exists()


@pytest.mark.parametrize(
    ("state", "root"), [("/var/state", "/var/state"), ("", "HOME"), ("relative", "HOME")]
)
def test_without_an_address_it_is_this_users_own_folder(
    state: str, root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", state)
    expected = tmp_path / ".local" / "state" if root == "HOME" else Path(root)
    assert default_folder() == expected / "stubline" / "files"
