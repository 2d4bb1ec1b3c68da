"""Compiles a design to a plate: WeasyPrint lays the page out, and its drawing is kept in parts,
between which a ticket's own texts and code are stamped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import pydyf

from services.delivery.printing.compile.assembling import (
    UnknownObjectError,
    assemble,
    replace_links,
)
from services.delivery.printing.compile.drawing import DrawnPage, draw_page
from services.delivery.printing.compile.field_fonts import FONT
from services.delivery.printing.compile.layout import (
    LaidOutPage,
    PageFont,
    PageTemplate,
    missing_characters,
)
from services.delivery.printing.compile.placement import FieldPlacement
from services.delivery.printing.design.fitting import FittedText
from services.delivery.printing.design.library import CODE, PAGE
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.fonts import fallback
from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.plates import Plate, PlateField, to_bytes

# The generic families of CSS Fonts 4.
GENERIC = frozenset(
    {"serif", "sans-serif", "monospace", "cursive", "fantasy", "system-ui", "emoji", "math"}
)
SAMPLE_TEXT = "Ma"
LOCALISED_FORMS = frozenset({"locl"})  # a language's own shapes, such as the Turkish i
CODE_OPERATORS_MAX = 40  # from its matrix to its outline
SubsetOf = Callable[[PageFont, str, frozenset[str]], FontSubset]


def compile_plate(template: PageTemplate, subset_of: SubsetOf, *, modules: int) -> Plate:
    """Lay the page out twice, with short texts and with long ones, and return the plate. Raises
    DesignUnusable if anything but a field's text differs between the two.
    """
    square = blank_square(modules)
    short = template.lay_out({name: unfitted(SAMPLE_TEXT) for name in template.fields}, square)
    template.check_complete(short)
    long = template.lay_out(
        {
            name: unfitted(*["Wide and high"] * max(2, spec.rule.lines))
            for name, spec in template.fields.items()
        },
        square,
    )
    check_static(template, short, long)
    return plate_of_page(template, short, subset_of, modules=modules)


def plate_of_page(
    template: PageTemplate,
    laid_out: LaidOutPage,
    subset_of: SubsetOf,
    *,
    modules: int,
    fixed: Collection[str] = (),
    is_code_fixed: bool = False,
) -> Plate:
    """Return the drawn page as a plate. The texts of the fields in `fixed` become part of it, and
    so does the code if `is_code_fixed`.
    """
    name = template.variant.design.name
    with template.collected_log(is_strict=laid_out.is_stampable) as log:
        page = draw_page(laid_out)
    replace_links(page, template.links)
    if laid_out.square is None:
        raise DesignUnusable(f'{name}/{PAGE}: has no code: add an element with data-qr="{CODE}"')
    slots = {slot: field for field, slot in field_slots(template, laid_out, page, fixed)}
    fields = dict(slots)
    if not is_code_fixed:
        slots[code_slot(template, laid_out, page, modules)] = CODE
    fonts = {field: field_font(template, field, slot, page) for slot, field in fields.items()}
    if laid_out.is_stampable:
        check_families(template, laid_out, page)
    subsets = subsets_of(template, laid_out, page, subset_of, set(fonts.values()))
    plate_fields = {
        field: plate_field_of(template, field, laid_out.placements[field], subsets[key])
        for field, key in fonts.items()
    }
    missing = "".join(sorted({*laid_out.missing, *missing_characters(log)}))
    try:
        plate = assemble(template, page, slots, plate_fields, subsets)
    except UnknownObjectError:
        raise DesignUnusable(
            f"{name}: draws outside of its page, such as in a margin box of @page: put it "
            f"into {PAGE}"
        ) from None
    plate = replace(plate, square=laid_out.square[2], modules=modules, missing=missing)
    return replace(plate, digest=hashlib.sha256(to_bytes(plate)).hexdigest())


def subsets_of(
    template: PageTemplate,
    laid_out: LaidOutPage,
    page: DrawnPage,
    subset_of: SubsetOf,
    field_fonts: Collection[str],
) -> dict[str, FontSubset]:
    """Return a subset for each font of the page. A fallback font has none unless a field names it:
    its characters are rare on tickets, and texts with them are laid out.
    """
    characters = template.variant.design.manifest.characters
    tags = LOCALISED_FORMS | {
        tag
        for placement in laid_out.placements.values()
        for tag, value in placement.features
        if value
    }
    return {
        key: subset_of(font, characters, tags)
        for key, font in page.fonts.items()
        if not font.is_variable and (key in field_fonts or not fallback.is_fallback(font.family))
    }


def blank_square(modules: int) -> tuple[str, int]:
    """Return what stands in for the code: a full square of so many modules a side, as an SVG path
    and its side.
    """
    return f"M0 0h{modules}v{modules}h-{modules}z", modules


def unfitted(*lines: str) -> FittedText:
    return FittedText(lines, 1.0, 0.0, 0.0)


def check_static(template: PageTemplate, short: LaidOutPage, long: LaidOutPage) -> None:
    """Raise DesignUnusable if a field's box, or what is outside of fields, moves with the texts."""
    where = f"{template.variant.design.name}/{PAGE}"
    for name, placement in short.placements.items():
        other = long.placements[name]
        if (
            abs(placement.box.height - other.box.height) > 0.01
            or abs(placement.box.width - other.box.width) > 0.01
        ):
            raise DesignUnusable(
                f"{template.field_at(name)} grows with its text (from {placement.box.width:.0f} x "
                f"{placement.box.height:.0f} to {other.box.width:.0f} x {other.box.height:.0f} "
                "px): give it width and height in CSS"
            )
    if short.shape != long.shape:
        raise DesignUnusable(
            f"{where}: the page moves with the texts of its fields: place them absolutely, or "
            "give their parents a height"
        )


