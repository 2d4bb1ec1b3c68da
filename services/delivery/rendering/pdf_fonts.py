"""A shard as PDF objects: one composite font, as WeasyPrint embeds them (CIDs are glyph ids)."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping

from services.delivery.rendering.faces import Kit, Shard

Add = Callable[[int, bytes, bytes | None], None]  # number, dictionary, stream


def resource(digest: str, index: int) -> bytes:
    return b"K%b%d" % (digest[:8].encode(), index)


def add_shard(add: Add, number: int, kit: Kit, shard: Shard, index: int) -> int:
    """The font itself first, then what it stands on. Five objects."""
    ascent, descent, *bounds = kit.metrics
    name = b"%b+%b" % (
        subset_tag(kit.digest, index),
        re.sub(rb"[^A-Za-z0-9-]", b"", kit.family.encode("ascii", "ignore")) or b"Font",
    )
    unicode_map = zlib.compress(cmap(shard.glyphs), 9)
    program = b"<</Subtype/OpenType" if kit.is_cff else b"<</Length1 %d" % shard.length
    add(
        number,
        b"<</Type/Font/Subtype/Type0/BaseFont/%b/Encoding/Identity-H/DescendantFonts[%d 0 R]/ToUnicode %d 0 R>>"
        % (name, number + 1, number + 3),
        None,
    )
    add(
        number + 1,
        b"<</Type/Font/Subtype/CIDFontType%d/BaseFont/%b/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
        b"/CIDToGIDMap/Identity/FontDescriptor %d 0 R/W[%b]>>"
        % (0 if kit.is_cff else 2, name, number + 2, widths(shard.glyphs, kit.widths)),
        None,
    )
    add(
        number + 2,
        b"<</Type/FontDescriptor/FontName/%b/Flags 4/FontBBox[%b]/ItalicAngle 0/Ascent %d/Descent %d/CapHeight %d/StemV 80/FontFile%d %d 0 R>>"
        % (
            name,
            b" ".join(b"%d" % bound for bound in bounds),
            ascent,
            descent,
            ascent,
            3 if kit.is_cff else 2,
            number + 4,
        ),
        None,
    )
    add(number + 3, b"<</Filter/FlateDecode/Length %d>>" % len(unicode_map), unicode_map)
    add(number + 4, b"%b/Filter/FlateDecode/Length %d>>" % (program, len(shard.program)), shard.program)
    return number + 5


def subset_tag(digest: str, index: int) -> bytes:
    return bytes(65 + byte % 26 for byte in hashlib.sha256(f"{digest}{index}".encode()).digest()[:6])


def widths(glyphs: Iterable[int], width_of: Mapping[int, int]) -> bytes:
    """Runs of neighbouring glyphs: `3 [278 355]`."""
    runs: list[tuple[int, list[int]]] = []
    for glyph in sorted(glyphs):
        if runs and glyph == runs[-1][0] + len(runs[-1][1]):
            runs[-1][1].append(width_of[glyph])
        else:
            runs.append((glyph, [width_of[glyph]]))
    return b" ".join(b"%d[%b]" % (first, b" ".join(b"%d" % width for width in run)) for first, run in runs)


def cmap(glyphs: Mapping[int, str]) -> bytes:
    """Glyph -> text: what is found and copied."""
    lines = [
        b"/CIDInit/ProcSet findresource begin 12 dict begin begincmap/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def",
        b"/CMapName/Adobe-Identity-UCS def/CMapType 2 def 1 begincodespacerange<0000><ffff>endcodespacerange",
    ]
    said = [
        b"<%04x><%b>" % (glyph, meant.encode("utf-16-be").hex().encode()) for glyph, meant in sorted(glyphs.items())
    ]
    for start in range(0, len(said), 100):
        some = said[start : start + 100]
        lines.append(b"%d beginbfchar\n%b\nendbfchar" % (len(some), b"\n".join(some)))
    return b"\n".join([*lines, b"endcmap CMapName currentdict/CMap defineresource pop end end"])
