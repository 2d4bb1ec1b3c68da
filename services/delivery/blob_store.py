"""The content store: files by the SHA-256 of what is in them, in a folder or in a bucket.

Crash: a file is there whole or not at all under its name. Whatever is lost, cut off or changed is
noticed when it is read, by its hash, and rendered again; so the store needs no backup, and nothing
in it is the truth.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem

from services.delivery.breaker import CircuitBreaker
from services.delivery.errors import (
    BlobStoreUnavailable,
    FileDamaged,
    FileMissing,
    FilesUrlUnusable,
)

FILE_BYTES_MAX = 256 * 2**20  # more is not ours: the largest order has 2,000 pages of some 20 KB
SHA256_BYTES = 32
PART_AGE_S = 3_600.0
ANSWER_S_MAX = 10.0  # of a bucket; a folder answers as fast as its disk
REST_MIN_S, REST_MAX_S = 1.0, 60.0


class BlobBackend(Protocol):
    """Where bytes stand by name. Any error but these two is the world's."""

    def read(self, name: str, bytes_max: int) -> bytes:
        """The first bytes of it. Raises FileNotFoundError."""

    def write(self, name: str, content: bytes) -> None:
        """All of it, or nothing under that name; what stood there before is replaced."""

    def remove(self, name: str) -> None:
        """Gone, and whatever a write that died left of it. What was not there is no error."""


class BlobStore:
    """Names are made of hashes and of nothing else: no text from outside ever becomes part of a
    path.
    """

    def __init__(self, url: str, breaker: CircuitBreaker | None = None) -> None:
        self._medium = medium(url)
        self._breaker = breaker or CircuitBreaker(
            1, REST_MIN_S, REST_MAX_S, time.monotonic, random.random
        )

    def put(self, content: bytes) -> bytes:
        """Its SHA-256, which is its name. Already there: nothing is written; damaged there: it is
        written anew.
        """
        sha256 = hashlib.sha256(content).digest()
        with suppress(FileMissing, FileDamaged):
            self.get(sha256)
            return sha256
        name = name_of(sha256)
        with self._reached():
            self._medium.write(name, content)
        return sha256

    def get(self, sha256: bytes) -> bytes:
        """Raises FileMissing, FileDamaged, BlobStoreUnavailable."""
        name = name_of(sha256)
        with self._reached():
            try:
                content = self._medium.read(name, FILE_BYTES_MAX)
            except FileNotFoundError:
                content = None
        if content is None:
            raise FileMissing(sha256.hex())
        if hashlib.sha256(content).digest() != sha256:
            raise FileDamaged(f"{sha256.hex()}: {len(content)} other bytes stand there")
        return content

    def delete(self, sha256: bytes) -> None:
        """Raises BlobStoreUnavailable. What is not there is gone already."""
        name = name_of(sha256)
        with self._reached():
            self._medium.remove(name)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Each library of a store has errors of its own; here they all say the same. A store that
        fails is left alone for a while that doubles: mails do not wait for its time limit one by
        one.
        """
        if not self._breaker.allows(1):
            raise BlobStoreUnavailable("left alone for a while, because it failed")
        try:
            yield
        except Exception as error:  # noqa: BLE001 - boto's, aiohttp's and fsspec's have no parent in common
            self._breaker.failed()
            raise BlobStoreUnavailable(f"{type(error).__name__}: {error}"[:300]) from None
        self._breaker.succeeded()


def name_of(sha256: bytes) -> str:
    """A folder for each first byte: none grows too large for people and their tools."""
    if len(sha256) != SHA256_BYTES:
        raise ValueError("a file's name is a SHA-256")
    text = sha256.hex()
    return f"{text[:2]}/{text[2:]}.pdf"


class FolderBackend:
    """Nobody but us reads it: tickets hold names, and codes that open doors."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str, bytes_max: int) -> bytes:
        with (self._root / name).open("rb") as file:
            return file.read(
                min(bytes_max, os.fstat(file.fileno()).st_size)
            )  # asked for more, it would make room for more

    def write(self, name: str, content: bytes) -> None:
        place = self._root / name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        part = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(handle)  # a name without its content would only be noticed when it is read
            part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        place = self._root / name
        for part in place.parent.glob(
            f".{place.name}.*"
        ):  # left by a process that was killed; a young one is at work
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - PART_AGE_S:
                    part.unlink()
        place.unlink(missing_ok=True)


class BucketBackend:
    """Whatever fsspec reaches. An object is written whole or not at all, as S3 promises."""

    def __init__(self, url: str) -> None:
        self._system, root = fsspec.url_to_fs(url)
        self._root = str(root).rstrip("/")
        # By itself s3fs tries for more than nine minutes to reach a server that takes connections
        # and answers nothing.
        self._bound = {"timeout": ANSWER_S_MAX} if isinstance(self._system, AsyncFileSystem) else {}

    def read(self, name: str, bytes_max: int) -> bytes:
        place = f"{self._root}/{name}"
        content: bytes
        try:
            content = self._system.cat_file(place, start=0, end=bytes_max, **self._bound)
        except OSError as error:
            if error.errno != errno.EINVAL or self._system.size(place, **self._bound):
                raise
            return b""  # nothing in it, and S3 finds no beginning of nothing
        return content

    def write(self, name: str, content: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{name}", content, **self._bound)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{name}", **self._bound)


def medium(url: str) -> BlobBackend:
    """Of STUBLINE_DELIVERY_FILES_URL. Raises FilesUrlUnusable, which never quotes it: it may hold a
    secret.
    """
    if "://" not in url:
        try:
            return folder(Path(url).expanduser() if url else default_folder())
        except RuntimeError:
            raise FilesUrlUnusable(
                "this user has no home; name the folder by its whole path"
            ) from None
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise FilesUrlUnusable(
                "a folder's URL has three slashes: file:///var/lib/stubline/files"
            )
        return folder(Path(unquote(parts.path)))
    if "@" in parts.netloc or "::" in url or not (parts.netloc or parts.scheme == "memory"):
        raise FilesUrlUnusable(
            "it names a bucket and a prefix and nothing else; credentials stand where its library "
            "looks"
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


def folder(root: Path) -> FolderBackend:
    """Made if need be, and then ours alone. One that was there keeps its rights: somebody chose
    them.
    """
    if not root.is_absolute():
        raise FilesUrlUnusable("a folder is named by its whole path: a service's place may change")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FilesUrlUnusable(f"the folder cannot be made: {error.strerror}") from None
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise FilesUrlUnusable("the folder may not be written by this user")
    return FolderBackend(root)


def default_folder() -> Path:
    """As the XDG specification has it: what a program keeps on this machine; a relative path there
    is none.
    """
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (
        (named if named.is_absolute() else Path.home() / ".local" / "state") / "stubline" / "files"
    )
