"""Serves what a design's page may fetch: files of its own folder, and the fonts that are installed
with Stubline.
"""

from __future__ import annotations

import io
import mimetypes
import struct
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from fontTools.ttLib import TTLibError
from PIL import Image, UnidentifiedImageError
from typing_extensions import override
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from services.delivery.printing.design.library import Design
from services.delivery.printing.design.links import BASE
from services.delivery.printing.fonts import cff, fallback, packaged

FONTS = "fonts:"
FONTS_OF_SCRIPTS = "docs/how-to/make-a-design.md, Fonts of other scripts"
PIXELS_MAX = 16_000_000  # A4 at 400 dpi
SVG_BYTES_MAX = 1_000_000


class FetchRefusedError(FatalURLFetchingError):  # type: ignore[misc]  # weasyprint ships no types
    """Ends the layout: no page is better than an incomplete one. The message is for the design's
    author.
    """


class DesignFetcher(URLFetcher):  # type: ignore[misc]  # weasyprint ships no types
    """Serves one design from memory."""

    def __init__(self, design: Design) -> None:
        super().__init__(allowed_protocols=())
        self._design = design
        self.refused: list[str] = []  # a fetch of a picture within a picture fails silently

    @override
    def fetch(self, url: str, headers: Any = None) -> URLFetcherResponse:
        try:
            return self._response(url)
        except FetchRefusedError as error:
            self.refused.append(str(error))
            raise

    def _response(self, url: str) -> URLFetcherResponse:
        if url.startswith(FONTS):
            return URLFetcherResponse(
                url, font(url.removeprefix(FONTS)), {"Content-Type": "font/ttf"}
            )
        if not url.startswith(BASE):
            raise FetchRefusedError(
                f"requests {url[:80]!r}: nothing is fetched from elsewhere; put the file into the "
                "design's folder"
            )
        path = str(PurePosixPath(unquote(urlsplit(url).path)).relative_to("/"))
        content = self._design.contents.get(path)
        if content is None:
            raise FetchRefusedError(f"requests `{path[:120]}`, which the folder does not hold")
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        check_image(path, content, kind)
        return URLFetcherResponse(url, font_by_glyph_number(path, content), {"Content-Type": kind})


def font_by_glyph_number(path: str, content: bytes) -> bytes:
    """Return a font of the design in the form in which every PDF reader finds its glyphs, and any
    other file unchanged.
    """
    if not content.startswith(cff.FONTS):
        return content
    try:
        return cff.keyed_by_number(content)
    except cff.OutlinesUnknownError as error:
        raise FetchRefusedError(
            f"`{path}` has outlines of an unusual kind ({error}): save the font as TrueType"
        ) from None
    except (TTLibError, OSError, ValueError, LookupError, struct.error, AssertionError):
        return content  # WeasyPrint reports that the font cannot be loaded


def check_image(path: str, content: bytes, kind: str) -> None:
    """Check a picture by its header before anything decodes it. Its file name does not count,
    because WeasyPrint goes by the content too.
    """
    is_svg = kind == "image/svg+xml"
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
    ) as error:
        if is_svg and isinstance(error, UnidentifiedImageError):
            if len(content) > SVG_BYTES_MAX:
                raise FetchRefusedError(
                    f"`{path}` has {len(content):,} bytes; an SVG has {SVG_BYTES_MAX:,} at most"
                ) from None
            return
        if not kind.startswith("image/") and not isinstance(error, Image.DecompressionBombError):
            return  # not a picture
        cause = (
            "truncated, or of an unknown kind"
            if isinstance(error, UnidentifiedImageError)
            else error
        )
        raise FetchRefusedError(
            f"`{path}` is not an image that can be printed: {cause}: save it as PNG or JPEG"
        ) from None
    if width * height > PIXELS_MAX:
        raise FetchRefusedError(
            f"`{path}` has {width} x {height} pixels; {PIXELS_MAX:,} at most. Scale it to 300 dpi "
            "at its printed size"
        )


def font(name: str) -> bytes:
    """Return one of the fonts that come with Stubline. Raises FetchRefusedError."""
    if fallback.is_known(name):
        return fallback.font(name)
    if name not in packaged.font_names():
        raise FetchRefusedError(
            f"requests the font `{name[:80]}`; installed are "
            f"{', '.join(sorted(packaged.font_names()))}, and those of {FONTS_OF_SCRIPTS}"
        )
    return packaged.font(name)
