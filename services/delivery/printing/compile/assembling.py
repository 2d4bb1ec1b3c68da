"""Assembles a plate from a drawn page: sorts its objects by owner (all pages, each page, the
document) and leaves placeholders for their numbers.
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
from services.delivery.printing.compile.field_fonts import keep_used_fonts, use_field_fonts
from services.delivery.printing.compile.layout import PageTemplate
from services.delivery.printing.design.links import STAND_IN, Link
from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.plates import (
    Placeholder,
    Plate,
    PlateField,
    PlateObject,
    join_texts,
)

PREFIX_OBJECT = -1  # stands for WeasyPrint's number of an object that WeasyPrint did not make


@dataclass(frozen=True, slots=True)
class PerPageAction:
    """Replaces the action of a link whose address differs from page to page."""

    index: int  # of the template's links


class UnknownObjectError(LookupError):
    """The structure names an object that the page does not lead to, drawn outside of it."""


class ObjectPlaceholders(dict[int, Placeholder]):
    """WeasyPrint's number of an object -> the placeholder that replaces references to it."""

    def __missing__(self, number: int) -> Placeholder:
        raise UnknownObjectError(number)


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
    fields: Mapping[str, PlateField],
    subsets: Mapping[str, FontSubset],
) -> Plate:
    """Return the plate, without its digest and what is known of the code."""
    resources = number_of(page.page["Resources"])
    fixed, shown = use_field_fonts(content(page.operators, slots), subsets, page.fonts)
    keep_used_fonts(page, resources, fixed)
    owners = owners_of(page, resources)
    placeholders = placeholders_of(page, owners)
    marks, annotated = structure_of(page, placeholders)
    fonts = number_of(page.objects[resources]["Font"])
    first = fixed[0] if isinstance(fixed[0], bytes) else b""  # the page's own matrix at least
    objects = page.objects
    shared = (plate_object(objects[at], placeholders, fonts_at=at == fonts) for at in owners.shared)
    width, height = page.page["MediaBox"][2:]
    common = {(subset.digest, glyph) for subset in subsets.values() for glyph in subset.common}
    faces = {face for face, _ in shown}.union(field.face for field in fields.values())
    return Plate(
        digest="",
        title=template.title,
        language=template.variant.language,
        media=(float(width), float(height)),
        shared=(*shared, prefix(first)),
        resources=owners.shared.index(resources),
        page=tuple(plate_object(objects[number], placeholders) for number in owners.page),
        roots=tuple(owners.page.index(number) for number in owners.roots),
        marks=marks,
        annotated=annotated,
        content=fixed[1:],
        rare=tuple(sorted(shown - common)),
        fields=fields,
        square=0.0,
        faces=tuple(sorted(faces)),
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
        STAND_IN.format(index): (PerPageAction(index), link) for index, link in enumerate(links)
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


def placeholders_of(page: DrawnPage, owners: ObjectOwners) -> ObjectPlaceholders:
    """Return the placeholder of each object. The number after the shared objects is that of the
    object with what is drawn before all fields.
    """
    placeholders = ObjectPlaceholders(
        {number: ("shared", index) for index, number in enumerate(owners.shared)}
    )
    placeholders |= {number: ("page", index) for index, number in enumerate(owners.page)}
    placeholders |= {
        page.number_of_object(page.root): ("document", 0),
        number_of(page.page["Parent"]): ("pages", 0),
        number_of(page.page["Contents"]): ("content", 0),
        PREFIX_OBJECT: ("shared", len(owners.shared)),
    }
    return placeholders


def prefix(operators: bytes) -> PlateObject:
    """Return what is drawn before the first field: one object for all pages, which holds most of a
    page's decoration and is compressed once.
    """
    packed = zlib.compress(operators, 9)
    return PlateObject((b"<</Filter/FlateDecode/Length %d>>" % len(packed),), stream=packed)


def structure_of(
    page: DrawnPage, placeholders: ObjectPlaceholders
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Return the element of each marked content, and the annotations with their elements.
    WeasyPrint lists the annotations after all marked contents.
    """
    nums = page.tree["Nums"]
    marks = tuple(placeholders[number_of(reference)][1] for reference in nums[1])
    annotations = {
        element["StructParent"]: placeholders[number][1]
        for number, element in page.objects.items()
        if isinstance(element, dict) and "StructParent" in element and number in placeholders
    }
    pairs = zip(nums[2::2], nums[3::2], strict=True)
    return marks, tuple(
        (annotations[key], placeholders[number_of(reference)][1])
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


def plate_object(
    value: Any, placeholders: ObjectPlaceholders, *, fonts_at: bool = False
) -> PlateObject:
    """Return an object of a drawn page as one of a plate. `fonts_at`: the page's font dictionary,
    to which a document adds the fonts of its stamps.
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
        return PlateObject(*join_texts(serialized(head, placeholders)), stream=body)
    parts = [*serialized(value, placeholders)]
    if fonts_at:
        parts[-1:] = [("fonts", 0), b">>"]  # a dictionary's last part is its end
    return PlateObject(*join_texts(parts))


def filter_of(head: bytes) -> dict[str, bytes]:
    match = re.search(rb"/Filter (/\w+|\[[^\]]*\])", head)
    return {} if match is None else {"Filter": match[1]}


def serialized(value: Any, placeholders: ObjectPlaceholders) -> Iterator[bytes | Placeholder]:
    """Yield a value as pydyf writes it, with placeholders for references and for numbers that
    depend on the document.
    """
    if isinstance(value, dict):
        yield b"<<"
        for key, inner in value.items():
            yield b"/%s " % str(key).encode()
            if key in {"StructParents", "StructParent"}:
                yield ("struct", 0) if key == "StructParents" else ("annotation", int(inner))
            elif key == "Contents" and PREFIX_OBJECT in placeholders and isinstance(inner, bytes):
                yield from (b"[", placeholders[PREFIX_OBJECT], b" 0 R ", ("content", 0), b" 0 R]")
            else:
                yield from serialized(inner, placeholders)
        yield b">>"
    elif isinstance(value, PerPageAction):
        yield ("link", value.index)
        yield b" 0 R"
    elif isinstance(value, (list, tuple)):
        yield b"["
        for index, inner in enumerate(value):
            if index:
                yield b" "
            yield from serialized(inner, placeholders)
        yield b"]"
    elif isinstance(value, bytes) and (match := REFERENCE.fullmatch(value)):
        number = int(match[1])
        yield placeholders[number]
        yield b" 0 R"
    else:
        yield as_bytes(value) if not isinstance(value, float) else pydyf._to_bytes(value)  # noqa: SLF001 - its way to write numbers
