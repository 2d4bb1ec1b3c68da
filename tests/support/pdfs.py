"""What a PDF is made of, for laws about files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import pikepdf
from fontTools.ttLib import TTFont

BFCHAR = re.compile(rb"<([0-9a-fA-F]+)>\s*<([0-9a-fA-F]*)>")
BFRANGE = re.compile(rb"<([0-9a-fA-F]+)>\s*<([0-9a-fA-F]+)>\s*<([0-9a-fA-F]*)>")

NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "pdfuaid": "http://www.aiim.org/pdfua/ns/id/",
}
Id = tuple[int, int]
Line = tuple[float, float, tuple[tuple[int, int], ...]]


@contextmanager
def opened(pdf: bytes) -> Iterator[pikepdf.Pdf]:
    """Open it strictly: what a lenient reader would repair is an error."""
    with pikepdf.open(io.BytesIO(pdf), attempt_recovery=False, suppress_warnings=False) as document:
        yield document


@dataclass(frozen=True)
class Embedded:
    """A font of a page: its glyphs' texts and declared widths, and its program."""

    texts: dict[int, str]
    widths: dict[int, float]
    program: TTFont
    is_plain: bool  # codes are glyphs; else it is WeasyPrint's own, for letters that no font has
    numbers: (
        bytes  # two bytes a code: which glyph of the program it is; empty where they are the same
    )

    def name_of(self, glyph: int) -> str:
        number = (
            int.from_bytes(self.numbers[2 * glyph : 2 * glyph + 2], "big")
            if self.numbers
            else glyph
        )
        name: str = self.program.getGlyphOrder()[number]
        return name

    def advance(self, glyph: int) -> float:
        """In thousandths of the size, of the program itself."""
        width: float = self.program["hmtx"].metrics[self.name_of(glyph)][0]
        per_em: float = self.program["head"].unitsPerEm
        return 1000 * width / per_em

    def has_outline(self, glyph: int) -> bool:
        if "glyf" not in self.program:
            return True
        shape = self.program["glyf"][self.name_of(glyph)]
        return bool(shape.numberOfContours)


def fonts_of(page: pikepdf.Page) -> dict[str, Embedded]:
    return {
        name: embedded(font)
        for name, font in page.Resources.get("/Font", pikepdf.Dictionary()).items()
    }


def embedded(font: pikepdf.Object) -> Embedded:
    inner = font.DescendantFonts[0]
    descriptor = inner.FontDescriptor
    file = descriptor.get("/FontFile2", descriptor.get("/FontFile3"))
    assert file is not None, "the font is not embedded"
    program = TTFont(io.BytesIO(file.read_bytes()))
    is_plain = isinstance(font.Encoding, pikepdf.Name) and font.Encoding == "/Identity-H"
    numbers = inner.get("/CIDToGIDMap", pikepdf.Name("/Identity"))
    packed = numbers.read_bytes() if isinstance(numbers, pikepdf.Stream) else b""
    return Embedded(
        unicode_of(font.ToUnicode.read_bytes()), widths_of(list(inner.W)), program, is_plain, packed
    )


def unicode_of(cmap: bytes) -> dict[int, str]:
    texts: dict[int, str] = {}
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", cmap, re.DOTALL):
        texts |= {
            int(glyph, 16): bytes.fromhex(text.decode()).decode("utf-16-be")
            for glyph, text in BFCHAR.findall(block)
        }
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", cmap, re.DOTALL):
        for first, last, text in BFRANGE.findall(block):
            for at in range(int(first, 16), int(last, 16) + 1):
                texts[at] = chr(int(text, 16) + at - int(first, 16))
    return texts


def widths_of(array: list[pikepdf.Object]) -> dict[int, float]:
    """`3 [278 355]`, and `3 5 278`."""
    widths: dict[int, float] = {}
    while array:
        if isinstance(array[1], pikepdf.Array):
            widths |= {int(array[0]) + at: float(width) for at, width in enumerate(array[1])}
            array = array[2:]
        else:
            widths |= dict.fromkeys(range(int(array[0]), int(array[1]) + 1), float(array[2]))
            array = array[3:]
    return widths


def operators(page: pikepdf.Page) -> Iterator[tuple[str, list[Any]]]:
    """Each operator of a page's own content, with what stands before it."""
    for instruction in pikepdf.parse_content_stream(page):
        yield str(instruction.operator), list(instruction.operands)


