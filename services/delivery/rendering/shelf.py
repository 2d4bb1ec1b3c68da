"""Compiled plates and faces on disk, by the hash of all that they come from: shared by processes, loaded in milliseconds."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import uharfbuzz as hb
import weasyprint
from weasyprint.text.ffi import pango

from services.delivery.errors import PlateUnreadable
from services.delivery.rendering import faces, plates, qr
from services.delivery.rendering.designs import Chosen
from services.delivery.rendering.faces import Kit
from services.delivery.rendering.fetching import fonts_digest
from services.delivery.rendering.layout import Font
from services.delivery.rendering.pages import Facts
from services.delivery.rendering.plates import Plate

T = TypeVar("T")
FORMAT = 2  # raised by whatever changes the bytes of a page without changing its design
SEAL_BYTES = 32
PAYLOAD_CHARS = 35  # of a ticket's code with its scheme


def versions() -> str:
    """Of all that decides what a page looks like, byte for byte."""
    libraries = f"{weasyprint.VERSION} {pango.pango_version()} {hb.__version__} {zlib.ZLIB_RUNTIME_VERSION}"
    return f"{FORMAT} {libraries} {fonts_digest()}"


def plate_key(chosen: Chosen, facts: Facts) -> str:
    """Known before anything is laid out."""
    told = [versions(), chosen.design.digest, chosen.size, chosen.language, *facts.told().values()]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()


def seal(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def checked(name: str, packed: bytes) -> bytes:
    """One flipped bit would be in every ticket. Raises PlateUnreadable."""
    told, content = packed[:SEAL_BYTES], packed[SEAL_BYTES:]
    if told != seal(name, content):
        raise PlateUnreadable(f"{name[:12]} is not what was written under that name")
    return content


class Shelf:
    """A folder. A file that is not what was written is removed, and made anew by whoever wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kits: dict[str, Kit] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def plate(self, key: str) -> Plate | None:
        return self._load(f"{key}.plate", plates.from_bytes)

    def put_plate(self, key: str, plate: Plate) -> None:
        self._put(f"{key}.plate", plates.to_bytes(plate))

    def kit(self, digest: str) -> Kit | None:
        if digest not in self._kits and (found := self._load(f"{digest}.face", faces.from_bytes)) is not None:
            self._kits[digest] = found
        return self._kits.get(digest)

    def kit_of(self, font: Font, characters: str, tags: frozenset[str]) -> Kit:
        """Made if there is none."""
        digest = faces.digest_of(font.content, font.index, characters, tags)
        if (found := self.kit(digest)) is not None:
            return found
        made = self._kits[digest] = faces.compiled(font.content, font.index, font.family, characters, tags)
        self._put(f"{digest}.face", faces.to_bytes(made))
        return made

    def stencil(self, length: int = PAYLOAD_CHARS) -> qr.Stencil:
        name = f"{length}-m-{qr.MASK}.stencil"

        def read(packed: bytes) -> qr.Stencil:
            try:
                return qr.Stencil.from_bytes(packed)
            except ValueError as error:
                raise PlateUnreadable(str(error)) from None

        found = self._load(name, read)
        if found is None:
            found = qr.stencil(length)
            self._put(name, found.to_bytes())
        return found

    def _load(self, name: str, read: Callable[[bytes], T]) -> T | None:
        path = self.folder / name
        try:
            return read(checked(name, path.read_bytes()))
        except FileNotFoundError:
            return None
        except PlateUnreadable:
            with suppress(FileNotFoundError):
                path.unlink()
            return None

    def _put(self, name: str, content: bytes) -> None:
        """Whole or not at all: readers see the name only once everything is written."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".")
        with os.fdopen(handle, "wb") as file:
            file.write(seal(name, content) + content)
        Path(temporary).replace(self.folder / name)
