"""Reads files that a setting, an argument or another file names, within bounds.

Only regular files up to a size are read, and TOML up to a depth: opening a FIFO blocks for ever,
reading /dev/zero never ends, and a parser recurses as deep as its input. Each refusal is one
sentence.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

CONFIGURATION_BYTES_MAX = 4 * 2**20
DEPTH_MAX = 32
# A key with that many dots: `tomllib` walks through all of its tables for each of them.
DEEP_KEY = re.compile(
    r"""(?:(?<![\w"'-])(?:[\w-]{1,100}|"[^"\n]{0,100}"|'[^'\n]{0,100}')[ \t]{0,9}\.[ \t]{0,9})"""
    rf"{{{DEPTH_MAX}}}"
)


class FileUnusableError(ValueError):
    """The file cannot be read, is not a regular file, or is too large.

    The message is one sentence without the file's name.
    """


def read_bytes(path: Path, bytes_max: int) -> bytes:
    """Return the whole content. Raises FileUnusableError."""
    try:
        # With O_NONBLOCK a FIFO without a writer opens at once.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileUnusableError("it is not a regular file")
            return read_stream(file, bytes_max)
    except OSError as error:
        raise FileUnusableError(f"it cannot be read: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, FileUnusableError):
            raise
        raise FileUnusableError("its name holds a NUL") from None


def read_stream(stream: BinaryIO, bytes_max: int) -> bytes:
    """Return the whole content. Raises FileUnusableError if it is larger than the bound."""
    content = stream.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise FileUnusableError(f"it is larger than {bytes_max} bytes")
    return content


def read_text(path: Path, bytes_max: int) -> str:
    """Return the whole content as UTF-8. Raises FileUnusableError."""
    try:
        return read_bytes(path, bytes_max).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileUnusableError(f"it is not UTF-8 at byte {error.start}") from None


def read_toml(path: Path, bytes_max: int = CONFIGURATION_BYTES_MAX) -> dict[str, Any]:
    """Return the document of a TOML file. Raises FileUnusableError."""
    return parse_toml(read_text(path, bytes_max))


def parse_toml(text: str) -> dict[str, Any]:
    """Return the document of a TOML text. Raises FileUnusableError if it is not TOML, or nested too
    deeply.
    """
    if DEEP_KEY.search(text):
        raise FileUnusableError(f"it is nested deeper than {DEPTH_MAX} levels")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileUnusableError(f"it is not TOML: {error}") from None
    except RecursionError:
        raise FileUnusableError(f"it is nested deeper than {DEPTH_MAX} levels") from None
    level: list[Any] = [document]
    for _ in range(DEPTH_MAX):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return document
    raise FileUnusableError(f"it is nested deeper than {DEPTH_MAX} levels")


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
