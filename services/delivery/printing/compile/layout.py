"""A design's page laid out by WeasyPrint: where its fields are, and the page as objects of a PDF.

This module and placement.py know WeasyPrint's boxes; drawing.py, assembling.py and field_fonts.py
know the objects that it writes. The lock file pins its version, and tests cover what is used of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree.ElementTree import Element

from weasyprint import CSS, HTML
from weasyprint.formatting_structure import boxes
from weasyprint.text.fonts import get_hb_object_data

from services.delivery.printing.compile.fetching import (
    FONTS_OF_SCRIPTS,
    DesignFetcher,
    FetchRefusedError,
)
from services.delivery.printing.compile.placement import (
    FieldPlacement,
    code_square,
    field_placement,
    walk,
)
from services.delivery.printing.compile.weasyprint_log import WeasyPrintLog, with_line_first
from services.delivery.printing.design.fitting import FittedText
from services.delivery.printing.design.library import PAGE, DesignVariant
from services.delivery.printing.design.links import BASE, check_targets, links_of
from services.delivery.printing.design.page import (
    CampaignFacts,
    UnstampableText,
    draw_code,
    fields_of,
    rendered_html,
    source_line,
    write_fitted,
    write_unstampable,
)
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.fonts import fallback
from services.delivery.printing.fonts.fontconfig import DesignFonts, untagged

FIELD_STYLE = "[data-field]{white-space:nowrap}"
NO_ALT = re.compile('Image "(.*)" has no required alt description')
NO_IMAGE = re.compile(f"Failed to load image at '{re.escape(BASE)}(.*?)'")
NO_GLYPH = re.compile(
    r'\.notdef glyph rendered for Unicode string unsupported by fonts: ("(.*)" \(U\+[0-9A-F]+\))',
    re.DOTALL,
)
FONTS_REMEDY = (
    f"put a font that has it into the folder, and name it in font-family ({FONTS_OF_SCRIPTS})"
)
QR_ALT = "QR code of the ticket"


@dataclass(frozen=True, slots=True)
class PageFont:
    """A font that the page uses: the complete file, as the shaper and the subsetter need it."""

    content: bytes
    index: int
    family: str
    is_variable: bool
    # Glyph -> text, on this page.
    texts: Mapping[int, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class LaidOutPage:
    """One page: WeasyPrint's document and where its parts are."""

    document: Any
    placements: Mapping[str, FieldPlacement]
    text_at: Mapping[str, tuple[float, float]]  # where a field's sample text begins
    square: tuple[float, float, float] | None  # the code's left, top and side
    shape: tuple[tuple[object, ...], ...]  # every box outside of fields; none may move
    families: frozenset[str]  # the first font family that each of its texts names
    is_stampable: bool  # it holds only the design's own text and what can be stamped
    missing: str = ""  # characters of its texts that no font has, shown as U+FFFD


