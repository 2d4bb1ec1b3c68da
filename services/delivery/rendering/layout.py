"""A design's page laid out by WeasyPrint: where its fields stand, and the page as objects of a PDF.

The one module that knows WeasyPrint's boxes, as drawing.py, assembling.py and recast.py know the objects that it writes: the
lock file pins its version, tests hold what is used.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from weasyprint import CSS, HTML
from weasyprint.formatting_structure import boxes
from weasyprint.text.fonts import get_hb_object_data

from services.delivery.errors import DesignUnusable
from services.delivery.rendering.designs import CODE, PAGE, Chosen
from services.delivery.rendering.ear import Ear, told_of
from services.delivery.rendering.fetching import FetchRefusedError, Folder, Fonts
from services.delivery.rendering.fitting import Align, Box, Fitted
from services.delivery.rendering.links import BASE, check_targets, links_of
from services.delivery.rendering.pages import Facts, Odd, Said, draw, fields_of, filled, line_with, write, write_odd

OUR_STYLE = "[data-field]{white-space:nowrap}"
NOT_STAMPED: Mapping[str, tuple[object, ...]] = {
    "text_decoration_line": ("none",),
    "word_spacing": (0,),
    "direction": ("ltr",),
    "font_variant_ligatures": ("normal",),
    "font_variant_position": ("normal",),
}
PSEUDO = re.compile("(?!br).*::(before|after|first-letter)")  # <br> is one itself
QR_ALT = "QR code of the ticket"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field's texts stand, in CSS pixels of the page, and how they are set."""

    x: float
    y: float
    box: Box
    baseline: float  # of the first line, below y, at full size
    height: float  # of the font's own line, at full size: the rest of the pitch is leading
    align: Align
    letter: float  # letter spacing in CSS pixels
    upper: bool
    features: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Font:
    """A font that the page uses: the file whole, as the shaper and the subsetter need it."""

    content: bytes
    index: int
    family: str
    is_variable: bool


@dataclass(frozen=True)
class LaidOut:
    """One page: WeasyPrint's document and what was found in it. `square` is the code's place."""

    document: Any
    places: Mapping[str, Place]
    text_at: Mapping[str, tuple[float, float]]  # where the placeholder's text begins
    square: tuple[float, float, float] | None
    shape: tuple[tuple[object, ...], ...]  # every box outside of fields: what must not move
    families: frozenset[str]  # that its texts ask for first
    is_ours: bool  # nothing of it but the design's own text and what a plate can hold


