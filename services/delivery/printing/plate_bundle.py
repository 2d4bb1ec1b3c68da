"""A plate with its faces as one file, as machines share it: it is there completely or not at all,
and takes one round trip.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from services.delivery.printing import plates
from services.delivery.printing.errors import PlateUnreadable
from services.delivery.printing.fonts import faces
from services.delivery.printing.plates import PlateBlobs, pack, unpack

MAGIC = b"stubline-bundle-1\n"
DIGEST = re.compile(r"[0-9a-f]{64}")  # they become names of files


class SharedPlates(Protocol):
    """A store that several machines reach. It never raises: it reports its failures itself, and a
    name that cannot be read is as if it were missing.
    """

    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, content: bytes) -> None:
        """Write all of the content, or nothing; an existing file is replaced."""

    def damaged(self, name: str, error: PlateUnreadable) -> None:
        """The content of that name is not what was written. It is as if it were missing."""


@dataclass(frozen=True, slots=True)
class PlateBundle:
    """A plate's bytes, and those of its faces by their digests, in the order in which the plate
    names them.
    """

    plate: bytes
    faces: dict[str, bytes]
    is_compared: bool

    def to_bytes(self) -> bytes:
        blobs = PlateBlobs([self.plate, *self.faces.values()])
        return pack(MAGIC, {"is_compared": self.is_compared}, blobs)

    @classmethod
    def from_bytes(cls, packed: bytes) -> PlateBundle:
        """Raises PlateUnreadable unless the plate and each of its faces can be used."""
        head, blobs = unpack(MAGIC, packed)
        if not isinstance(head, dict) or not blobs:
            raise PlateUnreadable("it holds no plate")
        digests = plates.from_bytes(blobs[0]).faces
        if len(digests) != len(blobs) - 1:
            raise PlateUnreadable("it does not hold the faces of its plate")
        if not all(DIGEST.fullmatch(str(digest)) for digest in digests):
            raise PlateUnreadable("it names a face by something else than a digest")
        by_digest = dict(zip(digests, blobs[1:], strict=True))
        for digest, content in by_digest.items():
            if faces.from_bytes(content).digest != digest:
                raise PlateUnreadable(f"the face {digest[:12]} is another")
        return cls(blobs[0], by_digest, head.get("is_compared") is True)


def bundle_name(key: str) -> str:
    return f"{key}.bundle"
