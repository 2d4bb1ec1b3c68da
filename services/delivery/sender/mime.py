"""The body of a mail as bytes (RFC 2045, 2046): texts as alternatives, and files.

Every byte of the result is ASCII, and no line is longer than 998 bytes, so every server takes it,
with or without 8BITMIME. The standard library's parser reads it back without defects
(tests/unit/delivery/test_headers.py).
"""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Sequence
from hashlib import sha256
from itertools import chain
from struct import iter_unpack

LINE_CHARS = 76  # RFC 2045, of Base64 and of quoted-printable
LINE_CHARS_PLAIN = 998  # RFC 5322
LINE_ENDS = re.compile(r"\r\n|\r|\n")
# What a reader cannot mistake: printable ASCII, blanks inside a line, and no more on it than fits.
PLAIN_LINES = re.compile(rb"(?:(?:[!-~ \t]{0,997}[!-~])?\r\n)*")


def body(texts: tuple[str, str], files: Sequence[tuple[str, bytes]], *, boundary: str) -> bytes:
    """Return text and HTML as alternatives, and the files, each a name and a PDF. Begins with the
    headers that describe the body.
    """
    alternatives = _multipart(
        "alternative",
        boundary.replace("=_", "=_alternative_", 1),  # neither begins with the other
        [_text("plain", texts[0]), _text("html", texts[1])],
    )
    return b"MIME-Version: 1.0\r\n" + _multipart(
        "mixed", boundary, [alternatives, *(_file(name, content) for name, content in files)]
    )


def boundary_of(texts: tuple[str, str]) -> str:
    """Return a boundary that no text of the mail can hold, because it would have to hold its own
    hash. Base64 has no underscore.
    """
    return "=_" + sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:32]


def canonical(text: str) -> bytes:
    """Return a text as mails carry it: UTF-8, each line ended by CRLF."""
    lines = LINE_ENDS.sub("\r\n", text)
    return (lines if lines.endswith("\r\n") else lines + "\r\n").encode("utf-8", "replace")


def _multipart(subtype: str, boundary: str, parts: Sequence[bytes]) -> bytes:
    mark = f"--{boundary}".encode("ascii")
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode("ascii")
    pieces = (piece for part in parts for piece in (mark, b"\r\n", part, b"\r\n"))
    return b"".join([head, *pieces, mark, b"--\r\n"])


def _text(subtype: str, text: str) -> bytes:
    """Return a part of text: as it is, or in the shorter encoding that makes it ASCII."""
    content = canonical(text)
    encoding = "7bit"
    if not PLAIN_LINES.fullmatch(content):
        quoted, coded = _quoted_printable(content), _base64(content)
        encoding, content = min(
            ("quoted-printable", quoted), ("base64", coded), key=lambda encoded: len(encoded[1])
        )
    head = (
        f"Content-Type: text/{subtype}; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return head.encode("ascii") + content


def _quoted_printable(content: bytes) -> bytes:
    return b2a_qp(content, istext=True)


def _base64(content: bytes) -> bytes:
    encoded = b2a_base64(content, newline=False)
    last = len(encoded) - len(encoded) % LINE_CHARS  # where a line begins that is not full
    lines = chain.from_iterable(iter_unpack(f"{LINE_CHARS}s", memoryview(encoded)[:last]))
    return b"\r\n".join([*lines, encoded[last:]] if last < len(encoded) else lines)


def _file(name: str, content: bytes) -> bytes:
    head = (
        "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    )
    return head.encode("ascii") + _base64(content)
