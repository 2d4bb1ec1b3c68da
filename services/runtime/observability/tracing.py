"""The trace context of a hop: the W3C header `traceparent`, parsed, continued and begun.

What does not fit the standard is ignored, never repaired, and a new trace begins: the header comes
from strangers.
"""

import os
import random
import re
from typing import NamedTuple

HEADER = "traceparent"
TRACEPARENT = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
OWN_FORMAT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
NO_TRACE, NO_SPAN = "0" * 32, "0" * 16
SAMPLED = 0x01
RANDOM = random.Random(os.urandom(32))


class Trace(NamedTuple):
    """One span's place in a trace. `str()` of it is the header's text."""

    trace_id: str
    span_id: str
    flags: int = SAMPLED

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parse(text: str | bytes | None) -> Trace | None:
    """The trace that a header names, or nothing. A later version than 00 is read by the part that
    it shares with 00.
    """
    if not text or len(text) > 512:
        return None
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if not (match := TRACEPARENT.fullmatch(text)):
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or trace_id == NO_TRACE or span_id == NO_SPAN:
        return None
    return Trace(trace_id, span_id, int(flags, 16))


def new() -> Trace:
    """The first span of a trace of its own."""
    return Trace(_random(16), _random(8))


def child(parent: Trace | None) -> Trace:
    """The next hop of a trace, or the first one of a new trace."""
    return new() if parent is None else Trace(parent.trace_id, _random(8), parent.flags)


def hop(header: bytes | None) -> str:
    """The header of what a record with this one causes: `str(child(parse(header)))`, at a third of
    its cost.
    """
    if not header:
        return str(new())
    if found := OWN_FORMAT.fullmatch(header):
        return f"00-{found[1].decode()}-{_random(8)}-{found[2].decode()}"
    return str(child(parse(header)))


def _random(size: int) -> str:
    """Not all zero: the standard reads that as no id. Unguessable it need not be, and a hot path
    asks for many.
    """
    return f"{RANDOM.getrandbits(8 * size) or 1:0{2 * size}x}"
