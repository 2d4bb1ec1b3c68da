"""A design's page laid out by WeasyPrint: where its fields stand, and the page as objects of a PDF.

The one module that knows WeasyPrint's boxes, as drawing.py, assembling.py and recast.py know the
objects that it writes: the lock file pins its version, tests hold what is used.
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
from services.delivery.printing.compile.places import FieldPlacement, field_placement, walk
from services.delivery.printing.compile.places import code_square as found_square
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
    """A font that the page uses: the file whole, as the shaper and the subsetter need it."""

    content: bytes
    index: int
    family: str
    is_variable: bool
    says: Mapping[int, str] = field(
        default_factory=dict, repr=False, compare=False
    )  # glyph -> text, on this page


@dataclass(frozen=True)
class LaidOutPage:
    """One page: WeasyPrint's document and what was found in it. `square` is the code's place."""

    document: Any
    places: Mapping[str, FieldPlacement]
    text_at: Mapping[str, tuple[float, float]]  # where the placeholder's text begins
    square: tuple[float, float, float] | None
    shape: tuple[tuple[object, ...], ...]  # every box outside of fields: what must not move
    families: frozenset[str]  # that its texts ask for first
    is_ours: bool  # nothing of it but the design's own text and what a plate can hold
    missing_characters: str = ""  # characters of its texts that no font has, shown as U+FFFD


class PageTemplate:
    """One design for one campaign, parsed once and laid out as often as needed. Not shared between
    threads.
    """

    def __init__(self, chosen: DesignVariant, facts: CampaignFacts) -> None:
        self.chosen = chosen
        self._where = f"{chosen.design.name}/{PAGE}"
        self._fonts = DesignFonts()
        self._fetcher = DesignFetcher(chosen.design)
        self._brought = set[str]()
        with self.minded():
            page = HTML(
                string=rendered_html(chosen, facts), base_url=BASE, url_fetcher=self._fetcher
            )
            self._page, self._root = page, page.etree_element
            self._root.set("lang", chosen.language)
            self._root.set("class", f"{self._root.get('class', '')} size-{chosen.size}".strip())
            self.fields = fields_of(chosen, self._root)
            self.links = links_of(chosen, self._root)
            self._check_elements()
            self._bring("".join(self._root.itertext()))
            self._styles = [
                *self._own_styles(),
                self._css(string=f"@page{{size:{chosen.page_size};margin:0}}{FIELD_STYLE}"),
            ]
        self.title = next((element.text or "" for element in self._root.iter("title")), "")
        if not self.title.strip():
            raise DesignUnusable(f"{self._where}: has no <title>; readers of the PDF are told it")

    def _check_elements(self) -> None:
        codes = [it for it in self._root.iter() if it.get("data-qr") is not None]
        if len(codes) > 1:
            at = source_line(self.chosen.design, "data-qr", 1)
            raise DesignUnusable(
                f"{self.chosen.design.name}/{at}: data-qr stands {len(codes)} times; a ticket has "
                "one code"
            )
        for tag in ("input", "select", "textarea", "button"):
            if next(self._root.iter(tag), None) is not None:
                at = source_line(self.chosen.design, f"<{tag}")
                raise DesignUnusable(
                    f"{self.chosen.design.name}/{at}: <{tag}> is for forms; a ticket has none"
                )

    def _bring(self, text: str) -> None:
        """Our fonts that have its letters, behind the design's own. What stands in the page has its
        own before any field.
        """
        for name in fallback.needed(text):
            if name not in self._brought:
                self._brought.add(name)
                self._css(string=fallback.font_face_rule(name))

    @property
    def declared(self) -> frozenset[str]:
        """Families that the design's style sheets declare."""
        return frozenset(self._fonts.sources)

    def _css(self, **source: str) -> CSS:
        return CSS(font_config=self._fonts, url_fetcher=self._fetcher, base_url=BASE, **source)

    def _own_styles(self) -> Iterator[CSS]:
        """Taken out of the page, so that they are parsed once and not for each layout."""
        for parent in list(self._root.iter()):
            for child in list(parent):
                if child.tag == "link" and "stylesheet" in child.get("rel", "").split():
                    parent.remove(child)
                    path = child.get("href", "")
                    if path not in self.chosen.design.contents:
                        raise DesignUnusable(
                            f"{self._where}: links `{path[:120]}`, which the folder does not hold"
                        )
                    text = self.chosen.design.text_of(path)
                    with self.minded(
                        file=f"{path} or what it imports" if "@import" in text else path
                    ):
                        style = self._css(string=text)
                    yield style
                elif child.tag == "link" and "attachment" in child.get("rel", "").split():
                    raise DesignUnusable(f"{self._where}: attaches a file: a ticket carries none")
                elif child.tag == "style":
                    parent.remove(child)
                    with self.minded(file=f"{PAGE}, <style>"):
                        style = self._css(string=child.text or "")
                    yield style

    @contextmanager
    def minded(self, *, is_strict: bool = True, file: str = "") -> Iterator[WeasyPrintLog]:
        """WeasyPrint goes on without what it does not understand; we do not: a page that lacks
        something is worse than none.

        Not `is_strict`: a stranger's text may have characters that no font has, and that is
        nobody's mistake here.
        """
        heard = WeasyPrintLog(logging.WARNING)
        logger = logging.getLogger("weasyprint")
        before = logger.propagate
        logger.addHandler(heard)
        logger.propagate = False
        try:
            yield heard
        except RecursionError:
            raise DesignUnusable(
                f"{self.chosen.design.name}/{file or PAGE}: elements, rules or imports are nested "
                "too deeply: make it flatter"
            ) from None
        except FetchRefusedError as error:
            raise DesignUnusable(f"{self.chosen.design.name}/{file or PAGE}: {error}") from None
        finally:
            logger.removeHandler(heard)
            logger.propagate = before
        if self._fetcher.refused:
            raise DesignUnusable(
                f"{self.chosen.design.name}/{file or PAGE}: {self._fetcher.refused[0]}"
            )
        if heard.messages and is_strict:
            where = self.chosen.design.name + (f"/{file}" if file else "")
            raise DesignUnusable(self._told(where, heard.messages[0]))

    def _told(self, where: str, message: str) -> str:
        """With a remedy where WeasyPrint's own words have none."""
        if match := NO_ALT.fullmatch(message):
            return (
                f"{self.chosen.design.name}/{source_line(self.chosen.design, match[1])}: the picture "
                f"`{match[1]}` says nothing to those who cannot see it: give it "
                'alt="..."; mere decoration is a background in CSS'
            )
        if match := NO_GLYPH.search(message):
            return (
                f"{where}: a text of the page has {match[1][:80]!r}, for which no font here "
                f"has a letter: {FONTS_REMEDY}"
            )
        if match := NO_IMAGE.match(message):
            at = source_line(self.chosen.design, match[1])
            return (
                f"{self.chosen.design.name}/{at}: the picture `{match[1]}` cannot be drawn: "
                "see in a browser whether it is whole, and save it as PNG or JPEG"
            )
        return f"{where}: {with_line_first(self._fonts.told_of(message))}"

    def lay(
        self, texts: Mapping[str, FittedText | UnstampableText], code: tuple[str, int] | None
    ) -> LaidOutPage:
        """With these lines in its fields and this code (SVG path, modules a side) in its square."""
        lacked = set[str]()
        for name, text in texts.items():
            if isinstance(text, UnstampableText):
                self._bring(text.text + (text.text.upper() if text.is_upper else ""))
                shown, lacking = self._fonts.shown(text.text, is_upper=text.is_upper)
                lacked.update(lacking)
                write_unstampable(self.fields[name].element, replace(text, text=shown))
            else:
                write_fitted(self.fields[name].element, text)
        for element in self._root.iter():
            if element.get("data-qr") is not None and code is not None:
                draw_code(element, *code, QR_ALT)
        is_ours = not any(isinstance(text, UnstampableText) for text in texts.values())
        with self.minded(is_strict=is_ours):
            document = self._page.render(stylesheets=self._styles, font_config=self._fonts)
        if len(document.pages) != 1:
            raise DesignUnusable(
                f"{self._where}: fills {len(document.pages)} pages of {self.chosen.page_size}; "
                "one ticket is one page: make it lower"
            )
        self._check_size(document.pages[0])
        check_targets(self._where, document.pages[0].links)
        return replace(self._found(document, is_ours=is_ours), lacking="".join(sorted(lacked)))

    def _check_size(self, page: Any) -> None:
        sides = [
            float(side.removesuffix("mm")) * 96 / 25.4 for side in self.chosen.page_size.split()
        ]
        if abs(page.width - sides[0]) > 1 or abs(page.height - sides[1]) > 1:
            raise DesignUnusable(
                f"{self._where}: a rule for @page makes it {page.width * 25.4 / 96:.0f}mm "
                f"{page.height * 25.4 / 96:.0f}mm, and design.toml says "
                f"{self.chosen.page_size}: take `size` out of @page"
            )

    def check_found(self, laid_out: LaidOutPage) -> None:
        """Of a layout with a text in each field: all of them, and the code, stand on the page."""
        remedy = (
            "is not laid out as a block (it is inline, flex, a table's cell, of font-size 0, "
            "or not shown at all): give it `display: block`, best inside a <div>"
        )
        for key, said in self.fields.items():
            if key not in laid_out.places:
                raise DesignUnusable(
                    f"{self.chosen.design.name}/{said.at}: field `{said.name}` {remedy}"
                )
        if laid_out.square is None and any(
            it.get("data-qr") is not None for it in self._root.iter()
        ):
            raise DesignUnusable(
                f"{self.chosen.design.name}/{source_line(self.chosen.design, 'data-qr')}: the code "
                f"{remedy}"
            )

    def _found(self, document: Any, *, is_ours: bool) -> LaidOutPage:
        keys = {said.element: key for key, said in self.fields.items()}
        places, text_at, square = (
            dict[str, FieldPlacement](),
            dict[str, tuple[float, float]](),
            None,
        )
        page = document.pages[0]._page_box  # noqa: SLF001 - WeasyPrint shows boxes nowhere else
        code_at = source_line(self.chosen.design, "data-qr")
        families = frozenset(
            it.style["font_family"][0] for it in walk(page) if isinstance(it, boxes.TextBox)
        )
        for box in walk(page):
            element = box.element
            if element is None:
                continue
            name = keys.get(element)
            if name is not None and isinstance(box, boxes.BlockBox):
                said = self.fields[name]
                line = next((it for it in walk(box) if isinstance(it, boxes.TextBox)), None)
                if line is not None:
                    places[name] = field_placement(
                        f"{self.chosen.design.name}/{said.at}: field `{said.name}`", box, line
                    )
                    text_at[name] = (line.position_x, line.position_y + line.baseline)
            elif element.get("data-qr") is not None and isinstance(box, boxes.BlockBox):
                square = found_square(f"{self.chosen.design.name}/{code_at}", element, box)
        shape = (*boxes_outside_fields(page), *link_rectangles(document.pages[0].links))
        return LaidOutPage(document, places, text_at, square, shape, families, is_ours)


