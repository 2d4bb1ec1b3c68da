"""A face as PDF objects: one composite font, whose CIDs are the font file's glyph ids, as in
WeasyPrint's files.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.fonts.programs import FontProgram

FONT_OBJECTS = 7  # at most, with the object stream that holds the small ones
CMAP_HEAD = (
    b"/CIDInit/ProcSet findresource begin 12 dict begin "
    b"begincmap/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def\n"
    b"/CMapName/Adobe-Identity-UCS def/CMapType 2 def 1 "
    b"begincodespacerange<0000><ffff>endcodespacerange\n"
)
CMAP_END = b"endcmap CMapName currentdict/CMap defineresource pop end end"
CMAP_ROWS_MAX = 100  # of one block, as the standard requires
CMAP_LEVEL = 6  # of zlib
Add = Callable[[int, bytes, bytes | None], None]  # number, dictionary, stream


def resource_name(digest: str) -> bytes:
    return b"K" + digest[:8].encode()


@dataclass(frozen=True, slots=True)
class EmbeddedFont:
    """A font with the widths and texts of its glyphs. `unicode_map` is compressed."""

    program: FontProgram
    widths: bytes
    unicode_map: bytes


class FontObjects:
    """The objects of one face. What is the same in each document is made once. Not shared between
    threads.
    """

    def __init__(self, subset: FontSubset) -> None:
        self.subset = subset
        self._widths = widths(subset.common, subset.widths)
        self._common_rows = cmap_rows({glyph: subset.glyphs[glyph] for glyph in subset.common})

    def embedded(self, rare: frozenset[int]) -> EmbeddedFont:
        """Return the font with these glyphs beside the common ones."""
        rows = self._common_rows + cmap_rows({glyph: self.subset.glyphs[glyph] for glyph in rare})
        return EmbeddedFont(
            self.subset.outlines.program(rare),
            self._widths + widths(rare, self.subset.widths),
            zlib.compress(CMAP_HEAD + rows + CMAP_END, CMAP_LEVEL),
        )


def add_font(add: Add, number: int, fonts: FontObjects, rare: frozenset[int]) -> int:
    """Add the font itself, then what it refers to: six objects, or five for CFF, which needs no
    map of glyphs. Return the next free number.
    """
    subset, font = fonts.subset, fonts.embedded(rare)
    family = re.sub(rb"[^A-Za-z0-9-]", b"", subset.family.encode("ascii", "ignore")) or b"Font"
    name = b"%b+%b" % (subset_tag(subset.digest, rare), family)
    program, numbers = font.program, font.program.numbers
    add(
        number,
        b"<</Type/Font/Subtype/Type0/BaseFont/%b/Encoding/Identity-H/DescendantFonts[%d 0 R]"
        b"/ToUnicode %d 0 R>>" % (name, number + 1, number + 3),
        None,
    )
    glyphs_map = b"/CIDToGIDMap %d 0 R" % (number + 5) if numbers else b""
    add(
        number + 1,
        b"<</Type/Font/Subtype/CIDFontType%d/BaseFont/%b"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
        b"%b/FontDescriptor %d 0 R/W[%b]>>"
        % (0 if subset.is_cff else 2, name, glyphs_map, number + 2, font.widths),
        None,
    )
    add(number + 2, descriptor(subset, name, number + 4), None)
    kind = b"<</Subtype/OpenType" if subset.is_cff else b"<</Length1 %d" % program.length
    add(number + 3, b"<</Filter/FlateDecode/Length %d>>" % len(font.unicode_map), font.unicode_map)
    add(
        number + 4,
        b"%b/Filter/FlateDecode/Length %d>>" % (kind, len(program.packed)),
        program.packed,
    )
    if numbers:
        add(number + 5, b"<</Filter/FlateDecode/Length %d>>" % len(numbers), numbers)
    return number + (6 if numbers else 5)


def descriptor(subset: FontSubset, name: bytes, program: int) -> bytes:
    ascent, descent, *bounds = subset.metrics
    box, file = b" ".join(b"%d" % bound for bound in bounds), 3 if subset.is_cff else 2
    return (
        b"<</Type/FontDescriptor/FontName/%b/Flags 4/FontBBox[%b]/ItalicAngle 0/Ascent %d"
        b"/Descent %d/CapHeight %d/StemV 80/FontFile%d %d 0 R>>"
    ) % (name, box, ascent, descent, ascent, file, program)


def subset_tag(digest: str, rare: frozenset[int]) -> bytes:
    parts = f"{digest}{sorted(rare)}".encode()
    return bytes(65 + byte % 26 for byte in hashlib.sha256(parts).digest()[:6])


def widths(glyphs: Iterable[int], width_of: Mapping[int, int]) -> bytes:
    """Return runs of neighbouring glyphs: `3 [278 355]`."""
    runs: list[tuple[int, list[int]]] = []
    for glyph in sorted(glyphs):
        if runs and glyph == runs[-1][0] + len(runs[-1][1]):
            runs[-1][1].append(width_of[glyph])
        else:
            runs.append((glyph, [width_of[glyph]]))
    return b" ".join(
        b"%d[%b]" % (first, b" ".join(b"%d" % width for width in run)) for first, run in runs
    )


def cmap_rows(glyphs: Mapping[int, str]) -> bytes:
    """Return the text of each glyph, which readers search and copy. Neighbouring glyphs of
    neighbouring characters are one range.
    """
    runs: list[tuple[int, int, str]] = []
    for glyph in sorted(glyphs):
        text = glyphs[glyph]
        if runs and glyph & 0xFF and is_next(runs[-1], glyph, text):
            runs[-1] = (runs[-1][0], glyph, runs[-1][2])
        else:
            runs.append((glyph, glyph, text))
    rows = [(first, last, text.encode("utf-16-be").hex().encode()) for first, last, text in runs]
    single = [b"<%04x><%b>\n" % (first, text) for first, last, text in rows if first == last]
    ranges = [b"<%04x><%04x><%b>\n" % run for run in rows if run[0] != run[1]]
    return cmap_blocks(b"char", single) + cmap_blocks(b"range", ranges)


def cmap_blocks(kind: bytes, rows: Sequence[bytes]) -> bytes:
    blocks = [rows[start : start + CMAP_ROWS_MAX] for start in range(0, len(rows), CMAP_ROWS_MAX)]
    return b"".join(
        [
            b"%d beginbf%b\n%bendbf%b\n" % (len(block), kind, b"".join(block), kind)
            for block in blocks
        ]
    )


def is_next(run: tuple[int, int, str], glyph: int, text: str) -> bool:
    """Return whether a glyph continues a run. The characters of a run differ in their last byte
    only, as the standard requires.
    """
    first, last, begin = run
    if len(begin) != 1 or len(text) != 1 or ord(text) > 0xFFFF:
        return False
    return (
        glyph == last + 1
        and ord(text) - ord(begin) == glyph - first
        and ord(text) >> 8 == ord(begin) >> 8
    )
