"""Bodies of callbacks that were damaged at random."""

from __future__ import annotations

import random

JSON_VALUES = (
    b'""',
    b"null",
    b"[]",
    b"{}",
    b"true",
    b"-1",
    b"1e999",
    b'"NaN"',
    b"12345678901234567890",
    b'"\\u202e"',
    b'"x"',
)
INSERTED = (b"\x00", b"\xff", b"\\ud800", b"\\u0000", b"{", b"[", b"9" * 400, b"%00")


def mutated(body: bytes, rng: random.Random) -> bytes:
    """Return the body with a few bytes flipped, cut or doubled, with others inserted, and with
    other values in its places.
    """
    changed = bytearray(body)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randrange(40)]
            case 2:
                changed[at:at] = changed[at : at + 20]
            case 3:
                changed[at:at] = rng.choice(INSERTED)
            case _:
                _replace_value(changed, at, rng.choice(JSON_VALUES))
    return bytes(changed)


def _replace_value(body: bytearray, at: int, value: bytes) -> None:
    """Replace the first JSON value after the position."""
    colon = body.find(b":", at)
    ends = [body.find(mark, colon) for mark in (b",", b"}", b"]")]
    body[colon + 1 : min((end for end in ends if end > 0), default=colon)] = value
