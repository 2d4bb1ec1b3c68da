"""What a design's page may fetch: files of its own folder, and the fonts that are installed with Stubline. Nothing else."""

from __future__ import annotations

import hashlib
import io
import mimetypes
from functools import cache
from importlib.metadata import distribution
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image, UnidentifiedImageError
from typing_extensions import override
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from services.delivery.rendering.designs import Design

BASE = "http://design.invalid/"  # relative addresses need a base; the name can never resolve (RFC 6761)
FONTS = "fonts:"
PIXELS_MAX = 16_000_000  # A4 at 400 dpi
SVG_BYTES_MAX = 1_000_000


class FetchRefusedError(FatalURLFetchingError):  # type: ignore[misc]  # weasyprint ships no types
    """Ends the layout: a page that lacks something is worse than none. The message is for the design's author."""


class Folder(URLFetcher):  # type: ignore[misc]  # weasyprint ships no types
    """Serves one design from memory."""

    def __init__(self, design: Design) -> None:
        super().__init__(allowed_protocols=())
        self._design = design
        self.refused: list[str] = []  # what a picture within a picture asks for ends without a word

    @override
    def fetch(self, url: str, headers: Any = None) -> URLFetcherResponse:
        try:
            return self._found(url)
        except FetchRefusedError as error:
            self.refused.append(str(error))
            raise

    def _found(self, url: str) -> URLFetcherResponse:
        if url.startswith(FONTS):
            return URLFetcherResponse(url, font(url.removeprefix(FONTS)), {"Content-Type": "font/ttf"})
        if not url.startswith(BASE):
            raise FetchRefusedError(
                f"asks for {url[:80]!r}: nothing is fetched from elsewhere; put the file into the design's folder"
            )
        path = str(PurePosixPath(unquote(urlsplit(url).path)).relative_to("/"))
        content = self._design.contents.get(path)
        if content is None:
            raise FetchRefusedError(f"asks for `{path[:120]}`, which the folder does not hold")
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        check_image(path, content, kind)
        return URLFetcherResponse(url, content, {"Content-Type": kind})


def check_image(path: str, content: bytes, kind: str) -> None:
    """By its header, before anything unpacks it, and whatever its name says: WeasyPrint looks at the content too."""
    if kind == "image/svg+xml":
        if len(content) > SVG_BYTES_MAX:
            raise FetchRefusedError(f"`{path}` has {len(content):,} bytes; an SVG has {SVG_BYTES_MAX:,} at most")
        return
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        if not kind.startswith("image/") and not isinstance(error, Image.DecompressionBombError):
            return  # no picture, whatever it is
        raise FetchRefusedError(f"`{path}` is no image that can be printed: {error}") from None
    if width * height > PIXELS_MAX:
        raise FetchRefusedError(
            f"`{path}` has {width} x {height} pixels; {PIXELS_MAX:,} at most. Scale it to 300 dpi at its printed size"
        )


@cache
def font_names() -> dict[str, str]:
    """File name -> path of the TrueType files of the font package."""
    found = distribution("font-source-sans-pro").files or []
    return {path.name: str(path.locate()) for path in found if path.suffix == ".ttf"}


@cache
def font(name: str) -> bytes:
    if name not in font_names():
        raise FetchRefusedError(f"asks for the font `{name[:80]}`; installed are {', '.join(sorted(font_names()))}")
    with open(font_names()[name], "rb") as file:  # noqa: PTH123 - a path of the package, read once
        return file.read()


@cache
def fonts_digest() -> str:
    """Of all fonts that come with Stubline: another release of them is another page."""
    told = hashlib.sha256()
    for name in sorted(font_names()):
        told.update(name.encode() + b"\0" + hashlib.sha256(font(name)).digest())
    return told.hexdigest()
