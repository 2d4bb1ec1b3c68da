"""A page's objects as templates, and what selects their numbers: a plate's are made once, and
filled for each page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

from services.delivery.printing.pdf.metadata import pdf_string
from services.delivery.printing.plates import Hole, Plate, PlatePiece

Form = tuple[bytes, Callable[[Sequence[int]], tuple[int, ...]]]


def forms_of(plate: Plate, language: str) -> list[Form]:
    names = hole_names(plate)
    forms = [form(piece, names) for piece in plate.page]
    if plate.language != language:  # the document's; screen readers take the page's own
        for at in plate.roots:
            template, select = forms[at]
            forms[at] = (
                template.replace(b"<<", b"<</Lang %b" % pdf_string(plate.language), 1),
                select,
            )
    return forms


def hole_names(plate: Plate) -> dict[Hole, int]:
    """Return where the number of each hole stands in the list that add_pages makes for a page."""
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


def form(piece: PlatePiece, names: Mapping[Hole, int]) -> Form:
    """Return an object as a template, and what selects its numbers: a document of a hundred pages
    has thousands of them.
    """
    template = b"%d".join(part.replace(b"%", b"%%") for part in piece.texts)
    places = [names[hole] for hole in piece.holes]
    if len(places) > 1:
        return template, itemgetter(*places)
    return template, lambda numbers: tuple(numbers[at] for at in places)


def annotation_holes(plate: Plate) -> list[Hole]:
    """Return the holes in the order of `plate.annotated`."""
    return [
        next(hole for hole in plate.page[at].holes if hole[0] == "annotation")
        for at, _ in plate.annotated
    ]
