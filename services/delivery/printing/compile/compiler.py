"""From a design to a plate: WeasyPrint lays the page out, we keep what it draws, and cut out what
differs from ticket to ticket.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import pydyf

from services.delivery.printing.compile.assembling import UnreachedError, assemble, replace_links
from services.delivery.printing.compile.drawing import DrawnPage, draw_page
from services.delivery.printing.compile.layout import (
    LaidOutPage,
    PageFont,
    PageTemplate,
    missing_characters,
)
from services.delivery.printing.compile.places import FieldPlacement
from services.delivery.printing.compile.recast import FONT
from services.delivery.printing.design.fitting import FittedText
from services.delivery.printing.design.library import CODE, PAGE
from services.delivery.printing.design.page import source_line
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.fonts import fallback
from services.delivery.printing.fonts.faces import FaceKit
from services.delivery.printing.plates import FieldSpot, Plate, to_bytes

GENERIC = frozenset(
    {"serif", "sans-serif", "monospace", "cursive", "fantasy", "system-ui", "emoji", "math"}
)  # CSS Fonts 4
PLACEHOLDER = "Ma"
LOCALISED_FORMS = frozenset(
    {"locl"}
)  # shapes that a language has of its own, such as the Turkish i
CODE_OPERATORS_MAX = 40  # from its matrix to its outline
KitOf = Callable[[PageFont, str, frozenset[str]], FaceKit]


def compile_plate(sheet: PageTemplate, kit_of: KitOf, *, modules: int) -> Plate:
    """Lays the page out twice, with short texts and with long ones: what is not a field must stand
    where it stood.
    """
    square = blank_square(modules)
    short = sheet.lay({name: unfitted(PLACEHOLDER) for name in sheet.fields}, square)
    sheet.check_found(short)
    long = sheet.lay(
        {
            name: unfitted(*["Wide and high"] * max(2, said.rule.lines))
            for name, said in sheet.fields.items()
        },
        square,
    )
    check_static(sheet, short, long)
    return plate_of_page(sheet, short, kit_of, modules=modules)


def plate_of_page(
    sheet: PageTemplate,
    laid_out: LaidOutPage,
    kit_of: KitOf,
    *,
    modules: int,
    fixed: Collection[str] = (),
    is_code_fixed: bool = False,
) -> Plate:
    """What was drawn, as a plate. Texts of `fixed` stay in it, and so does the code if it is."""
    design = sheet.chosen.design
    with sheet.minded(is_strict=laid_out.is_ours) as heard:
        page = draw_page(laid_out)
    replace_links(page, sheet.links)
    if laid_out.square is None:
        raise DesignUnusable(
            f'{design.name}/{PAGE}: has no code: add an element with data-qr="{CODE}"'
        )
    slots = {cut: name for name, cut in field_slots(sheet, laid_out, page, fixed)}
    if not is_code_fixed:
        slots[code_slot(sheet, laid_out, page, modules)] = CODE
    used = {name: field_font(sheet, name, cut, page) for cut, name in slots.items() if name != CODE}
    if laid_out.is_ours:
        check_families(sheet, laid_out, page)
    tags = LOCALISED_FORMS | {
        tag for place in laid_out.places.values() for tag, value in place.features if value
    }
    # Not of a fallback font, unless a field asks for it by name: what it has is seldom on a ticket,
    # and then set whole.
    kits = {
        key: kit_of(font, design.manifest.characters, tags)
        for key, font in page.fonts.items()
        if not font.is_variable and (key in used.values() or not fallback.is_fallback(font.family))
    }
    spots = {
        name: make_spot(sheet, name, laid_out.places[name], kits[key]) for name, key in used.items()
    }
    lacked = "".join(sorted({*laid_out.lacking, *missing_characters(heard)}))
    try:
        plate = assemble(sheet, page, slots, spots, kits)
    except UnreachedError:
        raise DesignUnusable(
            f"{design.name}: draws outside of its page, such as in a margin box of @page: put it "
            f"into {PAGE}"
        ) from None
    plate = replace(plate, square=laid_out.square[2], modules=modules, lacking=lacked)
    return replace(plate, digest=hashlib.sha256(to_bytes(plate)).hexdigest())


def blank_square(modules: int) -> tuple[str, int]:
    """In the code's place: one square of so many modules (SVG path, modules a side)."""
    return f"M0 0h{modules}v{modules}h-{modules}z", modules


def unfitted(*lines: str) -> FittedText:
    return FittedText(lines, 1.0, 0.0, 0.0)


