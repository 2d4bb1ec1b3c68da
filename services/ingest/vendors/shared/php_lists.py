"""Lists as PHP serialises them: a list whose keys have gaps becomes a JSON object, `{"1": ..., "3":
...}`.
"""

from __future__ import annotations

import re

INDEX = re.compile(r"[0-9]{1,19}", re.ASCII)


def list_from_php(value: object) -> list[object] | None:
    """Return the list, or the values of an object whose keys are all numbers, in their order; an
    empty object is an empty list. None: it is neither.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and all(
        isinstance(key, str) and INDEX.fullmatch(key) for key in value
    ):
        return [value[key] for key in sorted(value, key=int)]
    return None


def list_from_php_or_same(value: object) -> object:
    """Return the list, or the same value for the model to refuse. A validator that runs before the
    model's.
    """
    items = list_from_php(value)
    return value if items is None else items
