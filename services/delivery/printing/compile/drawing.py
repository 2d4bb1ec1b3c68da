"""A page as WeasyPrint draws it, before it is written: the objects of a PDF, the page's operators
and its fonts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydyf

from services.delivery.printing.compile.layout import LaidOutPage, PageFont, fonts_of
from services.delivery.printing.errors import DesignUnusable

REFERENCE = re.compile(rb"(\d+) 0 R")


@dataclass(frozen=True)
class DrawnPage:
    """WeasyPrint's PDF before it is written: objects by number, the page, its operators."""

    objects: Mapping[int, Any]
    page: Any
    operators: list[bytes]
    fonts: Mapping[str, PageFont]
    root: Any  # of the structure
    tree: Any  # marked content -> structure

    def number_of_object(self, wanted: Any) -> int:
        return next(number for number, item in self.objects.items() if item is wanted)


def draw_page(laid_out: LaidOutPage) -> DrawnPage:
    pages: list[DrawnPage] = []

    def keep(document: Any, pdf: Any) -> None:
        objects = {item.number: item for item in pdf.objects if item.number}
        for item in objects.values():
            if isinstance(item, pydyf.Dictionary) and item.get("Subtype") == "/CIDFontType0":
                # Only a CIDFontType2 has one (ISO 32000-1, table 117).
                item.pop("CIDToGIDMap", None)
        page = objects[number_of(pdf.page_references[0])]
        stream = objects[number_of(page["Contents"])]
        root = objects[number_of(pdf.catalog["StructTreeRoot"])]
        pages.append(
            DrawnPage(
                objects,
                page,
                [as_bytes(operator) for operator in stream.stream],
                fonts_of(document),
                objects[number_of(root["K"][0])],
                objects[number_of(root["ParentTree"])],
            )
        )

    laid_out.document.write_pdf(finisher=keep, pdf_tags=True, pdf_variant="pdf/ua-1")
    return pages[0]


def number_of(reference: bytes) -> int:
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise DesignUnusable(f"WeasyPrint wrote {reference!r} where an object is expected")
    return int(match[1])


def as_bytes(operator: Any) -> bytes:
    return (
        operator.data
        if isinstance(operator, pydyf.Object)
        else operator
        if isinstance(operator, bytes)
        else str(operator).encode()
    )


def reachable(page: DrawnPage, start: Sequence[int], known: set[int]) -> Iterator[int]:
    """Yield these objects and all that they refer to, without their parents."""
    waiting, seen = list(start), set(known)
    while waiting:
        number = waiting.pop(0)
        if number in seen:
            continue
        seen.add(number)
        yield number
        waiting += references(page.objects[number])


def references(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in {"P", "Pg", "Parent", "Dest"}:
                yield from references(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from references(inner)
    elif isinstance(value, pydyf.Stream):
        yield from references(value.extra)
    elif isinstance(value, bytes) and (match := REFERENCE.fullmatch(value)):
        yield int(match[1])
