"""The blob store: ticket files by the SHA-256 of their content, in a folder or in a bucket. The
same folder or bucket holds plates (plate_store.py).

Crash: a file is complete under its name, or it does not exist. A file that is lost, truncated or
changed is detected by its hash when it is read, and rendered again; so the store needs no backup,
and it is never the only copy of anything.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem

from services.delivery.errors import (
    BlobStoreUnavailable,
    FileDamaged,
    FileMissing,
    FilesUrlUnusable,
)
from services.runtime.failures.backoff import ExponentialDelay
from services.runtime.failures.circuit_breaker import CircuitBreaker

FILE_BYTES_MAX = 256 * 2**20  # the largest order has 2,000 pages of some 20 KB
SHA256_BYTES = 32
PART_AGE_S = 3_600.0
# S3, Azure, GCS, folders, memory
MODIFIED_KEYS = ("LastModified", "last_modified", "mtime", "updated", "created")
RESPONSE_S_MAX = 10.0  # of a bucket; a folder responds as fast as its disk
RETRY_DELAY = ExponentialDelay(first_s=1.0, longest_s=60.0)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a folder of the store, and when it was written last (Unix time)."""

    name: str
    modified_at: float


class BlobBackend(Protocol):
    """Stores bytes by name. An error other than FileNotFoundError means that the store is
    unavailable.
    """

    def read(self, name: str, bytes_max: int) -> bytes:
        """Return the first bytes of the file. Raises FileNotFoundError."""

    def write(self, name: str, content: bytes) -> None:
        """Write all of the content, or nothing, under that name; an existing file is replaced."""

    def remove(self, name: str) -> None:
        """Remove the file, and the parts that an interrupted write left of it. A missing file is no
        error.
        """

    def listed(self, folder: str, files_max: int) -> list[StoredFile]:
        """Return the files of one folder, at most so many; none if it is missing."""


class BlobStore:
    """Files by their hashes. No text from outside ever becomes part of a path."""

    def __init__(self, url: str, breaker: CircuitBreaker | None = None) -> None:
        self._backend = backend_of(url)
        self._breaker = breaker or store_breaker()

    def put(self, content: bytes) -> bytes:
        """Store the content, and return its SHA-256, which is its name. A file that exists is
        written again only if it is damaged.
        """
        sha256 = hashlib.sha256(content).digest()
        with suppress(FileMissing, FileDamaged):
            self.get(sha256)
            return sha256
        name = blob_path(sha256)
        with reached(self._breaker):
            self._backend.write(name, content)
        return sha256

    def get(self, sha256: bytes) -> bytes:
        """Raises FileMissing, FileDamaged, BlobStoreUnavailable."""
        name = blob_path(sha256)
        with reached(self._breaker):
            try:
                content = self._backend.read(name, FILE_BYTES_MAX)
            except FileNotFoundError:
                content = None
        if content is None:
            raise FileMissing(sha256.hex())
        if hashlib.sha256(content).digest() != sha256:
            raise FileDamaged(f"{sha256.hex()}: {len(content)} other bytes are there")
        return content

    def delete(self, sha256: bytes) -> None:
        """Remove a file; a missing one is no error. Raises BlobStoreUnavailable."""
        name = blob_path(sha256)
        with reached(self._breaker):
            self._backend.remove(name)


@contextmanager
def reached(breaker: CircuitBreaker) -> Iterator[None]:
    """Translate the errors of a store's library to BlobStoreUnavailable, and count them. A store
    that fails is not called again before a delay that doubles, so that mails do not wait for its
    time limit one by one.
    """
    if not breaker.allows(1):
        raise BlobStoreUnavailable("circuit breaker open, because the store failed")
    try:
        yield
    except Exception as error:  # noqa: BLE001 - boto's, aiohttp's and fsspec's have no parent in common
        breaker.failed()
        raise BlobStoreUnavailable(f"{type(error).__name__}: {error}"[:300]) from None
    breaker.succeeded()


def store_breaker() -> CircuitBreaker:
    """Return a circuit breaker that one failure opens."""
    return CircuitBreaker(1, RETRY_DELAY, time.monotonic, random.random)


def blob_path(sha256: bytes) -> str:
    """Return the path of a file. Each first byte has a folder of its own, so that no folder grows
    too large for people and their tools.
    """
    if len(sha256) != SHA256_BYTES:
        raise ValueError("a file's name is a SHA-256")
    text = sha256.hex()
    return f"{text[:2]}/{text[2:]}.pdf"


