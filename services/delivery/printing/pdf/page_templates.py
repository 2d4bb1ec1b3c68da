"""The objects of a plate's page as templates, which are made once and filled for each page."""

from __future__ import annotations

from services.delivery.printing.fast import Template, object_template
from services.delivery.printing.pdf.metadata import pdf_string
from services.delivery.printing.plates import Hole, Plate


def templates_of(plate: Plate, language: str) -> list[Template]:
    names = hole_names(plate)
    templates = [object_template(piece, names) for piece in plate.page]
    if plate.language != language:  # the document's; screen readers take the page's own
        for at in plate.roots:
            template, select = templates[at]
            templates[at] = (
                template.replace(b"<<", b"<</Lang %b" % pdf_string(plate.language), 1),
                select,
            )
    return templates


def hole_names(plate: Plate) -> dict[Hole, int]:
    """Return the place of each hole's number in the list that add_pages makes for a page."""
    names: list[Hole] = [("page", at) for at in range(len(plate.page))]
    names += [("shared", at) for at in range(len(plate.shared))]
    names += [
        ("pages", 0),
        ("document", 0),
        ("content", 0),
        ("struct", 0),
        *annotation_holes(plate),
    ]
    names += [("link", at) for at in range(len(plate.links))]
    return {hole: at for at, hole in enumerate(names)}


def annotation_holes(plate: Plate) -> list[Hole]:
    """Return the holes in the order of `plate.annotated`."""
    return [
        next(hole for hole in plate.page[at].holes if hole[0] == "annotation")
        for at, _ in plate.annotated
    ]
