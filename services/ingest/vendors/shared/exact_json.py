"""JSON that keeps its content when it is read and written again: orjson turns whole numbers beyond
64 bits into floats.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

LONG_NUMBER = re.compile(rb"[0-9]{19}")


def loads(body: bytes) -> Any:
    """Parse as orjson does, with whole numbers of any length. Raises ValueError or
    RecursionError.
    """
    value = orjson.loads(body)
    return json.loads(body) if LONG_NUMBER.search(body) else value


def dumps(value: object) -> bytes:
    """Serialize. Raises ValueError for what JSON cannot express, and RecursionError."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a number beyond 64 bits, or a lone surrogate
        return json.dumps(value, allow_nan=False).encode()
