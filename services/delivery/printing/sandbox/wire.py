"""Messages of two processes over pipes: a length, then so many bytes, which are a head of JSON and
blobs after it.

Nothing that is read is executed, so there is no pickle.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Any

from services.delivery.printing.design.library import Design, DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.errors import PlateUnreadable
from services.delivery.printing.plates import PlateBlobs, pack, unpack

MAGIC = b"stubline-wire-1\n"
LENGTH = Struct(">I")
FRAME_BYTES_MAX = 2**28  # a design has 32 MB at most, and a plate holds no more than its pictures
PIECE_BYTES_MAX = 2**20


@dataclass(frozen=True, slots=True)
class WireMessage:
    head: dict[str, Any]
    blobs: Sequence[bytes] = ()


def write(to: int, message: WireMessage) -> None:
    """Raises BrokenPipeError when the other side has ended."""
    packed = pack(MAGIC, message.head, PlateBlobs(list(message.blobs)))
    left = memoryview(LENGTH.pack(len(packed)) + packed)
    while left:
        left = left[os.write(to, left[:PIECE_BYTES_MAX]) :]


def read(source: int) -> WireMessage | None:
    """Return the next message, or None when the other side has ended, maybe in the middle of one.
    Raises PlateUnreadable for a malformed frame.
    """
    begun = read_bytes(source, LENGTH.size)
    if begun is None:
        return None
    (length,) = LENGTH.unpack(begun)
    if length > FRAME_BYTES_MAX:
        raise PlateUnreadable(f"a frame of {length:,} bytes")
    packed = read_bytes(source, length)
    if packed is None:
        return None
    head, blobs = unpack(MAGIC, packed)
    if not isinstance(head, dict):
        raise PlateUnreadable("its head is not an object")
    return WireMessage(head, blobs)


def read_bytes(source: int, length: int) -> bytes | None:
    parts, left = list[bytes](), length
    while left:
        if not (part := os.read(source, min(left, PIECE_BYTES_MAX))):
            return None
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def encode_request(variant: DesignVariant, facts: CampaignFacts) -> WireMessage:
    """Return a request with the design's bytes. They were read before, so a later change of the
    folder has no effect.
    """
    design = variant.design
    head = {
        "name": design.name,
        "paths": list(design.contents),
        "size": variant.size,
        "language": variant.language,
        "facts": asdict(facts),
    }
    return WireMessage(head, list(design.contents.values()))


def decode_request(message: WireMessage) -> tuple[DesignVariant, CampaignFacts]:
    """Return what is to be laid out. `blobs` may hold more after the design's."""
    head = message.head
    design = Design(head["name"], dict(zip(head["paths"], message.blobs, strict=False)))
    return DesignVariant(design, head["size"], head["language"]), CampaignFacts(**head["facts"])
