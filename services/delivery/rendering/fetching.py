"""What a design's page may fetch: files of its own folder, and the fonts that are installed with Stubline. Nothing else."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image, UnidentifiedImageError
from typing_extensions import override
from weasyprint.text.ffi import ffi, fontconfig, pangoft2
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from services.delivery.rendering import fallback, packaged
from services.delivery.rendering.designs import Design
from services.delivery.rendering.links import BASE

FONTS = "fonts:"
FONTS_OF_SCRIPTS = "docs/how-to/make-a-design.md, Fonts of other scripts"
PIXELS_MAX = 16_000_000  # A4 at 400 dpi
SVG_BYTES_MAX = 1_000_000
FAMILY, EMOJI = b"family", b"emoji"  # fontconfig's word, and the family that Pango asks for where a text has emoji
OURS = [family.css.encode() for family in fallback.FAMILIES]
# A fallback font is never slanted nor emboldened by the machine's own rules: each has others.
UPRIGHT = f"""<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd"><fontconfig><match target="font">
<test name="family" compare="contains"><string>{fallback.OURS}</string></test>
<edit name="embolden" mode="assign"><bool>false</bool></edit><edit name="matrix" mode="assign"><matrix>
<double>1</double><double>0</double><double>0</double><double>1</double></matrix></edit></match></fontconfig>"""
ffi.cdef("""
    typedef void (*SubstituteFunc) (FcPattern *pattern, void *data);
    void pango_ft2_font_map_set_default_substitute (
        PangoFontMap *map, SubstituteFunc function, void *data, void *notify);
    FcBool FcPatternDel (FcPattern *pattern, const char *object);
""")


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


class Fonts(FontConfiguration):  # type: ignore[misc]  # as above
    """Those that a design declares; behind them ours, of other scripts; behind those whatever the machine has.

    Knows where each comes from: WeasyPrint says only the name of one that is broken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        fontconfig.FcConfigParseAndLoadFromMemory(self._config, UPRIGHT.encode(), True)
        self._sequence = ffi.callback("SubstituteFunc", in_sequence(self._config))  # Pango keeps no reference to it
        pangoft2.pango_ft2_font_map_set_default_substitute(self.font_map, self._sequence, ffi.NULL, ffi.NULL)

    @override
    def add_font_face(self, rule_descriptors: Any, url_fetcher: Any) -> Any:
        addresses = [str(address).removeprefix(BASE) for _, address in rule_descriptors["src"] if address]
        self.sources[rule_descriptors["font_family"]] = ", ".join(addresses)
        return super().add_font_face(rule_descriptors, url_fetcher)

    def told_of(self, message: str) -> str:
        """What WeasyPrint says of a font that it cannot load, with its file."""
        for family, sources in self.sources.items():
            if message == f"Font-face {family!r} cannot be loaded":
                return f"the font {family!r} cannot be loaded from `{sources[:120]}`: give it a font file (TTF, OTF, WOFF, WOFF2)"
        return message


def in_sequence(config: Any) -> Callable[[Any, Any], None]:
    """Behind all families that a text asks for by name, and before those that the machine has for want of a better one."""
    bare = ffi.gc(fontconfig.FcPatternCreate(), fontconfig.FcPatternDestroy)
    fontconfig.FcPatternAddString(bare, FAMILY, EMOJI)
    fontconfig.FcConfigSubstitute(config, bare, fontconfig.FcMatchPattern)
    machines = next(families(bare))  # its own emoji font, which its rules may put first

    def substitute(pattern: Any, _: Any) -> None:
        asked = list(families(pattern))
        if EMOJI in asked and asked[0] == machines:
            # Pango's own question, for emoji alone and whatever the design says: each machine answers it with another font.
            fontconfig.FcPatternDel(pattern, FAMILY)
            fontconfig.FcPatternAddString(pattern, FAMILY, fallback.EMOJI.css.encode())
        for family in OURS:
            fontconfig.FcPatternAddString(pattern, FAMILY, family)

    return substitute


def families(pattern: Any) -> Iterator[bytes]:
    found = ffi.new("FcChar8 **")
    for at in count():
        if fontconfig.FcPatternGetString(pattern, FAMILY, at, found):
            return
        yield ffi.string(found[0])


def check_image(path: str, content: bytes, kind: str) -> None:
    """By its header, before anything unpacks it, and whatever its name says: WeasyPrint looks at the content too."""
    is_svg = kind == "image/svg+xml"
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        if is_svg and isinstance(error, UnidentifiedImageError):
            if len(content) > SVG_BYTES_MAX:
                raise FetchRefusedError(
                    f"`{path}` has {len(content):,} bytes; an SVG has {SVG_BYTES_MAX:,} at most"
                ) from None
            return
        if not kind.startswith("image/") and not isinstance(error, Image.DecompressionBombError):
            return  # no picture, whatever it is
        why = "cut off, or of a kind that nobody knows" if isinstance(error, UnidentifiedImageError) else error
        raise FetchRefusedError(f"`{path}` is no image that can be printed: {why}: save it as PNG or JPEG") from None
    if width * height > PIXELS_MAX:
        raise FetchRefusedError(
            f"`{path}` has {width} x {height} pixels; {PIXELS_MAX:,} at most. Scale it to 300 dpi at its printed size"
        )


def font(name: str) -> bytes:
    """Of those that come with Stubline. Raises FetchRefusedError."""
    if fallback.is_known(name):
        return fallback.font(name)
    if name not in packaged.font_names():
        raise FetchRefusedError(
            f"asks for the font `{name[:80]}`; installed are {', '.join(sorted(packaged.font_names()))}, and those of {FONTS_OF_SCRIPTS}"
        )
    return packaged.font(name)
