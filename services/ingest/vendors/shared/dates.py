"""Dates by which nothing is ordered: one that cannot be read counts as missing."""

from __future__ import annotations

from datetime import datetime

from pydantic import TypeAdapter, ValidationError

TIME = TypeAdapter(datetime)


def is_readable(value: object) -> bool:
    """As the models read a date. WordPress writes none as an empty text, `0000-00-00...` or
    `-0001-11-30...`.
    """
    try:
        TIME.validate_python(value)
    except ValidationError:
        return False
    return True


def readable_or_none(value: object) -> object:
    """For models, before they validate."""
    return value if value is None or is_readable(value) else None
