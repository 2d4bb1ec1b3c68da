"""A ticket's QR code in microseconds: segno encodes, and what does not change between two codes is
learnt from it once.

With mode, version, error level, mask and length fixed, every module is a constant XOR some of the
data bits: Reed-Solomon is linear, and the mask is a constant. So segno is called once for the code
of zeros and once for each data bit alone; any other code is the first one XOR two table entries for
each pair of characters.

What it gains: `make bench ARGS="--only rendering"` prints 16 us for a code, beside 520 us for segno
with a fixed mask and 2,500 us for segno that chooses it, where a whole ticket takes some 650 us on
the same core. Without it a sender would stamp half as many tickets a second.

A matrix is one int of side * side bits, row by row, the module at the top left highest; 1 is dark.
No quiet zone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import getitem, xor
from typing import Literal
from zlib import crc32

import segno

# of QR's alphanumeric mode, in the order of its values
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
VALUES = bytes(
    ALPHABET.find(chr(byte)) % 256 for byte in range(256)
)  # by character; not found is -1, so UNKNOWN
UNKNOWN = 255

# Of 600 random codes of tickets, by segno's own evaluation of the finished symbol: mask 3 has the
# lowest mean penalty (1166; 0: 1171, 7: 1193, 1: 1194, 4: 1214, 6: 1239, 2: 1259, 5: 1266) and is
# the best one most often (212; 0: 169). Left free, segno takes 7 most often (91 of 300; 0: 71, 3:
# 58), for it judges before the format information is drawn.
MASK = 3

# 90 characters at level M: the cached strips grow with a code's area, and tickets need no more.
VERSION_MAX = 4
SIDE_CACHED_MAX = 17 + 4 * VERSION_MAX
PAIR_BITS, SINGLE_BITS = 11, 6

MAGIC, FORMAT = b"QRST", 1
HEAD = struct.Struct(
    ">4sBBBcH"
)  # magic, format, version, mask, error level, length; then base and basis; then CRC-32
CRC_BYTES = 4

RECTANGLE = b"%d %d %d 1 re\n"  # x, y, width


@dataclass(frozen=True, slots=True)
class QrStencil:
    """What all codes of one length share, as long as they keep to QR's alphanumeric alphabet."""

    length: int
    error: str
    version: int
    mask: int
    base: int  # the code of zeros
    # What each data bit changes, pair by pair, low bits first; last the bits of a single character.
    basis: tuple[int, ...]
    # Two for each pair: by its number's low byte, and by the bits above.
    tables: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    # A byte of ones for the first character of each pair.
    firsts: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = [self.basis[at : at + PAIR_BITS] for at in range(0, len(self.basis), PAIR_BITS)]
        tables = tuple(_sums(bits) for pair in pairs for bits in (pair[:8], pair[8:]))
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "firsts", int.from_bytes(b"\xff\0" * len(pairs), "little"))

    @property
    def side(self) -> int:
        return _side(self.version)

    def matrix(self, payload: str) -> int:
        """Return bit for bit what segno draws. An error quotes nothing of the payload but the one
        character that is wrong.
        """
        if len(payload) != self.length:
            raise ValueError(
                f"the stencil is for {self.length} characters, and the payload has {len(payload)}"
            )
        values = payload.encode("ascii", "replace").translate(
            VALUES
        )  # by "?", which is outside the alphabet too
        if UNKNOWN in values:
            at = values.index(UNKNOWN)
            raise ValueError(
                f"character {at + 1}, {payload[at]!r}, is outside QR's alphanumeric alphabet"
            )
        if self.length % 2:  # a single last character counts as the second of a pair after a zero
            values = values[:-1] + b"\0" + values[-1:]
        # All pairs in one sum, 16 bits each: 45 times the first value, and the second; no carry, it
        # is 2024 at most.
        pairs = int.from_bytes(values, "little")
        numbers = 45 * (pairs & self.firsts) + (pairs >> 8 & self.firsts)
        return reduce(
            xor, map(getitem, self.tables, numbers.to_bytes(len(values), "little")), self.base
        )

    def to_bytes(self) -> bytes:
        head = HEAD.pack(MAGIC, FORMAT, self.version, self.mask, self.error.encode(), self.length)
        body = head + b"".join(_octets(vector, self.side) for vector in (self.base, *self.basis))
        return body + crc32(body).to_bytes(CRC_BYTES, "big")

    @staticmethod
    def from_bytes(data: bytes) -> QrStencil:
        """Read a stencil. Anything but what `to_bytes` wrote is refused: one changed bit would
        spoil every code drawn with it.
        """
        if len(data) < HEAD.size or not data.startswith(MAGIC):
            raise ValueError("these bytes are not a stencil")
        _, format_number, version, mask, error, length = HEAD.unpack_from(data)
        if format_number != FORMAT:
            raise ValueError(
                f"the stencil is of format {format_number}, and this release reads format {FORMAT}"
            )
        side, end = _side(version), len(data) - CRC_BYTES
        size = len(_octets(0, side))
        if end != HEAD.size + size * (1 + _bits(length)):
            raise ValueError(
                f"a stencil for {length} characters in version {version} has not {len(data)} bytes"
            )
        if crc32(data[:end]) != int.from_bytes(data[end:], "big"):
            raise ValueError(
                "the stencil has another checksum than was written: its bytes were changed"
            )
        starts = range(HEAD.size, end, size)
        base, *basis = (
            int.from_bytes(data[at : at + size], "big") >> _padding(side) for at in starts
        )
        return QrStencil(length, error.decode(), version, mask, base, tuple(basis))


