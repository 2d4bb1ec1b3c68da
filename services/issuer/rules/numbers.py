"""Which number has a place in a campaign? Pure: the key of a permutation is an input, drawn once
when a campaign is made.

Sequential: the place itself. Shuffled: a keyed permutation of the campaign's range, a Feistel
network over two halves a and b with a * b just above the range; what falls outside is sent through
again (cycle walking), so it stays within and nothing collides, by construction. The same place has
the same number for ever.
"""

from __future__ import annotations

from hashlib import blake2s
from math import isqrt

ROUNDS = 10  # four make it a pseudo-random permutation; small halves ask for more


def format_number(prefix: str, padding: int, number: int) -> str:
    """`RFL-`, 4, 7 -> RFL-0007. A number that has outgrown its padding keeps all its digits."""
    return prefix + str(number).zfill(padding)


def permute(place: int, size: int, key: bytes) -> int:
    """Where a place goes: a bijection of 0 .. size - 1 for each key."""
    if not 0 <= place < size:
        raise ValueError(f"{place} lies outside of 0 to {size - 1}")
    a = isqrt(size - 1) + 1  # the least with a * a >= size
    b = -(-size // a)
    while True:
        place = _feistel(place, a, b, key)
        if place < size:  # fewer than a of the a * b places lie outside
            return place


def _feistel(place: int, a: int, b: int, key: bytes) -> int:
    left, right = divmod(place, b)
    for turn in range(0, ROUNDS, 2):
        left = (left + _mix(key, turn, right)) % a
        right = (right + _mix(key, turn + 1, left)) % b
    return left * b + right


def _mix(key: bytes, turn: int, half: int) -> int:
    """Sixteen bytes, so that the remainder of any half is even to the last bit that matters."""
    return int.from_bytes(
        blake2s(half.to_bytes(8, "big"), digest_size=16, key=key, salt=bytes((turn,))).digest(),
        "big",
    )
