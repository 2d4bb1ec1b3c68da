"""The optimised functions of printing, in one place.

A function belongs here if a sender's mail would take at least 0.5 % longer without it; everything
else in the library is written plainly. A stamped ticket takes 440 to 520 us of one core, a mail
2.3 ms of its sender (`make bench ARGS="--only delivered"`). Each function names the time that it
saves, measured against the plain function that it replaces, on one core in turn (medians of nine),
and tests/unit/delivery/printing/test_fast.py compares their results.

fonts/programs.py is optimised too, and a module of its own: it replaces HarfBuzz's subset.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from operator import getitem, itemgetter
from typing import NamedTuple

from services.delivery.printing.plates import Placeholder, PlateObject

ALPHANUMERIC_VALUES = 45  # of QR's alphanumeric mode: a pair is 45 times the first, plus the second
PAIR_BITS = 11
RECTANGLE = b"%d %d %d 1 re\n"  # x, y, width

ZLIB_HEADER = b"\x78\xda"
LAST_BLOCK = b"\x03\x00"  # an empty block with the mark of the last one
STORED_BYTES_MAX = 0xFFFF  # of one stored block

PairTable = tuple[tuple[int, ...], tuple[int, ...]]
Template = tuple[bytes, Callable[[Sequence[int]], tuple[int, ...]]]


# The data of a QR code


def pair_tables(basis: Sequence[int]) -> tuple[PairTable, ...]:
    """Return two tables for each pair of characters: what the low byte of its number changes in a
    matrix, and what the bits above change. `basis` is what each bit changes, low bits first.
    """
    pairs = [basis[at : at + PAIR_BITS] for at in range(0, len(basis), PAIR_BITS)]
    return tuple((_sums(bits[:8]), _sums(bits[8:])) for bits in pairs)


def xor_pairs(base: int, tables: Sequence[PairTable], values: Sequence[int]) -> int:
    """Return the base with the changes of all characters, two look-ups a pair. It saves 20 us of a
    ticket beside the XOR bit by bit, 0.9 % of a mail.
    """
    matrix = base
    for (low, high), first, second in zip(tables, values[::2], values[1::2], strict=False):
        number = ALPHANUMERIC_VALUES * first + second
        matrix ^= low[number & 0xFF] ^ high[number >> 8]
    if len(values) % 2:
        matrix ^= tables[-1][0][values[-1]]
    return matrix


def _sums(vectors: Sequence[int]) -> tuple[int, ...]:
    """Return the XOR of each subset of the vectors, by the bits of its index."""
    sums = [0]
    for vector in vectors:
        sums += [vector ^ known for known in sums]
    return tuple(sums)


# The drawing of a QR code


def rectangles(matrix: int, side: int) -> bytes:
    """Return the dark modules as PDF rectangles, from cached operators of eight modules each. It
    saves 145 us of a ticket beside `plain_rectangles`, 6 % of a mail. The cache grows with the
    code's area, so it is for the sides of tickets' codes.
    """
    return b"".join(map(getitem, rectangle_caches(side), octets(matrix, side)))


def plain_rectangles(matrix: int, side: int) -> bytes:
    """Return what `rectangles` returns, for a code of any size."""
    return b"".join(RECTANGLE % run for run in runs(matrix, side))


class _RectangleCache(dict[int, bytes]):
    """The rectangles of eight modules by their bits, cached as they occur: 256 at most."""

    def __init__(self, side: int, at: int) -> None:
        self.side, self.at = side, at

    def __missing__(self, bits: int) -> bytes:
        self[bits] = lines = b"".join(
            RECTANGLE % run for run in _runs_of_octet(bits, self.at, self.side)
        )
        return lines


@cache
def rectangle_caches(side: int) -> tuple[_RectangleCache, ...]:
    return tuple(_RectangleCache(side, at) for at in range(0, side * side, 8))


def runs(matrix: int, side: int) -> Iterator[tuple[int, int, int]]:
    """Yield x, y and width of neighbouring dark modules.

    A run ends with its row and after each eighth module, so that the rectangles of eight modules
    depend on their bits alone. One rectangle in eight exists for that reason; longer runs would
    take more time to find than deflate saves on their bytes.
    """
    for octet, bits in enumerate(octets(matrix, side)):
        yield from _runs_of_octet(bits, 8 * octet, side)


def _runs_of_octet(bits: int, at: int, side: int) -> Iterator[tuple[int, int, int]]:
    start = at  # of the open run, whose width may be zero
    for module in range(at, at + 9):
        dark = module < at + 8 and bits >> (at + 7 - module) & 1
        if dark and module % side:
            continue
        if module > start:
            yield start % side, start // side, module - start
        start = module if dark else module + 1


def octets(matrix: int, side: int) -> bytes:
    """Return the modules row by row, eight a byte, with zeros after the last."""
    return (matrix << padding(side)).to_bytes((side * side + 7) // 8, "big")


def padding(side: int) -> int:
    """Return how many bits fill the last byte of a matrix."""
    return -side * side % 8


# Deflate streams in parts


class DeflateBlocks(NamedTuple):
    """Data, and the same data as blocks of a deflate stream, none of which is its last."""

    data: bytes
    blocks: bytes


def compressed(data: bytes, level: int) -> DeflateBlocks:
    """Return compressed blocks. They refer to nothing before them, so any stream may hold them."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return DeflateBlocks(data, packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))


def stored(data: bytes) -> DeflateBlocks:
    """Return the data as stored blocks: a few bytes are not worth a compressor."""
    blocks = bytearray()
    for start in range(0, len(data), STORED_BYTES_MAX):
        block = data[start : start + STORED_BYTES_MAX]
        length = len(block)
        blocks += b"\0%b%b" % (
            length.to_bytes(2, "little"),
            (length ^ 0xFFFF).to_bytes(2, "little"),
        )
        blocks += block
    return DeflateBlocks(data, bytes(blocks))


def zlib_stream(*parts: DeflateBlocks) -> bytes:
    """Return the zlib stream of all data in a row. What is the same in each file is compressed once
    and cached. It saves 90 us of a ticket beside compressing its whole cross-reference table, 4 %
    of a mail, and some 50 us more of one whose font program has rare letters.
    """
    checksum = 1
    for part in parts:
        checksum = zlib.adler32(part.data, checksum)
    return b"".join(
        [ZLIB_HEADER, *[part.blocks for part in parts], LAST_BLOCK, checksum.to_bytes(4, "big")]
    )


# Objects with numbers in them


def object_template(plate_object: PlateObject, positions: Mapping[Placeholder, int]) -> Template:
    """Return an object as a template, and what selects its numbers from a list in which each
    placeholder's number stands at its position.

    It saves nothing for an order of few tickets, whose objects are cached, and 90 of some 450 us
    for each page of an order of a hundred. It replaces `PlateObject.filled`.
    """
    template = b"%d".join(part.replace(b"%", b"%%") for part in plate_object.texts)
    own = [positions[placeholder] for placeholder in plate_object.placeholders]
    if len(own) > 1:
        return template, itemgetter(*own)
    return template, lambda numbers: tuple(numbers[at] for at in own)