class FolderBackend:
    """A folder that only this user can read, because tickets hold names and codes that admit
    people.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str, bytes_max: int) -> bytes:
        with (self._root / name).open("rb") as file:
            # `read` allocates what it is given, so it is given no more than the file has.
            return file.read(min(bytes_max, os.fstat(file.fileno()).st_size))

    def write(self, name: str, content: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(
                    handle
                )  # a name without its content would be noticed only at its next read
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        path = self._root / name
        # Parts that a killed process left; a young part is still being written.
        for part in path.parent.glob(f".{path.name}.*"):
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - PART_AGE_S:
                    part.unlink()
        path.unlink(missing_ok=True)

    def listed(self, folder: str, files_max: int) -> list[StoredFile]:
        files = []
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in islice(entries, files_max):
                with suppress(FileNotFoundError):  # removed meanwhile
                    modified_at = entry.stat(follow_symlinks=False).st_mtime
                    files.append(StoredFile(entry.name, modified_at))
        return files


class BucketBackend:
    """A bucket that fsspec can reach. An object is written completely or not at all, as S3
    promises.
    """

    def __init__(self, url: str) -> None:
        self._system, root = fsspec.url_to_fs(url)
        self._root = str(root).rstrip("/")
        # By default s3fs retries for more than nine minutes when a server accepts connections and
        # does not respond.
        self._limits = (
            {"timeout": RESPONSE_S_MAX} if isinstance(self._system, AsyncFileSystem) else {}
        )

    def read(self, name: str, bytes_max: int) -> bytes:
        path = f"{self._root}/{name}"
        content: bytes
        try:
            content = self._system.cat_file(path, start=0, end=bytes_max, **self._limits)
        except OSError as error:
            if error.errno != errno.EINVAL or self._system.size(path, **self._limits):
                raise
            return b""  # an empty object, whose first byte S3 cannot find
        return content

    def write(self, name: str, content: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{name}", content, **self._limits)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{name}", **self._limits)

    def listed(self, folder: str, files_max: int) -> list[StoredFile]:
        try:
            rows = self._system.ls(
                f"{self._root}/{folder}", detail=True, refresh=True, **self._limits
            )
        except FileNotFoundError:
            return []
        return [
            StoredFile(str(row["name"]).rpartition("/")[2], modified_at)
            for row in rows[:files_max]
            if (modified_at := written_at(row)) is not None
        ]


def written_at(row: Mapping[str, Any]) -> float | None:
    """Return when an object was written (Unix time), which each library of fsspec names
    differently, or None.
    """
    value = next((row[key] for key in MODIFIED_KEYS if row.get(key) is not None), None)
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, int | float) else None


def backend_of(url: str) -> BlobBackend:
    """Return the backend of STUBLINE_DELIVERY_FILES_URL. Raises FilesUrlUnusable, which never
    quotes the URL: it may hold a secret.
    """
    if "://" not in url:
        try:
            return folder_backend(Path(url).expanduser() if url else default_folder())
        except RuntimeError:
            raise FilesUrlUnusable(
                "this user has no home folder; give the folder's absolute path"
            ) from None
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise FilesUrlUnusable(
                "a folder's URL has three slashes: file:///var/lib/stubline/files"
            )
        return folder_backend(Path(unquote(parts.path)))
    if "@" in parts.netloc or "::" in url or not (parts.netloc or parts.scheme == "memory"):
        raise FilesUrlUnusable(
            "it may only name a bucket and a prefix; credentials are for its library to read"
        )
    try:
        return BucketBackend(url)
    except ImportError as error:
        raise FilesUrlUnusable(
            f"{parts.scheme}:// needs a package that is not installed: {error}"
        ) from None
    except Exception as error:  # noqa: BLE001 - as above
        raise FilesUrlUnusable(
            f"{parts.scheme}:// cannot be used: {type(error).__name__}"
        ) from None


def folder_backend(root: Path) -> FolderBackend:
    """Create the folder if it is missing, readable only by this user. A folder that exists keeps
    its permissions, which somebody may have set on purpose.
    """
    if not root.is_absolute():
        raise FilesUrlUnusable(
            "a folder is named by its absolute path: a service's working directory may change"
        )
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FilesUrlUnusable(f"the folder cannot be created: {error.strerror}") from None
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise FilesUrlUnusable("the folder may not be written by this user")
    return FolderBackend(root)


def default_folder() -> Path:
    """Return the folder of the XDG specification for state; a relative path in its variable is
    ignored.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (
        (state if state.is_absolute() else Path.home() / ".local" / "state") / "stubline" / "files"
    )