def check_static(sheet: PageTemplate, short: LaidOutPage, long: LaidOutPage) -> None:
    where = f"{sheet.chosen.design.name}/{PAGE}"
    for name, place in short.places.items():
        other = long.places[name]
        if (
            abs(place.box.height - other.box.height) > 0.01
            or abs(place.box.width - other.box.width) > 0.01
        ):
            raise DesignUnusable(
                f"{sheet.chosen.design.name}/{sheet.fields[name].at}: field `{name}` grows with "
                f"its text (from {place.box.width:.0f} x {place.box.height:.0f} to "
                f"{other.box.width:.0f} x {other.box.height:.0f} px): give it width and height in "
                "CSS"
            )
    if short.shape != long.shape:
        raise DesignUnusable(
            f"{where}: the page moves with the texts of its fields: place them absolutely, or "
            "give their parents a height"
        )


def field_slots(
    sheet: PageTemplate, laid_out: LaidOutPage, page: DrawnPage, fixed: Collection[str]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """From `BT` to `ET` of each field's placeholder, found by where its text begins."""
    for name, (x, y) in laid_out.text_at.items():
        if name in fixed:
            continue
        where = f"{sheet.chosen.design.name}/{sheet.fields[name].at}: field `{name}`"
        matrix = pydyf.Stream()
        matrix.set_text_matrix(1, 0, 0, -1, x, y)
        found = [
            index for index, operator in enumerate(page.operators) if operator == matrix.stream[0]
        ]
        if len(found) != 1:
            raise DesignUnusable(
                (
                    f"{where} is drawn {len(found)} times on the page itself: leave out opacity, "
                    "visibility, filters, masks and blend modes around it"
                )
                if not found
                else f"{where} stands at the same place as another text"
            )
        begin = max(index for index in range(found[0]) if page.operators[index] == b"BT")
        end = next(
            index
            for index in range(found[0], len(page.operators))
            if page.operators[index] == b"ET"
        )
        yield name, (begin, end + 1)


def code_slot(
    sheet: PageTemplate, laid_out: LaidOutPage, page: DrawnPage, modules: int
) -> tuple[int, int]:
    """The placeholder's outline behind the matrix that puts the code into its place; the matrix
    stays.
    """
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
    found = next((at for at in edges if page.operators[at] == edge), None)
    if found is None:
        at = source_line(sheet.chosen.design, "data-qr")
        raise DesignUnusable(
            f"{sheet.chosen.design.name}/{at}: the code is not drawn on the page itself: leave "
            "out opacity, visibility, filters "
            "and transforms around it"
        )
    begin = max(at for at in range(found) if page.operators[at] == b"0 0 m")
    while page.operators[begin - 1] == b"0 0 m":
        begin -= 1
    end = next(at for at in range(found, len(page.operators)) if page.operators[at] == b"f")
    return begin, end


def field_font(sheet: PageTemplate, name: str, cut: tuple[int, int], page: DrawnPage) -> str:
    where = f"{sheet.chosen.design.name}/{sheet.fields[name].at}: field `{name}`"
    keys = {
        match[1].decode()
        for operator in page.operators[slice(*cut)]
        if (match := FONT.fullmatch(operator))
    }
    if len(keys) != 1:
        raise DesignUnusable(
            f"{where} is set in {len(keys)} fonts; its font has to have the letters {PLACEHOLDER!r}"
        )
    key = keys.pop()
    if page.fonts[key].is_variable:
        raise DesignUnusable(
            f"{where}: `{page.fonts[key].family}` is a variable font; use one of its static files"
        )
    return key


def check_families(sheet: PageTemplate, laid_out: LaidOutPage, page: DrawnPage) -> None:
    """A font that is not there is replaced without a word, by another one on each machine."""
    found = {
        family.casefold()
        for family in (*sheet.declared, *(font.family for font in page.fonts.values()))
    }
    for family in sorted(laid_out.families):
        if family.casefold() in GENERIC:
            raise DesignUnusable(
                f"{sheet.chosen.design.name}/{source_line(sheet.chosen.design, family)}: a text asks "
                f"for `{family}` first, which is another font on each machine: name one of "
                "the folder's by @font-face, with `font-family` on html"
            )
        if family.casefold() not in found:
            raise DesignUnusable(
                f"{sheet.chosen.design.name}/{source_line(sheet.chosen.design, family)}: font-family "
                f"`{family[:80]}` is not there: declare it with @font-face, its file in the "
                "design's folder"
            )


def make_spot(sheet: PageTemplate, name: str, place: FieldPlacement, kit: FaceKit) -> FieldSpot:
    return FieldSpot(
        name=name,
        field=sheet.fields[name].name,
        rule=sheet.fields[name].rule,
        x=place.x,
        y=place.y,
        box=place.box,
        baseline=place.baseline,
        height=place.height,
        align=place.align,
        letter=place.letter,
        upper=place.upper,
        features=place.features,
        face=kit.digest,
    )
