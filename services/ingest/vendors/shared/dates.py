"""Parses dates that are shown and never compared as versions; a malformed one counts as missing."""

from __future__ import annotations

from datetime import datetime

from pydantic import TypeAdapter, ValidationError

TIME = TypeAdapter(datetime)


def is_readable(value: object) -> bool:
    """Return whether the models can read the date. WordPress writes a missing one as an empty text,
    `0000-00-00...` or `-0001-11-30...`.
    """
    try:
        TIME.validate_python(value)
    except ValidationError:
        return False
    return True


def readable_or_none(value: object) -> object:
    """Return the date, or None if it cannot be read. A validator that runs before the model's."""
    return value if value is None or is_readable(value) else None
