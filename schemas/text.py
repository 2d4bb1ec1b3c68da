"""Text functions that all services share: RFC 3339 times, and suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches

CUTOFF = 0.6  # how alike two words must be, from 0 to 1; difflib's own default


def rfc3339(at: datetime) -> str:
    """Return the instant in UTC with microseconds: `2026-11-20T15:30:00.000000Z`.

    Equal instants are equal texts, and a later one sorts after an earlier one.
    """
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:26] + "Z"


def nearest(word: str, known: Iterable[str], cutoff: float = CUTOFF) -> str | None:
    """Return the known word that is most like this one; None if none is alike enough."""
    matches = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str], cutoff: float = CUTOFF) -> str:
    """Return a suggestion to append to an error's text, as in `; did you mean kind?`, or an empty
    text.
    """
    match = nearest(word, known, cutoff)
    return f"; did you mean {match}?" if match else ""
