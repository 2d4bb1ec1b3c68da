"""A snapshot that was written down once: its digest and its record are made of the same bytes.

A service on the hot path writes its snapshots by hand instead of building models for them; its tests read every one back
with the model, so both say the same.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple
from uuid import UUID, uuid5

from schemas.envelope import EVENT_IDS, Output, Snapshot, _fixed_headers


class Said(NamedTuple):
    """`body`: a JSON object with all fields but writer, key, generation and sequence; never empty."""

    kind: type[Snapshot]
    writer: str
    key: str
    generation: int
    sequence: int
    body: bytes

    def encode(self, *, time: str, traceparent: str | None = None) -> Output:
        """As `Snapshot.encode`, from the bytes that are there."""
        key = self.key.encode()
        headers: list[tuple[str, bytes | None]] = [
            *_fixed_headers(self.kind.event_type, self.writer),
            ("ce_id", str(event_id(self.writer, self.key, self.generation, self.sequence)).encode()),
            ("ce_time", time.encode()),
            ("ce_subject", key),
            ("ce_sequence", b"%019d.%019d" % (self.generation, self.sequence)),
        ]
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        place = json.dumps(
            {"writer": self.writer, "key": self.key, "generation": self.generation, "sequence": self.sequence},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        return Output(self.kind.topic, key, place[:-1].encode() + b"," + self.body[1:], headers)


def event_id(writer: str, key: str, generation: int, sequence: int) -> UUID:
    """As `Snapshot.event_id`."""
    return uuid5(EVENT_IDS, f"{writer}/{generation}/{sequence}/{key}")


def digest_of(body: bytes) -> bytes:
    """What it says, without its place in history."""
    return hashlib.sha256(body).digest()
