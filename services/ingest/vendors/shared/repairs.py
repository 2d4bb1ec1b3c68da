"""Repairs of what a source sent, before they are reported as drift."""

from __future__ import annotations

from typing import NamedTuple

WORD_CHARS_MAX = 100


class Repair(NamedTuple):
    """A value that was read otherwise than it was written, or that was replaced."""

    kind: str  # as in DriftNotice
    cause: str


def quoted(word: str) -> str:
    """Return a vendor's word as drift notices and dead letters may show it. Unprintable characters
    are escaped, which makes it longer.
    """
    return ascii(word[:WORD_CHARS_MAX])[: WORD_CHARS_MAX + 2]
