"""Assembles a plate from a drawn page: sorts its objects by owner (all pages, each page, the
document) and leaves holes for their references.
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

PREFIX_OBJECT = -1  # stands for WeasyPrint's number of an object that WeasyPrint did not make


@dataclass(frozen=True, slots=True)
class OwnAction:
    """Replaces the action of an annotation, because each page has its own."""

    index: int  # of the template's links


class UnreachedError(LookupError):
    """The structure names an object that the page does not lead to, drawn outside of it."""


class ObjectHoles(dict[int, Hole]):
    """WeasyPrint's number of an object -> the hole that replaces references to it."""

    def __missing__(self, number: int) -> Hole:
        raise UnreachedError(number)


@dataclass(frozen=True, slots=True)
class ObjectOwners:
    """WeasyPrint's object numbers: those of each page, the page itself first, and shared ones."""

    page: Sequence[int]
    shared: Sequence[int]
    roots: Sequence[int]  # those of `page` whose parent is the structure's document element


def assemble(
    template: PageTemplate,
    page: DrawnPage,
    slots: Mapping[tuple[int, int], str],
    spots: Mapping[str, FieldSpot],
    kits: Mapping[str, FaceKit],
) -> Plate:
    """Return the plate, without its digest and what is known of the code."""
    resources = number_of(page.page["Resources"])
    fixed, shown = recast(content(page.operators, slots), kits, page.fonts)
    keep_used_fonts(page, resources, fixed)
    owners = owners_of(page, resources)
    holes = holes_of(page, owners)
    marks, annotated = structure_of(page, holes)
    fonts = number_of(page.objects[resources]["Font"])
    first = fixed[0] if isinstance(fixed[0], bytes) else b""  # the page's own matrix at least
    shared = (
        piece(page.objects[number], holes, fonts_at=number == fonts) for number in owners.shared
    )
    width, height = page.page["MediaBox"][2:]
    common = {(kit.digest, glyph) for kit in kits.values() for glyph in kit.common}
    return Plate(
        digest="",
        title=template.title,
        language=template.variant.language,
        media=(float(width), float(height)),
        shared=(*shared, prefix(first)),
        resources=owners.shared.index(resources),
        page=tuple(piece(page.objects[number], holes) for number in owners.page),
        roots=tuple(owners.page.index(number) for number in owners.roots),
        marks=marks,
        annotated=annotated,
        content=fixed[1:],
        rare=tuple(sorted(shown - common)),
        spots=spots,
        square=0.0,
        faces=tuple(sorted({spot.face for spot in spots.values()} | {face for face, _ in shown})),
        modules=0,
        links=tuple(link.address for link in template.links),
    )


def owners_of(page: DrawnPage, resources: int) -> ObjectOwners:
    roots = [number_of(reference) for reference in page.root["K"]]
    annotations = map(number_of, page.page.get("Annots", []))
    itself = page.number_of_object(page.page)
    own = [itself, *reachable(page, [*roots, *annotations], {itself})]
    return ObjectOwners(own, list(reachable(page, [resources], set(own))), roots)


def replace_links(page: DrawnPage, links: Sequence[Link]) -> None:
    """Replace the actions that differ from ticket to ticket: each page gets its own."""
    actions_by_address = {
        STAND_IN.format(index): (OwnAction(index), link) for index, link in enumerate(links)
    }
    for annotation, address in actions(page):
        if address in actions_by_address:
            annotation["A"], link = actions_by_address[address]
            annotation["Contents"] = pydyf.String(link.description)


def actions(page: DrawnPage) -> Iterator[tuple[Any, str]]:
    for annotation in page.objects.values():
        if (
            isinstance(annotation, pydyf.Dictionary)
            and annotation.get("Subtype") == "/Link"
            and "A" in annotation
        ):
            yield annotation, annotation["A"]["URI"].string


def holes_of(page: DrawnPage, owners: ObjectOwners) -> ObjectHoles:
    """Return the hole of each object. The number after the shared objects is that of the object
    with what is drawn before all fields.
    """
    holes = ObjectHoles({number: ("shared", index) for index, number in enumerate(owners.shared)})
    holes |= {number: ("page", index) for index, number in enumerate(owners.page)}
    holes |= {
        page.number_of_object(page.root): ("document", 0),
        number_of(page.page["Parent"]): ("pages", 0),
        number_of(page.page["Contents"]): ("content", 0),
        PREFIX_OBJECT: ("shared", len(owners.shared)),
    }
    return holes


def prefix(operators: bytes) -> PlatePiece:
    """Return what is drawn before the first field: one object for all pages, which holds most of a
    page's decoration and is compressed once.
    """
    packed = zlib.compress(operators, 9)
    return PlatePiece((b"<</Filter/FlateDecode/Length %d>>" % len(packed),), stream=packed)


def structure_of(
    page: DrawnPage, holes: ObjectHoles
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Return the element of each marked content, and the annotations with their elements.
    WeasyPrint lists the annotations after all marked contents.
    """
    nums = page.tree["Nums"]
    marks = tuple(holes[number_of(reference)][1] for reference in nums[1])
    annotations = {
        element["StructParent"]: holes[number][1]
        for number, element in page.objects.items()
        if isinstance(element, dict) and "StructParent" in element and number in holes
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
    """Return the operators with the slots' names between them."""
    parts: list[bytes | str] = []
    at = 0
    for (begin, end), name in sorted(slots.items()):
        parts += (b"\n".join([*operators[at:begin], b""]), name)
        at = end
    return (*parts, b"\n".join([b"", *operators[at:]]))


def piece(value: Any, holes: ObjectHoles, *, fonts_at: bool = False) -> PlatePiece:
    """Return an object as a piece. `fonts_at`: the page's font dictionary, to which a document adds
    the fonts of its stamps.
    """
    if isinstance(value, pydyf.Stream):
        value.compress = "Filter" not in value.extra  # pictures are compressed already
        packed = value.data
        start = packed.index(b"stream\n") + len(b"stream\n")
        body = packed[start : packed.rindex(b"\nendstream")]
        extra = {
            key: inner for key, inner in value.extra.items() if key not in {"Length", "Filter"}
        }
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
    """Yield a value as pydyf writes it, with holes for references and for numbers that depend on
    the document.
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
