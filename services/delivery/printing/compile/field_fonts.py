"""Sets the page's own text in the fonts of its fields, so that a file does not embed most glyphs
twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pydyf

from services.delivery.printing.compile.drawing import DrawnPage, as_bytes, number_of
from services.delivery.printing.compile.layout import PageFont
from services.delivery.printing.design.fitting import ELLIPSIS
from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.pdf.fonts import resource_name

FONT = re.compile(rb"/(\S+) (\S+) Tf")
BLANKS = re.compile("[\u00a0\u202f\u2009]")
SHOWN = re.compile(rb"<([0-9a-f]*)>|(-?[0-9.]+)")


def use_field_fonts(
    parts: Sequence[bytes | str], subsets: Mapping[str, FontSubset], fonts: Mapping[str, PageFont]
) -> tuple[tuple[bytes | str, ...], set[tuple[str, int]]]:
    """Return the parts, and which glyphs of which faces they show."""
    drawn: list[bytes | str] = []
    shown = set[tuple[str, int]]()
    for part in parts:
        if isinstance(part, str):
            drawn.append(part)
            continue
        lines, font = [], b""
        for line in part.split(b"\n"):
            if match := FONT.fullmatch(line):
                font = line
                continue
            if not line.endswith(b"] TJ") or not (match := FONT.fullmatch(font)):
                lines.append(line)
                continue
            key = match[1].decode()
            texts = fonts[key].texts if key in fonts else {}
            replaced = line_in_field_font(line, match[2], subsets.get(key), texts, shown)
            lines += [font, line] if replaced is None else [replaced]
        drawn.append(b"\n".join(lines))
    return tuple(drawn), shown


def line_in_field_font(
    line: bytes,
    size: bytes,
    subset: FontSubset | None,
    texts: Mapping[int, str],
    shown: set[tuple[str, int]],
) -> bytes | None:
    """Return the line in the subset's font, or None if the line has to keep WeasyPrint's font: the
    subset lacks one of its glyphs, or has it with another text, such as a mirrored bracket. `texts`
    are those of WeasyPrint's glyphs. Empty strings stay, because readers count moves by them.
    """
    if subset is None:
        return None
    parts, used = list[bytes](), set[int]()
    for glyphs, move in SHOWN.findall(line):
        if glyphs:
            used.update(int(glyphs[at : at + 4], 16) for at in range(0, len(glyphs), 4))
            parts.append(b"<%b>" % glyphs)
        elif not move:
            parts.append(b"<>")
        elif float(move):
            parts.append(move + b" ")
    if not used <= subset.glyphs.keys() or any(
        differs(subset.glyphs[glyph], texts.get(glyph)) for glyph in used
    ):
        return None
    shown |= {(subset.digest, glyph) for glyph in used}
    return b"/%b %b Tf\n[%b] TJ" % (resource_name(subset.digest), size, b"".join(parts))


def differs(own: str, text: str | None) -> bool:
    """Return whether two texts of one glyph differ. All kinds of blanks are equal. WeasyPrint adds
    to an ellipsis the text that it hides, which does not count.
    """
    return (
        text is not None
        and own != BLANKS.sub(" ", text)
        and not (own == ELLIPSIS and text.startswith(own))
    )


def keep_used_fonts(page: DrawnPage, resources: int, fixed: Sequence[bytes | str]) -> None:
    fonts = page.objects[number_of(page.objects[resources]["Font"])]
    drawn_in = [part for part in fixed if isinstance(part, bytes)]
    drawn_in += [
        b"\n".join(map(as_bytes, item.stream))
        for item in page.objects.values()
        if isinstance(item, pydyf.Stream)
        and hasattr(item, "ctm")
        and item is not page.objects[number_of(page.page["Contents"])]
    ]
    used = {match[1].decode() for text in drawn_in for match in FONT.finditer(text)}
    for key in [key for key in fonts if key not in used]:
        del fonts[key]