class PageTemplate:
    """One design for one campaign, parsed once and laid out as often as needed. Not shared between
    threads.
    """

    def __init__(self, variant: DesignVariant, facts: CampaignFacts) -> None:
        self.variant = variant
        self._where = f"{variant.design.name}/{PAGE}"
        self._fonts = DesignFonts()
        self._fetcher = DesignFetcher(variant.design)
        self._fallbacks = set[str]()
        with self.collected_log():
            page = HTML(
                string=rendered_html(variant, facts), base_url=BASE, url_fetcher=self._fetcher
            )
            self._page, self._root = page, page.etree_element
            self._root.set("lang", variant.language)
            self._root.set("class", f"{self._root.get('class', '')} size-{variant.size}".strip())
            self.fields = fields_of(variant, self._root)
            self.links = links_of(variant, self._root)
            self._check_elements()
            self._add_fallbacks("".join(self._root.itertext()))
            self._styles = [
                *self._own_styles(),
                self._css(string=f"@page{{size:{variant.page_size};margin:0}}{FIELD_STYLE}"),
            ]
        self.title = next((element.text or "" for element in self._root.iter("title")), "")
        if not self.title.strip():
            raise DesignUnusable(f"{self._where}: has no <title>; the PDF's title is made of it")

    def _check_elements(self) -> None:
        codes = self._code_elements()
        if len(codes) > 1:
            raise DesignUnusable(
                f"{self.source_at('data-qr', 1)}: there are {len(codes)} elements with data-qr; "
                "a ticket has one code"
            )
        for tag in ("input", "select", "textarea", "button"):
            if next(self._root.iter(tag), None) is not None:
                raise DesignUnusable(
                    f"{self.source_at(f'<{tag}')}: <{tag}> is for forms; a ticket has none"
                )

    def _code_elements(self) -> list[Element]:
        return [element for element in self._root.iter() if element.get("data-qr") is not None]

    def _add_fallbacks(self, text: str) -> None:
        """Add the fallback fonts that have the text's characters, after the design's own fonts.
        Those of the page's own text are added before those of any field.
        """
        for name in fallback.needed(text):
            if name not in self._fallbacks:
                self._fallbacks.add(name)
                self._css(string=fallback.font_face_rule(name))

    def source_at(self, text: str, times_before: int = 0) -> str:
        """Return file and line of a text of the page, for messages."""
        design = self.variant.design
        return f"{design.name}/{source_line(design, text, times_before)}"

    def field_at(self, key: str) -> str:
        """Return file, line and name of a field, for messages."""
        field = self.fields[key]
        return f"{self.variant.design.name}/{field.at}: field `{field.name}`"

    @property
    def declared(self) -> frozenset[str]:
        """Return the families that the design's style sheets declare."""
        return frozenset(self._fonts.sources)

    def _css(self, **source: str) -> CSS:
        return CSS(font_config=self._fonts, url_fetcher=self._fetcher, base_url=BASE, **source)

    def _own_styles(self) -> Iterator[CSS]:
        """Take the style sheets out of the page, so that they are parsed once and not for each
        layout.
        """
        for parent in list(self._root.iter()):
            for child in list(parent):
                if child.tag == "link" and "stylesheet" in child.get("rel", "").split():
                    parent.remove(child)
                    path = child.get("href", "")
                    if path not in self.variant.design.contents:
                        raise DesignUnusable(
                            f"{self._where}: links `{path[:120]}`, which the folder does not hold"
                        )
                    text = self.variant.design.text_of(path)
                    with self.collected_log(
                        file=f"{path} or what it imports" if "@import" in text else path
                    ):
                        style = self._css(string=text)
                    yield style
                elif child.tag == "link" and "attachment" in child.get("rel", "").split():
                    raise DesignUnusable(f"{self._where}: attaches a file: a ticket carries none")
                elif child.tag == "style":
                    parent.remove(child)
                    with self.collected_log(file=f"{PAGE}, <style>"):
                        style = self._css(string=child.text or "")
                    yield style

    @contextmanager
    def collected_log(self, *, is_strict: bool = True, file: str = "") -> Iterator[WeasyPrintLog]:
        """Collect what WeasyPrint logs, and raise DesignUnusable for it: WeasyPrint skips what it
        does not understand, and no page is better than an incomplete one.

        Without `is_strict` nothing is raised: a customer's text may have characters that no font
        has, which is not a fault of the design.
        """
        log = WeasyPrintLog(logging.WARNING)
        logger = logging.getLogger("weasyprint")
        before = logger.propagate
        logger.addHandler(log)
        logger.propagate = False
        try:
            yield log
        except RecursionError:
            raise DesignUnusable(
                f"{self.variant.design.name}/{file or PAGE}: elements, rules or imports are nested "
                "too deeply: make it flatter"
            ) from None
        except FetchRefusedError as error:
            raise DesignUnusable(f"{self.variant.design.name}/{file or PAGE}: {error}") from None
        finally:
            logger.removeHandler(log)
            logger.propagate = before
        if self._fetcher.refused:
            raise DesignUnusable(
                f"{self.variant.design.name}/{file or PAGE}: {self._fetcher.refused[0]}"
            )
        if log.messages and is_strict:
            where = self.variant.design.name + (f"/{file}" if file else "")
            raise DesignUnusable(self._with_remedy(where, log.messages[0]))

    def _with_remedy(self, where: str, message: str) -> str:
        """Return the message, with a remedy if it is one that WeasyPrint gives none for."""
        if match := NO_ALT.fullmatch(message):
            return (
                f"{self.source_at(match[1])}: the picture `{match[1]}` has no text for those who "
                'cannot see it: give it alt="..."; mere decoration is a background in CSS'
            )
        if match := NO_GLYPH.search(message):
            return (
                f"{where}: a text of the page has {match[1][:80]!r}, which no font here has: "
                f"{FONTS_REMEDY}"
            )
        if match := NO_IMAGE.match(message):
            return (
                f"{self.source_at(match[1])}: the picture `{match[1]}` cannot be drawn: check in a "
                "browser whether it is complete, and save it as PNG or JPEG"
            )
        return f"{where}: {with_line_first(self._fonts.with_source(message))}"

    def lay_out(
        self, texts: Mapping[str, FittedText | UnstampableText], code: tuple[str, int] | None
    ) -> LaidOutPage:
        """Lay the page out with these lines and this code (SVG path, modules a side)."""
        missing_in_texts = set[str]()
        for name, text in texts.items():
            if isinstance(text, UnstampableText):
                self._add_fallbacks(text.text + (text.text.upper() if text.is_upper else ""))
                shown, missing = self._fonts.shown(text.text, is_upper=text.is_upper)
                missing_in_texts.update(missing)
                write_unstampable(self.fields[name].element, replace(text, text=shown))
            else:
                write_fitted(self.fields[name].element, text)
        if code is not None:
            for element in self._code_elements():
                draw_code(element, *code, QR_ALT)
        is_stampable = not any(isinstance(text, UnstampableText) for text in texts.values())
        with self.collected_log(is_strict=is_stampable):
            document = self._page.render(stylesheets=self._styles, font_config=self._fonts)
        if len(document.pages) != 1:
            raise DesignUnusable(
                f"{self._where}: fills {len(document.pages)} pages of {self.variant.page_size}; "
                "one ticket is one page: make it lower"
            )
        self._check_size(document.pages[0])
        check_targets(self._where, document.pages[0].links)
        return replace(
            self._laid_out(document, is_stampable=is_stampable),
            missing="".join(sorted(missing_in_texts)),
        )

    def _check_size(self, page: Any) -> None:
        sides = [
            float(side.removesuffix("mm")) * 96 / 25.4 for side in self.variant.page_size.split()
        ]
        if abs(page.width - sides[0]) > 1 or abs(page.height - sides[1]) > 1:
            raise DesignUnusable(
                f"{self._where}: a rule for @page makes it {page.width * 25.4 / 96:.0f}mm "
                f"{page.height * 25.4 / 96:.0f}mm, and in design.toml it is "
                f"{self.variant.page_size}: take `size` out of @page"
            )

    def check_complete(self, laid_out: LaidOutPage) -> None:
        """Raise DesignUnusable unless every field and the code are on the page."""
        remedy = (
            "is not laid out as a block (it is inline, flex, a table's cell, of font-size 0, "
            "or not shown at all): give it `display: block`, best inside a <div>"
        )
        for key in self.fields:
            if key not in laid_out.placements:
                raise DesignUnusable(f"{self.field_at(key)} {remedy}")
        if laid_out.square is None and self._code_elements():
            raise DesignUnusable(f"{self.source_at('data-qr')}: the code {remedy}")

    def _laid_out(self, document: Any, *, is_stampable: bool) -> LaidOutPage:
        keys = {spec.element: key for key, spec in self.fields.items()}
        placements = dict[str, FieldPlacement]()
        text_at = dict[str, tuple[float, float]]()
        square = None
        page = document.pages[0]._page_box  # noqa: SLF001 - WeasyPrint shows boxes nowhere else
        code_at = self.source_at("data-qr")
        families = frozenset(
            box.style["font_family"][0] for box in walk(page) if isinstance(box, boxes.TextBox)
        )
        for box in walk(page):
            if box.element is None or not isinstance(box, boxes.BlockBox):
                continue
            key = keys.get(box.element)
            if key is not None:
                line = next(
                    (inner for inner in walk(box) if isinstance(inner, boxes.TextBox)), None
                )
                if line is not None:
                    placements[key] = field_placement(self.field_at(key), box, line)
                    text_at[key] = (line.position_x, line.position_y + line.baseline)
            elif box.element.get("data-qr") is not None:
                square = code_square(code_at, box.element, box)
        shape = (*boxes_outside_fields(page), *link_rectangles(document.pages[0].links))
        return LaidOutPage(document, placements, text_at, square, shape, families, is_stampable)


