"""Pages as pixels: rasterised, compared, put side by side, compressed."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pypdfium2
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

POINTS_PER_INCH, CSS_PIXELS_PER_INCH = 72, 96
# Half a thousandth of a pixel decides whether pdfium sets a glyph a third of a pixel further, so
# edges may differ a little: by at most 29 levels of 255 after a blur of three pixels, in all pages
# that were tried. A missing glyph differs by 100.
SOFT_PIXELS, LEVELS_MAX = 1, 48
GAP, CAPTION = 16, 26
PAPER, INK, DIFFERS = (229, 231, 235), (31, 41, 55), (220, 38, 38)
COLOURS = 32


@dataclass(frozen=True, slots=True)
class PixelDifference:
    """How many pixels differ by more than edges may differ, the greatest difference in levels of
    255, and its place in CSS pixels.
    """

    pixels: int
    most: int
    box: tuple[float, float, float, float] | None


def raster(pdf: bytes, dpi: float, page: int = 0) -> Image.Image:
    document = pypdfium2.PdfDocument(pdf)
    try:
        shown: Image.Image = document[page].render(scale=dpi / POINTS_PER_INCH).to_pil()
        return shown.convert("RGB")
    finally:
        document.close()


def text_of(pdf: bytes) -> str:
    """Return the first page's text as a reader's search sees it."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        text: str = document[0].get_textpage().get_text_range()
        return text
    finally:
        document.close()


def differences(one: Image.Image, other: Image.Image) -> Image.Image:
    """Return the differences in levels, without those that edges may have."""
    soft = ImageFilter.BoxBlur(SOFT_PIXELS)
    red, green, blue = ImageChops.difference(one.filter(soft), other.filter(soft)).split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def compare(one: Image.Image, other: Image.Image, dpi: float) -> PixelDifference:
    if one.size != other.size:
        return PixelDifference(one.width * one.height, 255, None)
    levels = differences(one, other)
    counts = levels.histogram()
    most = max(level for level, count in enumerate(counts) if count)
    box = levels.point(lambda level: 255 if level > LEVELS_MAX else 0).getbbox()
    where = None if box is None else tuple(side * CSS_PIXELS_PER_INCH / dpi for side in box)
    return PixelDifference(sum(counts[LEVELS_MAX + 1 :]), most, where)  # type: ignore[arg-type]  # four of them


def side_by_side(
    stamped: Image.Image, reference: Image.Image, difference: PixelDifference
) -> Image.Image:
    """Return both pages, and what differs in red on a faint page."""
    faint = Image.blend(
        reference.convert("L").convert("RGB"), Image.new("RGB", reference.size, "white"), 0.8
    )
    if stamped.size == reference.size:
        mask = differences(stamped, reference).point(lambda level: 255 if level > LEVELS_MAX else 0)
        faint.paste(Image.new("RGB", reference.size, DIFFERS), mask=mask)
    caption_text = (
        "no difference" if not difference.pixels else f"{difference.pixels} pixels differ"
    )
    parts = ((stamped, "stamped"), (reference, "WeasyPrint"), (faint, caption_text))
    height = max(part.height for part, _ in parts)
    picture = Image.new(
        "RGB", (sum(part.width + GAP for part, _ in parts) + GAP, height + CAPTION + GAP), PAPER
    )
    draw, font, x = ImageDraw.Draw(picture), ImageFont.load_default(size=14), GAP
    for part, caption in parts:
        draw.text((x, 5), caption, INK, font=font)
        picture.paste(part, (x, CAPTION))
        x += part.width + GAP
    return picture


def png(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()


def small_png(image: Image.Image) -> bytes:
    """Return a PNG with few colours, for pages of documentation."""
    packed = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()
