"""A plate's parts, by whose they are: of all pages, of each page, of the document. References
become holes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydyf

from services.delivery.printing.compile.drawing import (
    REFERENCE,
    DrawnPage,
    as_bytes,
    number_of,
    reachable,
)
from services.delivery.printing.compile.layout import PageTemplate
from services.delivery.printing.compile.recast import keep_used_fonts, recast
from services.delivery.printing.design.links import STAND_IN, Link
from services.delivery.printing.fonts.faces import FaceKit
from services.delivery.printing.plates import FieldSpot, Hole, Plate, PlatePiece, join_pieces

PREFIX_OBJECT = -1  # where objects are known by WeasyPrint's number: one that it did not make


@dataclass(frozen=True, slots=True)
class OwnAction:
    """In an annotation, instead of its action: each page has its own."""

    index: int  # of the sheet's links


class UnreachedError(LookupError):
    """The structure names an object that the page does not lead to: something is drawn beside
    it.
    """


class ObjectHoles(dict[int, Hole]):
    """WeasyPrint's number of an object -> what stands in its place."""

    def __missing__(self, number: int) -> Hole:
        raise UnreachedError(number)


def assemble(
    sheet: PageTemplate,
    page: DrawnPage,
    slots: Mapping[tuple[int, int], str],
    spots: Mapping[str, FieldSpot],
    kits: Mapping[str, FaceKit],
) -> Plate:
    """The parts by whose they are: of all pages, of each page, of the document. Without the code's
    measures and its digest.
    """
    resources = number_of(page.page["Resources"])
    fixed, own_glyphs = recast(content(page.operators, slots), kits, page.fonts)
    keep_used_fonts(page, resources, fixed)
    roots = [number_of(reference) for reference in page.root["K"]]
    page_number = page.number_of_object(page.page)
    own = [
        page_number,
        *reachable(page, [*roots, *map(number_of, page.page.get("Annots", []))], {page_number}),
    ]
    shared = list(reachable(page, [resources], set(own)))
    holes = holes_of(page, own, shared)
    marks, annotated = structure_of(page, holes)
    fonts = number_of(page.objects[resources]["Font"])
    first = (
        fixed[0] if isinstance(fixed[0], bytes) else b""
    )  # never empty: the page's own matrix comes before all
    width, height = page.page["MediaBox"][2:]
    common = {kit.digest: kit.common for kit in kits.values()}
    return Plate(
        digest="",
        title=sheet.title,
        language=sheet.chosen.language,
        media=(float(width), float(height)),
        shared=(
            *(piece(page.objects[number], holes, fonts_at=number == fonts) for number in shared),
            prefix(first),
        ),
        resources=shared.index(resources),
        page=tuple(piece(page.objects[number], holes) for number in own),
        roots=tuple(own.index(number) for number in roots),
        marks=marks,
        annotated=annotated,
        content=fixed[1:],
        rare=tuple(
            sorted((face, glyph) for face, glyph in own_glyphs if glyph not in common[face])
        ),
        spots=spots,
        square=0.0,
        faces=tuple(sorted({it.face for it in spots.values()} | {face for face, _ in own_glyphs})),
        modules=0,
        links=tuple(link.address for link in sheet.links),
    )


def replace_links(page: DrawnPage, links: Sequence[Link]) -> None:
    """Actions that differ from ticket to ticket out of what was drawn: each page gets its own."""
    known = {STAND_IN.format(index): (OwnAction(index), link) for index, link in enumerate(links)}
    for annotation, address in actions(page):
        if address in known:
            annotation["A"], link = known[address]
            annotation["Contents"] = pydyf.String(link.said)


def actions(page: DrawnPage) -> Iterator[tuple[Any, str]]:
    for it in page.objects.values():
        if isinstance(it, pydyf.Dictionary) and it.get("Subtype") == "/Link" and "A" in it:
            yield it, it["A"]["URI"].string


