"""The page's own text, set again in the fonts that its fields use too: else a file would carry most
letters twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pydyf

from services.delivery.printing.compile.drawing import DrawnPage, as_bytes, number_of
from services.delivery.printing.compile.layout import PageFont
from services.delivery.printing.design.fitting import ELLIPSIS
from services.delivery.printing.fonts.faces import FaceKit
from services.delivery.printing.pdf.fonts import resource

FONT = re.compile(rb"/(\S+) (\S+) Tf")
BLANKS = re.compile("[\u00a0\u202f\u2009]")
SHOWN = re.compile(rb"<([0-9a-f]*)>|(-?[0-9.]+)")


def recast(
    parts: Sequence[bytes | str], kits: Mapping[str, FaceKit], fonts: Mapping[str, PageFont]
) -> tuple[tuple[bytes | str, ...], set[tuple[str, int]]]:
    """The parts, and which glyphs of which faces they show."""
    made: list[bytes | str] = []
    shown = set[tuple[str, int]]()
    for part in parts:
        if isinstance(part, str):
            made.append(part)
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
            says = fonts[key].says if key in fonts else {}
            again = recast_line(line, match[2], kits.get(key), says, shown)
            lines += [font, line] if again is None else [again]
        made.append(b"\n".join(lines))
    return tuple(made), shown


def recast_line(
    line: bytes,
    size: bytes,
    kit: FaceKit | None,
    says: Mapping[int, str],
    shown: set[tuple[str, int]],
) -> bytes | None:
    """None when the kit does not carry a glyph of it, or with another meaning, such as a mirrored
    bracket: the line keeps WeasyPrint's font. `says`: what its glyphs mean there. Empty strings
    stay, for readers count moves by them.
    """
    if kit is None:
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
    if not used <= kit.glyphs.keys() or any(
        is_other(kit.glyphs[glyph], says.get(glyph)) for glyph in used
    ):
        return None
    shown |= {(kit.digest, glyph) for glyph in used}
    return b"/%b %b Tf\n[%b] TJ" % (resource(kit.digest), size, b"".join(parts))


def is_other(own: str, said: str | None) -> bool:
    """Blanks of all kinds are one; behind an ellipsis WeasyPrint tells what it hides, and we do
    not.
    """
    return (
        said is not None
        and own != BLANKS.sub(" ", said)
        and not (own == ELLIPSIS and said.startswith(own))
    )


def keep_used_fonts(page: DrawnPage, resources: int, fixed: Sequence[bytes | str]) -> None:
    fonts = page.objects[number_of(page.objects[resources]["Font"])]
    drawn_in = [part for part in fixed if isinstance(part, bytes)]
    drawn_in += [
        b"\n".join(map(as_bytes, it.stream))
        for it in page.objects.values()
        if isinstance(it, pydyf.Stream)
        and hasattr(it, "ctm")
        and it is not page.objects[number_of(page.page["Contents"])]
    ]
    used = {match[1].decode() for text in drawn_in for match in FONT.finditer(text)}
    for key in [key for key in fonts if key not in used]:
        del fonts[key]
