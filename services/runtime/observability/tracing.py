"""Trace context: the W3C header `traceparent` is parsed, continued or created.

The header comes from outside. If it does not conform to the standard it is ignored, never repaired,
and a new trace begins.
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
    """A span in a trace. `str()` of it is the header."""

    trace_id: str
    span_id: str
    flags: int = SAMPLED

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parse(text: str | bytes | None) -> Trace | None:
    """Return the span that a header names, or None. Of a later version the fields of version 00
    are read.
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
    """Return the first span of a new trace."""
    return Trace(_random(16), _random(8))


def child(parent: Trace | None) -> Trace:
    """Return the next span of a trace, or the first one of a new trace."""
    return new() if parent is None else Trace(parent.trace_id, _random(8), parent.flags)


def hop(header: bytes | None) -> str:
    """Return the header for the outputs of a record that carries `header`.

    It equals `str(child(parse(header)))`, at a third of its cost.
    """
    if not header:
        return str(new())
    if matched := OWN_FORMAT.fullmatch(header):
        return f"00-{matched[1].decode()}-{_random(8)}-{matched[2].decode()}"
    return str(child(parse(header)))


def _random(size: int) -> str:
    """Return a random id. It is never zero, which the standard takes for no id, and need not be
    unguessable: a hot path needs many.
    """
    return f"{RANDOM.getrandbits(8 * size) or 1:0{2 * size}x}"