def field_slots(
    template: PageTemplate, laid_out: LaidOutPage, page: DrawnPage, fixed: Collection[str]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each field with the operators of its sample text, from `BT` to `ET`, which are
    recognised by where the text begins.
    """
    for name, (x, y) in laid_out.text_at.items():
        if name in fixed:
            continue
        where = template.field_at(name)
        matrix = pydyf.Stream()
        matrix.set_text_matrix(1, 0, 0, -1, x, y)
        starts = [
            index for index, operator in enumerate(page.operators) if operator == matrix.stream[0]
        ]
        if len(starts) != 1:
            raise DesignUnusable(
                (
                    f"{where} is drawn {len(starts)} times on the page itself: leave out opacity, "
                    "visibility, filters, masks and blend modes around it"
                )
                if not starts
                else f"{where} is at the same position as another text"
            )
        begin = max(index for index in range(starts[0]) if page.operators[index] == b"BT")
        end = next(
            index
            for index in range(starts[0], len(page.operators))
            if page.operators[index] == b"ET"
        )
        yield name, (begin, end + 1)


def code_slot(
    template: PageTemplate, laid_out: LaidOutPage, page: DrawnPage, modules: int
) -> tuple[int, int]:
    """Return the operators of the blank square's outline, without the code's matrix before them."""
    x, y, _ = laid_out.square or (0.0, 0.0, 0.0)
    matrix = pydyf.Stream()
    matrix.set_matrix(1, 0, 0, 1, x, y)
    edge = b"%d %d l" % (modules, modules)
    starts = [at for at, operator in enumerate(page.operators) if operator == matrix.stream[0]]
    edges = (
        at
        for start in starts
        for at in range(start, min(start + CODE_OPERATORS_MAX, len(page.operators)))
    )
    drawn_edge = next((at for at in edges if page.operators[at] == edge), None)
    if drawn_edge is None:
        raise DesignUnusable(
            f"{template.source_at('data-qr')}: the code is not drawn on the page itself: leave out "
            "opacity, visibility, filters and transforms around it"
        )
    begin = max(at for at in range(drawn_edge) if page.operators[at] == b"0 0 m")
    while page.operators[begin - 1] == b"0 0 m":
        begin -= 1
    end = next(at for at in range(drawn_edge, len(page.operators)) if page.operators[at] == b"f")
    return begin, end


def field_font(template: PageTemplate, name: str, cut: tuple[int, int], page: DrawnPage) -> str:
    where = template.field_at(name)
    keys = {
        match[1].decode()
        for operator in page.operators[slice(*cut)]
        if (match := FONT.fullmatch(operator))
    }
    if len(keys) != 1:
        raise DesignUnusable(
            f"{where} is set in {len(keys)} fonts; its font has to have the letters {SAMPLE_TEXT!r}"
        )
    key = keys.pop()
    if page.fonts[key].is_variable:
        raise DesignUnusable(
            f"{where}: `{page.fonts[key].family}` is a variable font; use one of its static files"
        )
    return key


def check_families(template: PageTemplate, laid_out: LaidOutPage, page: DrawnPage) -> None:
    """Raise DesignUnusable for a family that does not exist. It would be replaced silently, by
    another one on each machine.
    """
    known = {
        family.casefold()
        for family in (*template.declared, *(font.family for font in page.fonts.values()))
    }
    for family in sorted(laid_out.families):
        if family.casefold() in GENERIC:
            raise DesignUnusable(
                f"{template.source_at(family)}: a text names `{family}` first, which is another "
                "font on each machine: name one of the folder's by @font-face, with `font-family` "
                "on html"
            )
        if family.casefold() not in known:
            raise DesignUnusable(
                f"{template.source_at(family)}: font-family `{family[:80]}` does not exist: "
                "declare it with @font-face, its file in the design's folder"
            )


def plate_field_of(
    template: PageTemplate, name: str, placement: FieldPlacement, subset: FontSubset
) -> PlateField:
    return PlateField(
        name=name,
        field=template.fields[name].name,
        rule=template.fields[name].rule,
        x=placement.x,
        y=placement.y,
        box=placement.box,
        baseline=placement.baseline,
        height=placement.height,
        align=placement.align,
        letter_spacing=placement.letter_spacing,
        upper=placement.upper,
        features=placement.features,
        face=subset.digest,
    )