def glyphs_of(page: pikepdf.Page) -> set[tuple[str, int]]:
    """Font and glyph of all that the page's own content shows."""
    glyphs, font = set[tuple[str, int]](), ""
    for operator, operands in operators(page):
        if operator == "Tf":
            font = str(operands[0])
        elif operator == "TJ":
            for part in operands[0]:
                if isinstance(part, pikepdf.String):
                    codes = bytes(part)
                    glyphs |= {
                        (font, int.from_bytes(codes[at : at + 2], "big"))
                        for at in range(0, len(codes), 2)
                    }
    return glyphs


def marks_of(page: pikepdf.Page) -> list[int]:
    """Marked content ids, as they stand in the content."""
    return [
        int(operands[1].MCID)
        for operator, operands in operators(page)
        if operator == "BDC"
        and isinstance(operands[1], pikepdf.Dictionary)
        and "/MCID" in operands[1]
    ]


def unmarked(page: pikepdf.Page) -> list[str]:
    """Operators that paint outside of any marked content: neither structure nor artifact."""
    depth, painting = 0, []
    for operator, _ in operators(page):
        depth += {"BDC": 1, "BMC": 1, "EMC": -1}.get(operator, 0)
        assert depth >= 0
        if not depth and operator in {"f", "f*", "S", "B", "TJ", "Tj", "Do", "sh"}:
            painting.append(operator)
    assert depth == 0
    return painting


def elements(root: pikepdf.Object) -> Iterator[pikepdf.Object]:
    """Return all structure elements, parents first; each names its parent."""
    waiting = [(kid, root) for kid in kids(root)]
    while waiting:
        element, parent = waiting.pop(0)
        assert id_of(element.P) == id_of(parent)
        yield element
        waiting += [(kid, element) for kid in kids(element) if "/S" in kid]


def kids(element: pikepdf.Object) -> list[pikepdf.Object]:
    entry = element.get("/K", pikepdf.Array())
    every = list(entry) if isinstance(entry, pikepdf.Array) else [entry]
    return [kid for kid in every if isinstance(kid, pikepdf.Dictionary)]


def content_ids(element: pikepdf.Object) -> list[tuple[Id, int]]:
    """Page and marked content id of what an element holds itself."""
    held: Any = element.get("/K", pikepdf.Array())
    references = []
    for kid in list(held) if isinstance(held, pikepdf.Array) else [held]:
        if isinstance(kid, int):
            references.append((id_of(element.Pg), kid))
        elif isinstance(kid, pikepdf.Dictionary) and kid.get("/Type") == "/MCR":
            references.append((id_of(kid.get("/Pg", element.get("/Pg"))), int(kid.MCID)))
    return references


def id_of(pdf_object: Any) -> Id:
    """Number and generation of an object."""
    number, generation = pdf_object.objgen
    return int(number), int(generation)


def lines_of(pdf: bytes) -> list[Line]:
    """Each line of text: where it begins, and its glyphs with what moves the pen after each, as
    whole numbers.
    """
    lines: list[Line] = []
    with opened(pdf) as document:
        for operator, operands in operators(document.pages[0]):
            if operator == "Tm":
                lines.append((float(operands[4]), float(operands[5]), ()))
            elif operator == "TJ":
                x, y, glyphs = lines[-1]
                lines[-1] = (x, y, glyphs + tuple(moves(operands[0])))
    return lines


def moves(parts: Any) -> Iterator[tuple[int, int]]:
    """Glyphs, and -1 where the pen moves; WeasyPrint writes moves of nothing too."""
    for part in parts:
        if isinstance(part, pikepdf.String):
            codes = bytes(part)
            yield from (
                (int.from_bytes(codes[at : at + 2], "big"), 0) for at in range(0, len(codes), 2)
            )
        elif round(float(part)):
            yield -1, round(1000 * float(part))


def metadata_text(document: pikepdf.Pdf, name: str) -> str:
    """Return what the metadata (XMP) has under a name."""
    xmp = ET.fromstring(document.Root.Metadata.read_bytes())  # noqa: S314 - our own writer's
    element = xmp.find(f".//{name}", NAMESPACES)
    return "" if element is None else "".join(element.itertext()).strip()