class Sheet:
    """One design for one campaign, parsed once and laid out as often as needed. Not shared between threads."""

    def __init__(self, chosen: Chosen, facts: Facts) -> None:
        self.chosen = chosen
        self._where = f"{chosen.design.name}/{PAGE}"
        self._fonts = Fonts()
        self._fetcher = Folder(chosen.design)
        with self.minded():
            page = HTML(string=filled(chosen, facts), base_url=BASE, url_fetcher=self._fetcher)
            self._page, self._root = page, page.etree_element
            self._root.set("lang", chosen.language)
            self._root.set("class", f"{self._root.get('class', '')} size-{chosen.size}".strip())
            self.fields = fields_of(chosen, self._root)
            self.links = links_of(chosen, self._root)
            self._check_elements()
            self._styles = [
                *self._own_styles(),
                self._css(string=f"@page{{size:{chosen.page_size};margin:0}}{OUR_STYLE}"),
            ]
        self.title = next((element.text or "" for element in self._root.iter("title")), "")
        if not self.title.strip():
            raise DesignUnusable(f"{self._where}: has no <title>; readers of the PDF are told it")

    def _check_elements(self) -> None:
        codes = [it for it in self._root.iter() if it.get("data-qr") is not None]
        if len(codes) > 1:
            line = line_with(self.chosen.design, "data-qr", 1)
            raise DesignUnusable(f"{self._where}:{line}: data-qr stands {len(codes)} times; a ticket has one code")
        for tag in ("input", "select", "textarea", "button"):
            if next(self._root.iter(tag), None) is not None:
                line = line_with(self.chosen.design, f"<{tag}")
                raise DesignUnusable(f"{self._where}:{line}: <{tag}> is for forms; a ticket has none")

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
                        raise DesignUnusable(f"{self._where}: links `{path[:120]}`, which the folder does not hold")
                    with self.minded(file=path):
                        style = self._css(string=self.chosen.design.text_of(path))
                    yield style
                elif child.tag == "style":
                    parent.remove(child)
                    yield self._css(string=child.text or "")

    @contextmanager
    def minded(self, *, is_strict: bool = True, file: str = "") -> Iterator[None]:
        """WeasyPrint goes on without what it does not understand; we do not: a page that lacks something is worse than none.

        Not `is_strict`: a stranger's text may have characters that no font has, and that is nobody's mistake here.
        """
        heard = Ear(logging.WARNING)
        logger = logging.getLogger("weasyprint")
        before = logger.propagate
        logger.addHandler(heard)
        logger.propagate = False
        try:
            yield
        except FetchRefusedError as error:
            raise DesignUnusable(f"{self.chosen.design.name}/{file or PAGE}: {error}") from None
        finally:
            logger.removeHandler(heard)
            logger.propagate = before
        if self._fetcher.refused:
            raise DesignUnusable(f"{self.chosen.design.name}/{file or PAGE}: {self._fetcher.refused[0]}")
        if heard.messages and is_strict:
            where = self.chosen.design.name + (f"/{file}" if file else "")
            raise DesignUnusable(f"{where}: {told_of(self._fonts.told_of(heard.messages[0]))}")

    def lay(self, texts: Mapping[str, Fitted | Odd], code: tuple[str, int] | None) -> LaidOut:
        """With these lines in its fields and this code (SVG path, modules a side) in its square."""
        for name, text in texts.items():
            if isinstance(text, Odd):
                write_odd(self.fields[name].element, text)
            else:
                write(self.fields[name].element, text)
        for element in self._root.iter():
            if element.get("data-qr") is not None and code is not None:
                draw(element, *code, QR_ALT)
        is_ours = not any(isinstance(text, Odd) for text in texts.values())
        with self.minded(is_strict=is_ours):
            document = self._page.render(stylesheets=self._styles, font_config=self._fonts)
        if len(document.pages) != 1:
            raise DesignUnusable(
                f"{self._where}: fills {len(document.pages)} pages of {self.chosen.page_size}; one ticket is one page: make it lower"
            )
        check_targets(self._where, document.pages[0].links)
        return self._found(document, is_ours=is_ours)

    def _found(self, document: Any, *, is_ours: bool) -> LaidOut:
        keys = {said.element: key for key, said in self.fields.items()}
        places, text_at, square = dict[str, Place](), dict[str, tuple[float, float]](), None
        page = document.pages[0]._page_box  # noqa: SLF001 - WeasyPrint shows boxes nowhere else
        families = frozenset(it.style["font_family"][0] for it in walk(page) if isinstance(it, boxes.TextBox))
        for box in walk(page):
            element = box.element
            if element is None:
                continue
            name = keys.get(element)
            if name is not None and isinstance(box, boxes.BlockBox):
                said = self.fields[name]
                line = next((it for it in walk(box) if isinstance(it, boxes.TextBox)), None)
                if line is not None:
                    places[name] = self._place(said, box, line)
                    text_at[name] = (line.position_x, line.position_y + line.baseline)
            elif element.get("data-qr") is not None and isinstance(box, boxes.BlockBox):
                square = self._square(element, box)
        shape = (*outside(page), *linked(document.pages[0].links))
        return LaidOut(document, places, text_at, square, shape, families, is_ours)

    def _square(self, element: Element, box: Any) -> tuple[float, float, float]:
        line = line_with(self.chosen.design, "data-qr")
        if element.get("data-qr") != CODE:
            raise DesignUnusable(f'{self._where}:{line}: data-qr is `{element.get("data-qr")}`; it is "{CODE}"')
        if box.width < 1 or abs(box.width - box.height) > 0.5:  # half a pixel is what mm leave behind
            raise DesignUnusable(
                f"{self._where}:{line}: the code's element is {box.width:.1f} x {box.height:.1f} px; give it equal width and height"
            )
        return box.content_box_x(), box.content_box_y(), box.width

    def _place(self, said: Said, box: Any, line: Any) -> Place:
        where = f"{self._where}:{said.line}: field `{said.name}`"
        inner = next(it for it in walk(box) if isinstance(it, boxes.LineBox))
        style = inner.style
        if box.width <= 0 or box.height <= 0:
            raise DesignUnusable(
                f"{where} has no box ({box.width:.1f} x {box.height:.1f} px): give it width and height"
            )
        for name, plain in NOT_STAMPED.items():
            if style[name] not in plain:
                raise DesignUnusable(f"{where}: {name.replace('_', '-')} is not stamped; leave it out")
        if style["text_align_last"] not in {"auto", style["text_align_all"]}:
            raise DesignUnusable(f"{where}: text-align-last is not stamped; leave it out")
        if getattr(style["text_indent"], "value", 0):
            raise DesignUnusable(f"{where}: text-indent is not stamped; use padding")
        if any(PSEUDO.fullmatch(it.element_tag or "") for it in walk(box) if it.element is not None):
            raise DesignUnusable(
                f"{where}: ::before, ::after and ::first-letter are not stamped; give them an element of their own"
            )
        size, transform = style["font_size"], style["text_transform"]
        if transform not in {"none", "uppercase"}:
            raise DesignUnusable(f"{where}: text-transform is `{transform}`; a field has `uppercase` or none")
        align = style["text_align_all"]
        return Place(
            x=box.content_box_x(),
            y=box.content_box_y(),
            box=Box(box.width, box.height, size, inner.height, pitch_scales=scales(style["line_height"])),
            baseline=line.position_y + line.baseline - box.content_box_y(),
            height=line.height,
            align="right" if align in {"right", "end"} else "center" if align == "center" else "left",
            letter=0.0 if style["letter_spacing"] == "normal" else style["letter_spacing"],
            upper=transform == "uppercase",
            features=features(style, where),
        )