def holes_of(page: DrawnPage, own: Sequence[int], shared: Sequence[int]) -> ObjectHoles:
    """Behind the shared ones: what is drawn before all fields."""
    holes = ObjectHoles({number: ("shared", index) for index, number in enumerate(shared)})
    holes |= {number: ("page", index) for index, number in enumerate(own)}
    holes |= {
        page.number_of_object(page.root): ("document", 0),
        number_of(page.page["Parent"]): ("pages", 0),
        number_of(page.page["Contents"]): ("content", 0),
        PREFIX_OBJECT: ("shared", len(shared)),
    }
    return holes


def prefix(operators: bytes) -> PlatePiece:
    """What is drawn before the first field is one object for all pages: most of a page's
    decoration, packed once.
    """
    packed = zlib.compress(operators, 9)
    return PlatePiece((b"<</Filter/FlateDecode/Length %d>>" % len(packed),), stream=packed)


def structure_of(
    page: DrawnPage, holes: ObjectHoles
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Which element each marked content belongs to; behind it WeasyPrint lists annotations with
    theirs.
    """
    nums = page.tree["Nums"]
    marks = tuple(holes[number_of(reference)][1] for reference in nums[1])
    annotations = {
        it["StructParent"]: holes[number][1]
        for number, it in page.objects.items()
        if isinstance(it, dict) and "StructParent" in it and number in holes
    }
    pairs = zip(nums[2::2], nums[3::2], strict=True)
    return marks, tuple(
        (annotations[key], holes[number_of(reference)][1])
        for key, reference in pairs
        if key in annotations
    )


def content(
    operators: Sequence[bytes], slots: Mapping[tuple[int, int], str]
) -> tuple[bytes | str, ...]:
    parts: list[bytes | str] = []
    at = 0
    for (begin, end), name in sorted(slots.items()):
        parts += (b"\n".join([*operators[at:begin], b""]), name)
        at = end
    return (*parts, b"\n".join([b"", *operators[at:]]))


def piece(value: Any, holes: ObjectHoles, *, fonts_at: bool = False) -> PlatePiece:
    """`fonts_at`: the page's fonts, behind which a document puts those of its stamps."""
    if isinstance(value, pydyf.Stream):
        value.compress = "Filter" not in value.extra  # pictures come packed
        packed = value.data
        start = packed.index(b"stream\n") + len(b"stream\n")
        body = packed[start : packed.rindex(b"\nendstream")]
        extra = {key: it for key, it in value.extra.items() if key not in {"Length", "Filter"}}
        head = pydyf.Dictionary({**extra, "Length": len(body), **filter_of(packed[:start])})
        return PlatePiece(*join_pieces(serialized(head, holes)), stream=body)
    parts = [*serialized(value, holes)]
    if fonts_at:
        parts[-1:] = [("fonts", 0), b">>"]  # a dictionary's last part is its end
    return PlatePiece(*join_pieces(parts))


def filter_of(head: bytes) -> dict[str, bytes]:
    match = re.search(rb"/Filter (/\w+|\[[^\]]*\])", head)
    return {} if match is None else {"Filter": match[1]}


def serialized(value: Any, holes: ObjectHoles) -> Iterator[bytes | Hole]:
    """As pydyf writes it, with holes for references. What only a document knows is left out or a
    hole.
    """
    if isinstance(value, dict):
        yield b"<<"
        for key, inner in value.items():
            yield b"/%s " % str(key).encode()
            if key in {"StructParents", "StructParent"}:
                yield ("struct", 0) if key == "StructParents" else ("annotation", int(inner))
            elif key == "Contents" and PREFIX_OBJECT in holes and isinstance(inner, bytes):
                yield from (b"[", holes[PREFIX_OBJECT], b" 0 R ", ("content", 0), b" 0 R]")
            else:
                yield from serialized(inner, holes)
        yield b">>"
    elif isinstance(value, OwnAction):
        yield ("link", value.index)
        yield b" 0 R"
    elif isinstance(value, (list, tuple)):
        yield b"["
        for index, inner in enumerate(value):
            if index:
                yield b" "
            yield from serialized(inner, holes)
        yield b"]"
    elif isinstance(value, bytes) and (match := REFERENCE.fullmatch(value)):
        number = int(match[1])
        yield holes[number]
        yield b" 0 R"
    else:
        yield as_bytes(value) if not isinstance(value, float) else pydyf._to_bytes(value)  # noqa: SLF001 - its way to write numbers
