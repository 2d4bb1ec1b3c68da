"""Compiled plates and faces on disk, by the hash of all that they are made of. Processes share
them, and load them in milliseconds; machines share them by a store.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

import uharfbuzz as hb

from services.delivery.printing import plates, qr
from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.errors import (
    LayoutUnavailable,
    PlatesFolderUnusable,
    PlateUnreadable,
)
from services.delivery.printing.fonts import faces, fallback
from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.fonts.packaged import fonts_digest
from services.delivery.printing.plate_bundle import PlateBundle, SharedPlates, bundle_name
from services.delivery.printing.plates import Plate

if TYPE_CHECKING:
    # It imports WeasyPrint: 40 MB that a stamp does not need.
    from services.delivery.printing.compile.layout import PageFont

T = TypeVar("T")
FORMAT = 4  # raised by each change of a page's bytes that is not a change of its design
SEAL_BYTES = 32
PANGO = (
    "libpango-1.0-0",
    "pango-1.0-0",
    "pango-1.0",
    "libpango-1.0.so.0",
    "libpango-1.0.dylib",
    "libpango-1.0-0.dll",
)
DAY_S = 86_400.0
# A purge removes nothing else.
OWN_FILES = re.compile(r"[0-9a-f]{64}\.(plate|face|compared)|\.part-\w+")
PAYLOAD_CHARS = 35  # of a ticket's code with its scheme


def versions() -> str:
    """Return the versions of all that decides what a page looks like, byte for byte."""
    return f"{FORMAT} {libraries()} {hb.__version__} {zlib.ZLIB_RUNTIME_VERSION} {fonts_digest()}"


@cache
def libraries() -> str:
    """Return the libraries' versions. WeasyPrint's is read without importing it."""
    others = (
        metadata.version(name)
        for name in ("pydyf", "pillow", "fonttools", "segno", "jinja2", *fallback.PACKAGES)
    )
    return " ".join([metadata.version("weasyprint"), str(pango_version()), *others])


def pango_version() -> int:
    """Return the version of Pango, looked up by the names by which WeasyPrint loads it."""
    for name in PANGO:
        with suppress(OSError):
            version: int = ctypes.CDLL(name).pango_version()
            return version
    raise LayoutUnavailable("Pango is not installed")


def plate_key(variant: DesignVariant, facts: CampaignFacts) -> str:
    """Return the plate's key, which is known before anything is laid out."""
    parts = [
        versions(),
        variant.design.digest,
        variant.size,
        variant.language,
        *facts.as_context().values(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def seal(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def sealed(name: str, content: bytes) -> bytes:
    return seal(name, content) + content


def unsealed(name: str, packed: bytes) -> bytes:
    """Return the content. Raises PlateUnreadable unless it is what was written: one flipped bit
    would be in every ticket.
    """
    seal_bytes, content = packed[:SEAL_BYTES], packed[SEAL_BYTES:]
    if seal_bytes != seal(name, content):
        raise PlateUnreadable(f"{name[:12]} is not what was written under that name")
    return content


class PlateCache:
    """A folder of compiled plates, faces and QR templates. A file that is not what was written is
    removed, and made again when it is needed. What this machine lacks may be in the shared store.
    """

    def __init__(self, folder: Path, shared: SharedPlates | None = None) -> None:
        self.folder, self._shared = folder, shared
        self._subsets: dict[str, FontSubset] = {}
        self._published = set[str]()  # keys, each of which was compiled or applied here
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def plate(self, key: str) -> Plate | None:
        return self._load(f"{key}.plate", plates.from_bytes)

    def put_plate(self, key: str, plate: Plate, *, is_compared: bool = False) -> None:
        """Store a plate. `is_compared`: it was printed both ways, and they looked the same."""
        self._put(f"{key}.plate", plates.to_bytes(plate))
        if is_compared:
            self._put(f"{key}.compared", b"")

    def is_compared(self, key: str) -> bool:
        return self.plate(key) is not None and self._load(f"{key}.compared", bytes) is not None

    def load_shared(self, key: str) -> bool:
        """Copy a plate and its faces from the shared store to the folder, and return whether it was
        there. Raises PlatesFolderUnusable.
        """
        bundle = self._shared_bundle(key)
        if bundle is None:
            return False
        for digest, content in bundle.faces.items():
            if self._load(f"{digest}.face", bytes) is None:  # also if this process has it
                self._put(f"{digest}.face", content)
        self._put(f"{key}.plate", bundle.plate)  # after its faces: another process may look for it
        if bundle.is_compared:
            self._put(f"{key}.compared", b"")
        return True

    def publish(self, key: str) -> None:
        """Copy a plate and its faces to the shared store, unless they are there. Once per process
        and plate; whatever fails, the plate can be used here, and others compile it.
        """
        if self._shared is None or key in self._published:
            return
        self._published.add(key)
        if (own := self._own_bundle(key)) is None:
            return
        stored, name = self._shared_bundle(key, is_reported=False), bundle_name(key)
        if stored is None or (own.is_compared and not stored.is_compared):
            self._shared.write(name, sealed(name, own.to_bytes()))

    def publish_in_background(self, key: str) -> None:
        """Publish a plate while the caller goes on: a store may take seconds to respond. A process
        that ends meanwhile has published all or nothing.
        """
        if self._shared is not None:
            Thread(target=self.publish, args=(key,), name="publish-plate", daemon=True).start()

    def _shared_bundle(self, key: str, *, is_reported: bool = True) -> PlateBundle | None:
        name = bundle_name(key)
        if self._shared is None or (packed := self._shared.read(name)) is None:
            return None
        try:
            return PlateBundle.from_bytes(unsealed(name, packed))
        except PlateUnreadable as error:
            if is_reported:
                self._shared.damaged(name, error)
            return None

    def _own_bundle(self, key: str) -> PlateBundle | None:
        """Return the plate with its faces, or None if one was removed meanwhile."""
        if (plate := self.plate(key)) is None:
            return None
        own = {digest: self._load(f"{digest}.face", bytes) for digest in plate.faces}
        faces_found = {digest: content for digest, content in own.items() if content is not None}
        if len(faces_found) < len(own):
            return None
        return PlateBundle(plates.to_bytes(plate), faces_found, self.is_compared(key))

    def subset(self, digest: str) -> FontSubset | None:
        if (
            digest not in self._subsets
            and (subset := self._load(f"{digest}.face", faces.from_bytes)) is not None
        ):
            self._subsets[digest] = subset
        return self._subsets.get(digest)

    def subset_of(self, font: PageFont, characters: str, tags: frozenset[str]) -> FontSubset:
        """Return the font's subset, compiled if there is none."""
        digest = faces.digest_of(font.content, font.index, font.family, characters, tags)
        if (cached := self.subset(digest)) is not None:
            return cached
        subset = self._subsets[digest] = faces.compile_subset(
            font.content, font.index, font.family, characters, tags
        )
        self._put(f"{digest}.face", faces.to_bytes(subset))
        return subset

    def qr_template(self, length: int = PAYLOAD_CHARS) -> qr.QrTemplate:
        name = f"{length}-m-{qr.MASK}.qr"

        def read(packed: bytes) -> qr.QrTemplate:
            try:
                return qr.QrTemplate.from_bytes(packed)
            except ValueError as error:
                raise PlateUnreadable(str(error)) from None

        qr_template = self._load(name, read)
        if qr_template is None:
            qr_template = qr.build_qr_template(length)
            self._put(name, qr_template.to_bytes())
        return qr_template

    def purge(self, keep_days: int) -> int:
        """Remove the files that no process has loaded for so many days, and the parts that a killed
        process left. Return how many files.

        Other processes may run meanwhile. They keep what they have loaded, and compile again what
        they miss.
        """
        removed, before = 0, time.time() - keep_days * DAY_S
        for path in list(self.folder.iterdir()) if keep_days else ():
            with suppress(FileNotFoundError):
                if OWN_FILES.fullmatch(path.name) and path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed

    def _load(self, name: str, read: Callable[[bytes], T]) -> T | None:
        path = self.folder / name
        try:
            content = read(unsealed(name, path.read_bytes()))
            if path.stat().st_mtime < time.time() - DAY_S:
                os.utime(path)  # it is in use: `purge` reads this
        except OSError:  # missing, or another user's: it is compiled again and replaced
            return None
        except PlateUnreadable:
            with suppress(FileNotFoundError):
                path.unlink()
            return None
        return content

    def _put(self, name: str, content: bytes) -> None:
        """Write a file completely or not at all: its name appears once everything is written.
        Raises PlatesFolderUnusable.
        """
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".part-")
            with os.fdopen(handle, "wb") as file:
                # Readable for all users that may read the folder.
                os.fchmod(handle, self.folder.stat().st_mode & 0o666)
                file.write(sealed(name, content))
            Path(temporary).replace(self.folder / name)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise PlatesFolderUnusable(
                f"{self.folder} cannot be written: {error.strerror}"
            ) from None
