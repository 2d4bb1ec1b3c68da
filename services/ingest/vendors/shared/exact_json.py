"""JSON that is read and written anew, and says what it said: orjson makes a fraction of a whole
number beyond 64 bits.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

LONG_NUMBER = re.compile(rb"[0-9]{19}")


def loads(body: bytes) -> Any:
    """As orjson reads it, with whole numbers of any length. Raises ValueError, or
    RecursionError.
    """
    value = orjson.loads(body)
    return json.loads(body) if LONG_NUMBER.search(body) else value


def dumps(value: object) -> bytes:
    """Raises ValueError for what JSON has no word for, and RecursionError."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a number beyond 64 bits, or half a character
        return json.dumps(value, allow_nan=False).encode()
