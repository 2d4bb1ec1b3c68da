"""Rewrites PostScript outlines that are keyed by CID, so that a reader finds a glyph by its number.

WeasyPrint and Stubline's own writer use a glyph's number in the font file as its CID. A reader
finds that glyph in a TrueType program and in a name-keyed CFF program (ISO 32000-1, 9.7.4.2). In a
CID-keyed program it looks the CID up in the program's own charset, which a subset keeps from the
original font, so that another glyph is drawn, or none. Such a file is therefore rewritten before
anything reads it.
"""

from __future__ import annotations

import io
from collections import Counter

import uharfbuzz as hb
from fontTools.cffLib import cffStandardStrings
from fontTools.fontBuilder import FontBuilder
from fontTools.misc.psCharStrings import T2CharString, encodeIntT2
from fontTools.ttLib import TTFont

OPENTYPE, COLLECTION, PACKED = b"OTTO", b"ttcf", (b"wOFF", b"wOF2")
FONTS = (OPENTYPE, COLLECTION, *PACKED)  # the first bytes of files that may have to be rewritten
LAST_OPERATOR = 31  # of the bytes that begin a charstring's token; 28 begins a number all the same
SHORT_INT = 28
TOKEN_BYTES = {SHORT_INT: 3, 255: 5}  # of numbers by their first byte; others have one or two
TWO_BYTES_FROM = 247
# The operators that may come first once hints and subroutines are removed -> their own operands.
# One more is the width.
FIRST_OPERATORS = {4: (1,), 21: (2,), 22: (1,), 14: (0, 4)}  # vmoveto, rmoveto, hmoveto, endchar


class OutlinesUnknownError(ValueError):
    """PostScript outlines that cannot be rewritten."""


def keyed_by_number(content: bytes) -> bytes:
    """Return the font with its glyphs under the same numbers. A font that was keyed by CID becomes
    name-keyed, a compressed one is unpacked, and of a collection it is the first.

    Raises what fontTools raises for a file that is not a font, and OutlinesUnknownError.
    """
    if content[:4] in {COLLECTION, *PACKED}:
        content = unpacked(content)
    if content[:4] != OPENTYPE:
        return content
    font = TTFont(io.BytesIO(content))
    if "CFF " not in font:
        raise OutlinesUnknownError("no table `CFF `")
    return name_keyed(content) if hasattr(font["CFF "].cff[0], "ROS") else content


def unpacked(content: bytes) -> bytes:
    """Return a file of one font, uncompressed. Of a collection fontconfig would take all fonts for
    one family.
    """
    number = 0 if content[:4] == COLLECTION else -1
    font = TTFont(io.BytesIO(content), fontNumber=number, recalcTimestamp=False)
    plain = io.BytesIO()
    font.flavor = font.flavorData = None
    font.save(plain, reorderTables=None)
    return plain.getvalue()


def name_keyed(content: bytes) -> bytes:
    face = hb.Face(content)
    font = TTFont(io.BytesIO(without_subroutines(face)), recalcBBoxes=False, recalcTimestamp=False)
    keyed, measures = font["CFF "].cff[0], hb.Font(face)
    charstrings, top_dict = keyed.CharStrings.charStringsIndex, {"FontBBox": keyed.FontBBox}
    advances = [measures.get_glyph_h_advance(glyph) for glyph in range(len(charstrings))]
    usual = Counter(advances).most_common(1)[0][0]
    # Standard names come first, because a file has no room for 65,535 names of its own.
    order = [*cffStandardStrings, *(f"glyph{at}" for at in range(len(charstrings)))][
        : len(charstrings)
    ]
    drawn = {
        name: T2CharString(with_width(charstring.bytecode, advance, usual))
        for name, charstring, advance in zip(order, charstrings, advances, strict=True)
    }
    font.setGlyphOrder(order)
    builder = FontBuilder(font=font)
    builder.setupCFF(
        font["name"].getDebugName(6) or "Font",
        top_dict,
        drawn,
        {"defaultWidthX": usual, "nominalWidthX": 0},
    )
    rewritten = io.BytesIO()
    font.save(rewritten, reorderTables=None)
    return rewritten.getvalue()


def without_subroutines(face: hb.Face) -> bytes:
    wanted = hb.SubsetInput()
    wanted.keep_everything()
    wanted.flags |= (
        hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING | hb.SubsetFlags.DESUBROUTINIZE
    )
    return bytes(hb.subset(face, wanted).blob.data)


def with_width(charstring: bytes, advance: int, usual: int) -> bytes:
    """Return the charstring with the advance of `hmtx` before the drawing, in place of a number
    that is relative to the glyph's own font dictionary.
    """
    at, ends = 0, list[int]()
    while at < len(charstring) and (charstring[at] > LAST_OPERATOR or charstring[at] == SHORT_INT):
        at += TOKEN_BYTES.get(charstring[at], 2 if charstring[at] >= TWO_BYTES_FROM else 1)
        ends.append(at)
    own = FIRST_OPERATORS.get(charstring[at]) if at < len(charstring) else (0,)
    if own is None or not any(len(ends) - count in {0, 1} for count in own):
        raise OutlinesUnknownError(
            f"an outline begins with operator {charstring[at]} after {len(ends)} numbers"
        )
    drawing = charstring if len(ends) in own else charstring[ends[0] :]
    return drawing if advance == usual else encodeIntT2(advance) + drawing
