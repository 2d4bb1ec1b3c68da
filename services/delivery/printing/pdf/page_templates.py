"""The objects of a plate's page as templates, which are made once and filled for each page."""

from __future__ import annotations

from services.delivery.printing.fast import Template, object_template
from services.delivery.printing.pdf.metadata import pdf_string
from services.delivery.printing.plates import Placeholder, Plate


def templates_of(plate: Plate, language: str) -> list[Template]:
    positions = placeholder_positions(plate)
    templates = [object_template(plate_object, positions) for plate_object in plate.page]
    if plate.language != language:  # the document's; screen readers take the page's own
        for at in plate.roots:
            template, select = templates[at]
            templates[at] = (
                template.replace(b"<<", b"<</Lang %b" % pdf_string(plate.language), 1),
                select,
            )
    return templates


def placeholder_positions(plate: Plate) -> dict[Placeholder, int]:
    """Return where each placeholder's number is in the list that add_pages makes for a page."""
    placeholders: list[Placeholder] = [("page", at) for at in range(len(plate.page))]
    placeholders += [("shared", at) for at in range(len(plate.shared))]
    placeholders += [
        ("pages", 0),
        ("document", 0),
        ("content", 0),
        ("struct", 0),
        *annotation_placeholders(plate),
    ]
    placeholders += [("link", at) for at in range(len(plate.links))]
    return {placeholder: at for at, placeholder in enumerate(placeholders)}


def annotation_placeholders(plate: Plate) -> list[Placeholder]:
    """Return the placeholders in the order of `plate.annotated`."""
    return [
        next(name for name in plate.page[at].placeholders if name[0] == "annotation")
        for at, _ in plate.annotated
    ]
