"""The number of a place in a campaign. Pure: the key of the permutation is an input, drawn once
when the campaign is created.

In a sequential campaign it is the place itself. In a shuffled one it is a keyed permutation of the
campaign's range: a Feistel network over two halves a and b, with a * b just above the range. What
falls outside the range is permuted again (cycle walking), so the result is a bijection by
construction. A place has the same number for ever.
"""

from __future__ import annotations

from hashlib import blake2s
from math import isqrt

ROUNDS = 10  # four make a pseudo-random permutation; small halves need more


def format_number(prefix: str, padding: int, number: int) -> str:
    """Return the printed number: `RFL-`, 4, 7 -> RFL-0007. More digits than that all stay."""
    return prefix + str(number).zfill(padding)


def permute(place: int, size: int, key: bytes) -> int:
    """Map a place to another: for each key a bijection of 0 .. size - 1."""
    if not 0 <= place < size:
        raise ValueError(f"{place} lies outside of 0 to {size - 1}")
    a = isqrt(size - 1) + 1  # the least a with a * a >= size
    b = -(-size // a)
    while True:
        place = _feistel(place, a, b, key)
        if place < size:  # fewer than a of the a * b places lie outside
            return place


def _feistel(place: int, a: int, b: int, key: bytes) -> int:
    left, right = divmod(place, b)
    for number in range(0, ROUNDS, 2):
        left = (left + _round(key, number, right)) % a
        right = (right + _round(key, number + 1, left)) % b
    return left * b + right


def _round(key: bytes, number: int, half: int) -> int:
    """The round function. It returns 16 bytes, so that reducing them modulo the size of a half has
    a negligible bias.
    """
    return int.from_bytes(
        blake2s(half.to_bytes(8, "big"), digest_size=16, key=key, salt=bytes((number,))).digest(),
        "big",
    )