def measure_lines(laid_out: LaidOutPage, element: Element) -> tuple[int, float, float]:
    """Return how many lines a field's text has, their total height and the widest one's width, in
    CSS pixels.
    """
    page = laid_out.document.pages[0]._page_box  # noqa: SLF001 - as in `_laid_out`
    field_box = next(
        box for box in walk(page) if box.element is element and isinstance(box, boxes.BlockBox)
    )
    lines = [inner for inner in walk(field_box) if isinstance(inner, boxes.LineBox)]
    return (
        len(lines),
        sum(inner.height for inner in lines),
        max((inner.width for inner in lines), default=0.0),
    )


def boxes_outside_fields(box: Any) -> Iterator[tuple[object, ...]]:
    """Yield the element, position and size of each box that is in no field. A field's own box
    counts, what is in it does not.
    """
    tag = None if box.element is None else box.element_tag
    sizes = (getattr(box, name, None) for name in ("position_x", "position_y", "width", "height"))
    yield tag, *(round(size, 3) if isinstance(size, float) else size for size in sizes)
    if (
        box.element is not None
        and box.element.get("data-field") is not None
        and isinstance(box, boxes.BlockBox)
    ):
        return
    for child in getattr(box, "children", ()):
        yield from boxes_outside_fields(getattr(child, "_box", child))


def link_rectangles(links: Sequence[tuple[Any, ...]]) -> Iterator[tuple[object, ...]]:
    """Yield the rectangles of links, which may not depend on the texts either."""
    for kind, target, rectangle, _ in links:
        yield kind, target, *(round(side, 3) for side in rectangle)


def missing_characters(log: WeasyPrintLog) -> set[str]:
    """Return characters for which Pango found no glyph, although a font claimed to have them."""
    return {match[2] for message in log.messages if (match := NO_GLYPH.search(message))}


def fonts_of(document: Any) -> dict[str, PageFont]:
    """Return the fonts by key, once the PDF is made. WeasyPrint keeps the face of the complete
    file, although it embeds only a part.
    """
    return {
        font.hash: PageFont(
            get_hb_object_data(font.hb_face),
            font.index,
            untagged(font.family),
            "fvar" in font.tables,
            dict(font.to_unicode),
        )
        for font in document.fonts.values()
    }