def learn_stencil(
    length: int, *, error: Literal["l", "m", "q", "h"] = "m", mask: int = MASK
) -> QrStencil:
    """Learn a stencil from segno: one code, and five or six more per character, 0.1 s for 35. It is
    made once and stored.
    """
    if length < 1:
        raise ValueError(f"a stencil is for at least one character, not {length}")

    def encode(payload: str, version: int | None) -> segno.QRCode:
        return segno.make(
            payload, error, version, mode="alphanumeric", mask=mask, micro=False, boost_error=False
        )

    blank = encode("0" * length, None)
    version = int(blank.version)
    if version > VERSION_MAX:
        raise ValueError(
            f"{length} characters need version {version}, and stencils go up to {VERSION_MAX}"
        )
    base = _packed(blank)
    basis = tuple(base ^ _packed(encode(payload, version)) for payload in _single_bits(length))
    learnt_stencil = QrStencil(length, error, version, mask, base, basis)
    witness = (ALPHABET[::-1] * length)[:length]
    if learnt_stencil.matrix(witness) != _packed(encode(witness, version)):
        raise RuntimeError(
            "segno's codes are no longer a constant XOR their data bits: there is no stencil of "
            "them"
        )
    return learnt_stencil


def draw_matrix(payload: str, stencil: QrStencil | None = None) -> tuple[int, int]:
    """Return a matrix and its side, of any payload that fits a QR code: by the stencil where it
    applies, else by segno.
    """
    if stencil is not None:
        with suppress(ValueError):
            return stencil.matrix(payload), stencil.side
    code = segno.make(payload, error="m", micro=False, boost_error=False)
    return _packed(code), len(code.matrix)


def pdf_path(matrix: int, side: int) -> bytes:
    """Return the dark modules as PDF rectangles, each line with its end, in modules from the top
    left downwards.

    They are one path to be filled at once: rectangles that touch then leave no seam. The
    transformation and `f` are the caller's.
    """
    if side > SIDE_CACHED_MAX:
        return b"".join(RECTANGLE % run for run in _runs(matrix, side))
    return b"".join(map(getitem, _strips(side), _octets(matrix, side)))


def svg_path(matrix: int, side: int) -> str:
    """Return the same rectangles in the same order, for the `d` of an SVG path."""
    return "".join(f"M{x} {y}h{width}v1h-{width}z" for x, y, width in _runs(matrix, side))


class _QrStrip(dict[int, bytes]):
    """The rectangles of eight modules by their bits, cached as they occur: 256 at most."""

    def __init__(self, side: int, at: int) -> None:
        self.side, self.at = side, at

    def __missing__(self, bits: int) -> bytes:
        self[bits] = lines = b"".join(
            RECTANGLE % run for run in _runs_of_strip(bits, self.at, self.side)
        )
        return lines


@cache
def _strips(side: int) -> tuple[_QrStrip, ...]:
    return tuple(_QrStrip(side, at) for at in range(0, side * side, 8))


def _runs(matrix: int, side: int) -> Iterator[tuple[int, int, int]]:
    """Yield x, y and width. A run ends with its row and with each eighth module: a strip's
    rectangles depend on its bits alone.

    One rectangle in eight exists for that: whole runs would take longer to find than deflate saves
    on their bytes.
    """
    for strip, bits in enumerate(_octets(matrix, side)):
        yield from _runs_of_strip(bits, 8 * strip, side)


def _runs_of_strip(bits: int, at: int, side: int) -> Iterator[tuple[int, int, int]]:
    start = at  # of the run that is open; one of no width is none
    for module in range(at, at + 9):
        dark = module < at + 8 and bits >> (at + 7 - module) & 1
        if dark and module % side:
            continue
        if module > start:
            yield start % side, start // side, module - start
        start = module if dark else module + 1


def _single_bits(length: int) -> Iterator[str]:
    """Yield payloads in which one data bit is set: a pair is 45 times the first value plus the
    second, in binary.
    """
    for at in range(0, length, 2):
        size = min(2, length - at)
        for bit in range(PAIR_BITS if size == 2 else SINGLE_BITS):
            first, second = divmod(1 << bit, 45)
            yield f"{'0' * at}{(ALPHABET[first] + ALPHABET[second])[-size:]}".ljust(length, "0")


def _bits(length: int) -> int:
    return length // 2 * PAIR_BITS + length % 2 * SINGLE_BITS


def _sums(vectors: tuple[int, ...]) -> tuple[int, ...]:
    """Return the XOR of each subset of the vectors, by the bits of its index."""
    sums = [0]
    for vector in vectors:
        sums += [vector ^ known for known in sums]
    return tuple(sums)


def _packed(code: segno.QRCode) -> int:
    return int("".join(map(str, b"".join(code.matrix))), 2)


def _side(version: int) -> int:
    return 17 + 4 * version


def _padding(side: int) -> int:
    return -side * side % 8


def _octets(matrix: int, side: int) -> bytes:
    return (matrix << _padding(side)).to_bytes((side * side + 7) // 8, "big")
