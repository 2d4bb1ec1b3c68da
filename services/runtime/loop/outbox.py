"""The transactional outbox of a lane: the outputs in its row, committed and perhaps not published.

The format is a schema like any other. The next release must read what this one wrote, so the
version byte changes with the format, and every version ever written stays readable. Version 1 is
zlib (written by ISA-L, at an eighth of zlib's cost) over records: `topic, key, header count (u32),
(name, value) per header, value`. A field is its length (i32, big-endian, -1 for null) and its
bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

from isal import isal_zlib

from schemas.envelope import Output
from services.runtime.errors import OutboxUnreadable

VERSION = b"\x01"
_LENGTH = struct.Struct(">i")
_COUNT = struct.Struct(">I")
_NULL = _LENGTH.pack(-1)


def encode(outputs: Sequence[Output]) -> bytes | None:
    """Serialize outputs. Returns None for no outputs, so that such a row costs nothing."""
    if not outputs:
        return None
    fields: list[bytes] = []
    add, pack = fields.append, _LENGTH.pack
    for topic, key, value, headers in outputs:
        add(_named(topic))
        add(_NULL if key is None else pack(len(key)) + key)
        add(_COUNT.pack(len(headers)))
        for name, content in headers:
            add(_named(name))
            add(_NULL if content is None else pack(len(content)) + content)
        add(_NULL if value is None else pack(len(value)) + value)
    return VERSION + isal_zlib.compress(b"".join(fields), 1)


@lru_cache(1_000)  # topics and header names; bounded, since a replay carries its source's headers
def _named(name: str) -> bytes:
    content = name.encode()
    return _LENGTH.pack(len(content)) + content


def decode(stored: bytes | None) -> list[Output]:
    """Deserialize outputs. Raises OutboxUnreadable for a later version and for damaged bytes."""
    if not stored:
        return []
    if stored[:1] != VERSION:
        raise OutboxUnreadable(
            f"the row's outputs have format version {stored[0]}, this release reads 1"
        )
    try:
        return list(_outputs(memoryview(zlib.decompress(stored[1:]))))
    except (zlib.error, struct.error, UnicodeDecodeError) as error:
        raise OutboxUnreadable(f"the row's outputs are damaged: {error}") from error


def _outputs(data: memoryview) -> Iterator[Output]:
    at = 0

    def field() -> bytes | None:
        nonlocal at
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length < 0:
            return None
        if at + length > len(data):
            raise struct.error("a field passes the end")
        content = bytes(data[at : at + length])
        at += length
        return content

    while at < len(data):
        topic = field() or b""
        key = field()
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        headers = [((field() or b"").decode(), field()) for _ in range(count)]
        yield Output(topic.decode(), key, field(), headers)
