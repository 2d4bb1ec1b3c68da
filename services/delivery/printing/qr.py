"""A ticket's QR code, made from a template: segno encodes what does not change between two codes,
once for all codes of one length.

With mode, version, error level, mask and length fixed, every module is a constant XOR some of the
data bits, because Reed-Solomon is linear and the mask is a constant. So segno is called once for
the code of zeros and once for each data bit alone. Any other code is the first one XOR what its
data bits change.

What it gains: `make bench ARGS="--only rendering"` prints 16 us for a code, beside 520 us for segno
with a fixed mask and 2,500 us for segno that chooses it, where a whole ticket takes some 650 us on
the same core. Without it a sender would stamp half as many tickets a second.

A matrix is one int of side * side bits, row by row, the module at the top left highest; 1 is dark.
There is no quiet zone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal
from zlib import crc32

import segno

from services.delivery.printing import fast
from services.delivery.printing.fast import ALPHANUMERIC_VALUES, PAIR_BITS

# Of QR's alphanumeric mode, in the order of its values.
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
VALUES = {character: value for value, character in enumerate(ALPHABET)}

# Of 600 random codes of tickets, by segno's own evaluation of the finished symbol: mask 3 has the
# lowest mean penalty (1166; 0: 1171, 7: 1193, 1: 1194, 4: 1214, 6: 1239, 2: 1259, 5: 1266) and is
# the best one most often (212; 0: 169). If segno chooses, it takes 7 most often (91 of 300; 0: 71,
# 3: 58), because it evaluates a symbol before the format information is drawn.
MASK = 3

# 90 characters at level M, more than a ticket needs: the cached operators grow with a code's area.
VERSION_MAX = 4
SIDE_CACHED_MAX = 17 + 4 * VERSION_MAX
SINGLE_BITS = 6

MAGIC, FORMAT = b"QRST", 1
# Magic, format, version, mask, error level, length. Base and basis follow, then a CRC-32.
HEAD = struct.Struct(">4sBBBcH")
CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class QrTemplate:
    """A precomputed QR matrix for alphanumeric texts of one length, from which a code is made by
    XOR.
    """

    length: int
    error: str
    version: int
    mask: int
    base: int  # the code of zeros
    # What each data bit changes, pair by pair, low bits first; last the bits of a single character.
    basis: tuple[int, ...]
    tables: tuple[fast.PairTable, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", fast.pair_tables(self.basis))

    @property
    def side(self) -> int:
        return _side(self.version)

    def matrix(self, payload: str) -> int:
        """Return bit for bit what segno draws. An error quotes only the character that is wrong,
        because the payload is a secret.
        """
        if len(payload) != self.length:
            raise ValueError(
                f"the template is for {self.length} characters, and the payload has {len(payload)}"
            )
        try:
            values = [VALUES[character] for character in payload]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"character {payload.index(character) + 1}, {character!r}, is outside QR's "
                "alphanumeric alphabet"
            ) from None
        return fast.xor_pairs(self.base, self.tables, values)

    def to_bytes(self) -> bytes:
        head = HEAD.pack(MAGIC, FORMAT, self.version, self.mask, self.error.encode(), self.length)
        body = head + b"".join(
            fast.octets(vector, self.side) for vector in (self.base, *self.basis)
        )
        return body + crc32(body).to_bytes(CRC_BYTES, "big")

    @staticmethod
    def from_bytes(data: bytes) -> QrTemplate:
        """Read a template. Raises ValueError for anything but what `to_bytes` wrote: one changed
        bit would spoil every code that is drawn with it.
        """
        if len(data) < HEAD.size or not data.startswith(MAGIC):
            raise ValueError("these bytes are not a template")
        _, format_number, version, mask, error, length = HEAD.unpack_from(data)
        if format_number != FORMAT:
            raise ValueError(
                f"the template is of format {format_number}, and this release reads format {FORMAT}"
            )
        side, end = _side(version), len(data) - CRC_BYTES
        size = len(fast.octets(0, side))
        if end != HEAD.size + size * (1 + _bits(length)):
            raise ValueError(
                f"a template for {length} characters in version {version} has not {len(data)} bytes"
            )
        if crc32(data[:end]) != int.from_bytes(data[end:], "big"):
            raise ValueError("the template's checksum is wrong: its bytes were changed")
        starts = range(HEAD.size, end, size)
        base, *basis = (
            int.from_bytes(data[at : at + size], "big") >> fast.padding(side) for at in starts
        )
        return QrTemplate(length, error.decode(), version, mask, base, tuple(basis))


def build_qr_template(
    length: int, *, error: Literal["l", "m", "q", "h"] = "m", mask: int = MASK
) -> QrTemplate:
    """Return a template. segno encodes five or six codes per character for it, 0.1 s for 35, so it
    is built once and stored.
    """
    if length < 1:
        raise ValueError(f"a template is for at least one character, not {length}")

    def encode(payload: str, version: int | None) -> segno.QRCode:
        return segno.make(
            payload, error, version, mode="alphanumeric", mask=mask, micro=False, boost_error=False
        )

    blank = encode("0" * length, None)
    version = int(blank.version)
    if version > VERSION_MAX:
        raise ValueError(
            f"{length} characters need version {version}, and templates go up to {VERSION_MAX}"
        )
    base = _packed(blank)
    basis = tuple(base ^ _packed(encode(payload, version)) for payload in _single_bits(length))
    built = QrTemplate(length, error, version, mask, base, basis)
    witness = (ALPHABET[::-1] * length)[:length]
    if built.matrix(witness) != _packed(encode(witness, version)):
        raise RuntimeError(
            "segno's codes are no longer a constant XOR their data bits: no template can draw them"
        )
    return built


def draw_matrix(payload: str, template: QrTemplate | None = None) -> tuple[int, int]:
    """Return a matrix and its side for any payload that fits a QR code: by the template if the
    payload is of its form, else by segno.
    """
    if template is not None:
        with suppress(ValueError):
            return template.matrix(payload), template.side
    code = segno.make(payload, error="m", micro=False, boost_error=False)
    return _packed(code), len(code.matrix)


def pdf_path(matrix: int, side: int) -> bytes:
    """Return the dark modules as PDF rectangles, a line each, in modules from the top left
    downwards.

    They are one path, to be filled at once: rectangles that touch then leave no seam. The caller
    writes the transformation and `f`.
    """
    draw = fast.rectangles if side <= SIDE_CACHED_MAX else fast.plain_rectangles
    return draw(matrix, side)


def svg_path(matrix: int, side: int) -> str:
    """Return the same rectangles in the same order, for the `d` of an SVG path."""
    return "".join(f"M{x} {y}h{width}v1h-{width}z" for x, y, width in fast.runs(matrix, side))


def _single_bits(length: int) -> Iterator[str]:
    """Yield payloads in which one data bit is set: a pair is one number in binary."""
    for at in range(0, length, 2):
        size = min(2, length - at)
        for bit in range(PAIR_BITS if size == 2 else SINGLE_BITS):
            first, second = divmod(1 << bit, ALPHANUMERIC_VALUES)
            yield f"{'0' * at}{(ALPHABET[first] + ALPHABET[second])[-size:]}".ljust(length, "0")


def _bits(length: int) -> int:
    return length // 2 * PAIR_BITS + length % 2 * SINGLE_BITS


def _packed(code: segno.QRCode) -> int:
    return int("".join(map(str, b"".join(code.matrix))), 2)


def _side(version: int) -> int:
    return 17 + 4 * version
