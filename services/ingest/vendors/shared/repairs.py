"""What a source wrote otherwise than it is read, before it becomes a notice."""

from __future__ import annotations

from typing import NamedTuple

WHAT_CHARS_MAX = 100


class Repair(NamedTuple):
    """Something that was taken otherwise than it was written, or for which something else was
    taken.
    """

    kind: str
    what: str


def quoted(word: str) -> str:
    """A vendor's word as notices and letters may show it: what cannot be printed is spelled, which
    is longer.
    """
    return ascii(word[:WHAT_CHARS_MAX])[: WHAT_CHARS_MAX + 2]
