"""Where a field and the code are on a page that WeasyPrint laid out, and how a field's texts are
set. Styles that cannot be stamped are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from weasyprint.formatting_structure import boxes

from services.delivery.printing.design.fitting import Align, FieldBox
from services.delivery.printing.design.library import CODE
from services.delivery.printing.errors import DesignUnusable

NOT_STAMPED: Mapping[str, tuple[object, ...]] = {
    "text_decoration_line": ("none",),
    "word_spacing": (0,),
    "direction": ("ltr",),
    "font_variant_ligatures": ("normal",),
    "font_variant_position": ("normal",),
}
PSEUDO = re.compile("(?!br).*::(before|after|marker|first-letter|first-line)")  # <br> is one itself


@dataclass(frozen=True, slots=True)
class FieldPlacement:
    """Where a field's texts are, in CSS pixels of the page, and how they are set."""

    x: float
    y: float
    box: FieldBox
    baseline: float  # of the first line, below y, at full size
    height: float  # of the font's own line, at full size; the remainder of the pitch is leading
    align: Align
    letter_spacing: float  # CSS pixels
    upper: bool
    features: tuple[tuple[str, int], ...]


def code_square(where: str, element: Element, box: Any) -> tuple[float, float, float]:
    """Return the code's square, as left, top and side in CSS pixels. Raises DesignUnusable."""
    if element.get("data-qr") != CODE:
        raise DesignUnusable(f'{where}: data-qr is `{element.get("data-qr")}`; it is "{CODE}"')
    if box.width < 1 or abs(box.width - box.height) > 0.5:  # half a pixel is the rounding of mm
        raise DesignUnusable(
            f"{where}: the code's element is {box.width:.1f} x {box.height:.1f} px; give it equal "
            "width and height"
        )
    return box.content_box_x(), box.content_box_y(), box.width


def field_placement(where: str, box: Any, line: Any) -> FieldPlacement:
    """Return a field's placement, from its own box and that of its first line. Raises
    DesignUnusable.
    """
    inner = next(child for child in walk(box) if isinstance(child, boxes.LineBox))
    style = inner.style
    check_box(where, box, inner.height, style["font_size"])
    check_style(where, style)
    tags = [child.element_tag or "" for child in walk(box) if child.element is not None]
    if any(PSEUDO.fullmatch(tag) for tag in tags):
        raise DesignUnusable(
            f"{where}: ::before, ::after, ::marker and ::first-letter are not stamped; give them "
            "an element of their own"
        )
    align = style["text_align_all"]
    return FieldPlacement(
        x=box.content_box_x(),
        y=box.content_box_y(),
        box=FieldBox(
            box.width,
            box.height,
            style["font_size"],
            inner.height,
            pitch_scales=scales(style["line_height"]),
        ),
        baseline=line.position_y + line.baseline - box.content_box_y(),
        height=line.height,
        align="right" if align in {"right", "end"} else "center" if align == "center" else "left",
        letter_spacing=0.0 if style["letter_spacing"] == "normal" else style["letter_spacing"],
        upper=style["text_transform"] == "uppercase",
        features=features(style, where),
    )


def check_box(where: str, box: Any, pitch: float, size: float) -> None:
    if box.width <= 0 or box.height <= 0:
        raise DesignUnusable(
            f"{where} has no box ({box.width:.1f} x {box.height:.1f} px): give it width and height"
        )
    if pitch <= 0 or size <= 0:
        raise DesignUnusable(
            f"{where}: its lines have no height (font-size {size:.1f} px, line-height {pitch:.1f} "
            "px): it could not be read"
        )


def check_style(where: str, style: Any) -> None:
    for name, allowed in NOT_STAMPED.items():
        if style[name] not in allowed:
            remedy = "set `direction: ltr` on it" if name == "direction" else "leave it out"
            raise DesignUnusable(f"{where}: {name.replace('_', '-')} is not stamped; {remedy}")
    if style["text_align_all"] == "justify":
        raise DesignUnusable(
            f"{where}: text-align: justify is not stamped; use left, right or center"
        )
    if style["text_align_last"] not in {"auto", style["text_align_all"]}:
        raise DesignUnusable(f"{where}: text-align-last is not stamped; leave it out")
    if getattr(style["text_indent"], "value", 0):
        raise DesignUnusable(f"{where}: text-indent is not stamped; use padding")
    if (transform := style["text_transform"]) not in {"none", "uppercase"}:
        raise DesignUnusable(
            f"{where}: text-transform is `{transform}`; a field has `uppercase` or none"
        )


def walk(box: Any) -> Iterator[Any]:
    yield box
    for child in getattr(box, "children", ()):
        yield from walk(getattr(child, "_box", child))


def scales(line_height: Any) -> bool:
    """Return whether a line height scales with the font size: a number or `normal` does, a length
    does not.
    """
    return (
        line_height == "normal"
        or isinstance(line_height, (int, float))
        or getattr(line_height, "unit", "px") is None
    )


def features(style: Any, where: str) -> tuple[tuple[str, int], ...]:
    settings = style["font_feature_settings"]
    for name, normal in (
        ("font_variant_caps", "normal"),
        ("font_variant_numeric", "normal"),
        ("font_kerning", "auto"),
    ):
        if style[name] != normal:
            raise DesignUnusable(
                f"{where}: {name.replace('_', '-')} is not stamped; set it by "
                'font-feature-settings, such as "tnum" 1'
            )
    return () if settings == "normal" else tuple((str(tag), int(value)) for tag, value in settings)
