"""What a text looks like by the outlines of its font: HarfBuzz shapes it, and its contours are
filled here, by no PDF reader.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pymupdf
import pypdfium2
import uharfbuzz as hb
from fontTools.pens.basePen import BasePen
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from typing_extensions import override

Point = tuple[float, float]
Box = tuple[float, float, float, float]
STEPS = 8  # straight lines that stand for a curve
FINER = 4  # of each pixel's side: edges are smoothed as a renderer smooths them
MARGIN = 8  # white pixels around a picture
DARK = 160  # of 255: what counts as ink
NEAR = 2  # pixels by which a picture may lie beside the other
BLUR = 1.5  # pixels


class Contours(BasePen):  # type: ignore[misc]  # fontTools ships no types
    """Curves as straight lines."""

    def __init__(self) -> None:
        super().__init__(None)
        self.contours: list[list[Point]] = []

    @override
    def _moveTo(self, pt: Point) -> None:
        self.contours.append([pt])

    @override
    def _lineTo(self, pt: Point) -> None:
        self.contours[-1].append(pt)

    @override
    def _curveToOne(self, pt1: Point, pt2: Point, pt3: Point) -> None:
        begin = self.contours[-1][-1]
        for at in range(1, STEPS + 1):
            t = at / STEPS
            parts = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            x, y = (
                sum(w * p[i] for w, p in zip(parts, (begin, pt1, pt2, pt3), strict=True))
                for i in (0, 1)
            )
            self.contours[-1].append((x, y))


@dataclass(frozen=True)
class Reference:
    """A line as its font draws it, cut to its ink, and the box of each glyph in it."""

    image: Image.Image
    boxes: Sequence[Box]


def reference(
    face: hb.Face, text: str, em: float, *, weight: int | None = None, language: str = "en"
) -> Reference:
    """`em`: pixels of the font's size. `weight`: of a variable font."""
    font, buffer = hb.Font(face), hb.Buffer()
    if weight is not None:
        font.set_variations({"wght": weight})
    buffer.add_str(text)
    buffer.guess_segment_properties()
    buffer.language = language
    hb.shape(font, buffer)
    assert all(info.codepoint for info in buffer.glyph_infos), f"the font lacks a letter of {text}"
    scale, x = em / face.upem, 0.0
    glyphs = list[list[list[Point]]]()
    for info, place in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
        pen = Contours()
        font.draw_glyph_with_pen(info.codepoint, pen)
        dx, dy = x + place.x_offset, place.y_offset
        glyphs.append(
            [
                [((px + dx) * scale, -(py + dy) * scale) for px, py in contour]
                for contour in pen.contours
            ]
        )
        x += place.x_advance
    image, (left, top) = filled([contour for glyph in glyphs for contour in glyph])
    boxes = [bounds(glyph) for glyph in glyphs if glyph]
    return Reference(image, [(a - left, b - top, c - left, d - top) for a, b, c, d in boxes])


def bounds(contours: Sequence[Sequence[Point]]) -> Box:
    xs, ys = ([point[at] for contour in contours for point in contour] for at in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def filled(contours: Sequence[Sequence[Point]]) -> tuple[Image.Image, Point]:
    """Black on white by the rule of non-zero winding, with a margin; and where its upper left
    corner is.
    """
    left, top, right, bottom = bounds(contours)
    left, top = left - MARGIN, top - MARGIN
    size = (int(right - left + MARGIN) * FINER, int(bottom - top + MARGIN) * FINER)
    winding = Image.new("L", size, 128)
    for contour in contours:
        points = [((x - left) * FINER, (y - top) * FINER) for x, y in contour]
        if len(points) > 2:
            mask = Image.new("L", size, 0)
            ImageDraw.Draw(mask).polygon(points, fill=1)
            winding = (ImageChops.add if area(points) > 0 else ImageChops.subtract)(winding, mask)
    ink = winding.point([255 if level == 128 else 0 for level in range(256)])
    return ink.resize((size[0] // FINER, size[1] // FINER), Image.Resampling.BOX), (left, top)


def area(points: Sequence[Point]) -> float:
    return sum(
        x * v - u * y for (x, y), (u, v) in zip(points, [*points[1:], points[0]], strict=True)
    )


def renderers(pdf: bytes, dpi: float) -> Iterator[tuple[str, Image.Image]]:
    """The first page by two programs that share no code."""
    yield "pdfium", pypdfium2.PdfDocument(pdf)[0].render(scale=dpi / 72).to_pil().convert("L")
    with pymupdf.open(stream=io.BytesIO(pdf)) as document:
        pixels = document[0].get_pixmap(dpi=round(dpi), colorspace=pymupdf.csGRAY)
        yield "MuPDF", Image.frombytes("L", (pixels.width, pixels.height), pixels.samples)


def differences(drawn: Image.Image, wanted: Reference) -> list[float]:
    """Of each glyph: how much of its ink stands elsewhere. 0 is the same picture; 2 is all of it
    beside the other.
    """
    (left, top), (own_left, own_top) = corner(drawn), corner(wanted.image)
    width, height = wanted.image.size
    tries = [
        blurred(drawn.crop((x, y, x + width, y + height)))
        for x in range(left - own_left - NEAR, left - own_left + NEAR + 1)
        for y in range(top - own_top - NEAR, top - own_top + NEAR + 1)
    ]
    theirs = blurred(wanted.image)
    ours = min(
        tries,
        key=lambda picture: darkness(ImageChops.invert(ImageChops.difference(picture, theirs))),
    )
    distances = []
    for box in wanted.boxes:
        place = (round(box[0]), round(box[1]), round(box[2]), round(box[3]))
        one, other = ours.crop(place), theirs.crop(place)
        distances.append(
            darkness(ImageChops.invert(ImageChops.difference(one, other))) / max(1, darkness(other))
        )
    return distances


def corner(image: Image.Image) -> tuple[int, int]:
    box = image.point([255 if level < DARK else 0 for level in range(256)]).getbbox()
    assert box is not None, "nothing is drawn"
    return box[0], box[1]


def blurred(image: Image.Image) -> Image.Image:
    """Two programs smooth an edge in two ways."""
    return image.filter(ImageFilter.GaussianBlur(BLUR))


def darkness(image: Image.Image) -> int:
    return sum((255 - level) * count for level, count in enumerate(image.histogram()))
