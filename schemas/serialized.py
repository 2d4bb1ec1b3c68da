"""A snapshot that is serialized once: its digest and its record are made of the same bytes.

A service on the hot path writes its snapshots by hand instead of building models for them. Its
tests read every snapshot back with the model, so both agree.
"""

from __future__ import annotations

from hashlib import sha1, sha256
from typing import NamedTuple

import orjson

from schemas.envelope import EVENT_IDS, Output, Snapshot, _fixed_headers


class SerializedSnapshot(NamedTuple):
    """`body` is a JSON object with all fields except writer, key, generation and sequence. It is
    never empty.
    """

    kind: type[Snapshot]
    writer: str
    key: str
    generation: int
    sequence: int
    body: bytes

    def encode(self, *, time: str, traceparent: str | None = None) -> Output:
        """Return what `Snapshot.encode` returns, from the bytes that exist already."""
        key = self.key.encode()
        headers: list[tuple[str, bytes | None]] = [
            *_fixed_headers(self.kind.event_type, self.writer),
            ("ce_id", event_id(self.writer, self.key, self.generation, self.sequence).encode()),
            ("ce_time", time.encode()),
            ("ce_subject", key),
            ("ce_sequence", b"%019d.%019d" % (self.generation, self.sequence)),
        ]
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        head = b'{"writer":"%b","key":%b,"generation":%d,"sequence":%d,' % (
            self.writer.encode(),  # a slug
            orjson.dumps(self.key),
            self.generation,
            self.sequence,
        )
        return Output(self.kind.topic, key, head + self.body[1:], headers)


def event_id(writer: str, key: str, generation: int, sequence: int) -> str:
    """Return `Snapshot.event_id` as text."""
    return uuid5_text(EVENT_IDS.bytes, f"{writer}/{generation}/{sequence}/{key}")


def uuid5_text(namespace: bytes, name: str) -> str:
    """Return `str(uuid5(...))` at a third of its cost."""
    digest = sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def content_digest(body: bytes) -> bytes:
    """Return SHA-256 of a snapshot's content, without its position."""
    return sha256(body).digest()