def measure_lines(laid_out: LaidOutPage, element: Element) -> tuple[int, float, float]:
    """Lines of a field's text, the height of all and the width of the widest, in CSS pixels."""
    page = laid_out.document.pages[0]._page_box  # noqa: SLF001 - as in `_found`
    own = next(
        box for box in walk(page) if box.element is element and isinstance(box, boxes.BlockBox)
    )
    lines = [it for it in walk(own) if isinstance(it, boxes.LineBox)]
    return len(lines), sum(it.height for it in lines), max((it.width for it in lines), default=0.0)


def boxes_outside_fields(box: Any) -> Iterator[tuple[object, ...]]:
    """Of each box that is in no field: whose it is and where. A field's own box counts, what is in
    it does not.
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
    """Where a click leads away: it may not depend on the texts either."""
    for kind, target, rectangle, _ in links:
        yield kind, target, *(round(side, 3) for side in rectangle)


def missing_characters(heard: WeasyPrintLog) -> set[str]:
    """Characters for which Pango found no glyph, although a font was said to have them."""
    return {match[2] for message in heard.messages if (match := NO_GLYPH.search(message))}


def fonts_of(document: Any) -> dict[str, PageFont]:
    """Key -> font, after the PDF was made. WeasyPrint keeps the face of the file, however much it
    cut from what it embeds.
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