def walk(box: Any) -> Iterator[Any]:
    yield box
    for child in getattr(box, "children", ()):
        yield from walk(getattr(child, "_box", child))


def lines_in(laid_out: LaidOut, element: Element) -> tuple[int, float, float]:
    """Lines of a field's text, the height of all and the width of the widest, in CSS pixels."""
    page = laid_out.document.pages[0]._page_box  # noqa: SLF001 - as in `_found`
    own = next(box for box in walk(page) if box.element is element and isinstance(box, boxes.BlockBox))
    lines = [it for it in walk(own) if isinstance(it, boxes.LineBox)]
    return len(lines), sum(it.height for it in lines), max((it.width for it in lines), default=0.0)


def outside(box: Any) -> Iterator[tuple[object, ...]]:
    """Of each box that is in no field: whose it is and where. A field's own box counts, what is in it does not."""
    tag = None if box.element is None else box.element_tag
    sizes = (getattr(box, name, None) for name in ("position_x", "position_y", "width", "height"))
    yield tag, *(round(size, 3) if isinstance(size, float) else size for size in sizes)
    if box.element is not None and box.element.get("data-field") is not None and isinstance(box, boxes.BlockBox):
        return
    for child in getattr(box, "children", ()):
        yield from outside(getattr(child, "_box", child))


def linked(links: Sequence[tuple[Any, ...]]) -> Iterator[tuple[object, ...]]:
    """Where a click leads away: it may not depend on the texts either."""
    for kind, target, rectangle, _ in links:
        yield kind, target, *(round(side, 3) for side in rectangle)


def scales(line_height: Any) -> bool:
    """A number or `normal` goes with the size; a length stays."""
    return (
        line_height == "normal" or isinstance(line_height, (int, float)) or getattr(line_height, "unit", "px") is None
    )


def features(style: Any, where: str) -> tuple[tuple[str, int], ...]:
    said = style["font_feature_settings"]
    for name, plain in (("font_variant_caps", "normal"), ("font_variant_numeric", "normal"), ("font_kerning", "auto")):
        if style[name] != plain:
            raise DesignUnusable(
                f'{where}: {name.replace("_", "-")} is not stamped; say it by font-feature-settings, such as "tnum" 1'
            )
    return () if said == "normal" else tuple((str(tag), int(value)) for tag, value in said)


def fonts_of(document: Any) -> dict[str, Font]:
    """Key -> font, after the PDF was made. WeasyPrint keeps the face of the file, however much it cut from what it embeds."""
    return {
        font.hash: Font(get_hb_object_data(font.hb_face), font.index, font.family, "fvar" in font.tables)
        for font in document.fonts.values()
    }
