"""What a design's page may fetch: files of its own folder, and the fonts that are installed with Stubline. Nothing else."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from fontTools.ttLib import TTLibError
from PIL import Image, UnidentifiedImageError
from typing_extensions import override
from weasyprint.text.ffi import ffi, fontconfig, pangoft2
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from services.delivery.rendering import cff, fallback, packaged
from services.delivery.rendering.designs import Design
from services.delivery.rendering.links import BASE

FONTS = "fonts:"
FONTS_OF_SCRIPTS = "docs/how-to/make-a-design.md, Fonts of other scripts"
PIXELS_MAX = 16_000_000  # A4 at 400 dpi
SVG_BYTES_MAX = 1_000_000
FAMILY, EMOJI = b"family", b"emoji"  # fontconfig's word, and the family that Pango asks for where a text has emoji
OURS = [family.css.encode() for family in fallback.FAMILIES]
TAG_LETTERS = 6
TAGGED = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd"><fontconfig><match target="font">
<test name="file" compare="eq"><string>{file}</string></test>
<edit name="family" mode="assign_replace" binding="same"><string>{family}</string></edit></match></fontconfig>"""
ffi.cdef("""
    typedef void (*SubstituteFunc) (FcPattern *pattern, void *data);
    void pango_ft2_font_map_set_default_substitute (
        PangoFontMap *map, SubstituteFunc function, void *data, void *notify);
    FcConfig * FcConfigCreate (void);
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
        return URLFetcherResponse(url, readable(path, content), {"Content-Type": kind})


class Fonts(FontConfiguration):  # type: ignore[misc]  # as above
    """The fonts that a design declares, and after them ours of other scripts. The machine's fonts and rules are not read.

    WeasyPrint takes two fonts of one description (family, weight, style, width) for one file, and draws the glyph numbers of
    the second from the first. So each file has a family of its own once it was chosen: the declared one and a tag. The glyphs
    of a slice of a large font, or of the second `unicode-range` of a family, can then not be drawn from another file.

    Knows where each comes from: WeasyPrint says only the name of one that is broken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        self._config = fontconfig.FcConfigCreate()
        pangoft2.pango_fc_font_map_set_config(ffi.cast("PangoFcFontMap *", self.font_map), self._config)
        fontconfig.FcConfigDestroy(self._config)  # the map has its own reference
        self._sequence = ffi.callback("SubstituteFunc", in_sequence)  # Pango keeps no reference to it
        pangoft2.pango_ft2_font_map_set_default_substitute(self.font_map, self._sequence, ffi.NULL, ffi.NULL)

    @override
    def add_font_face(self, rule_descriptors: Any, url_fetcher: Any) -> Any:
        addresses = [str(address).removeprefix(BASE) for _, address in rule_descriptors["src"] if address]
        family = rule_descriptors["font_family"]
        self.sources[family] = ", ".join(addresses)
        before = self._files()
        super().add_font_face(rule_descriptors, url_fetcher)
        for file in self._files() - before:
            rule = TAGGED.format(file=escape(file.as_posix()), family=escape(tagged(family, str(rule_descriptors))))
            fontconfig.FcConfigParseAndLoadFromMemory(self._config, rule.encode(), True)
            pangoft2.pango_fc_font_map_config_changed(ffi.cast("PangoFcFontMap *", self.font_map))

    def _files(self) -> set[Path]:
        return set(self._folder.iterdir()) if self._folder else set()

    def told_of(self, message: str) -> str:
        """What WeasyPrint says of a font that it cannot load, with its file."""
        for family, sources in self.sources.items():
            if message == f"Font-face {family!r} cannot be loaded":
                return f"the font {family!r} cannot be loaded from `{sources[:120]}`: give it a font file (TTF, OTF, WOFF, WOFF2)"
        return message


def tagged(family: str, rule: str) -> str:
    """Six letters by the whole rule: the same on each machine, whatever was declared before."""
    letters = (chr(97 + byte % 26) for byte in hashlib.sha256(rule.encode()).digest()[:TAG_LETTERS])
    return f"{family} {''.join(letters)}"


def untagged(family: str) -> str:
    """As the style sheet declares it."""
    return family[: -TAG_LETTERS - 1]


def in_sequence(pattern: Any, _: Any) -> None:
    """Our fonts come after all families that a text asks for by name."""
    if next(families(pattern), b"") == EMOJI:
        # Pango's own question, for emoji alone and whatever the design says.
        fontconfig.FcPatternDel(pattern, FAMILY)
        fontconfig.FcPatternAddString(pattern, FAMILY, fallback.EMOJI.css.encode())
    for family in OURS:
        fontconfig.FcPatternAddString(pattern, FAMILY, family)


def readable(path: str, content: bytes) -> bytes:
    """A font of the design as every reader of a PDF finds its glyphs. What is no font is left to whoever asked for it."""
    if not content.startswith(cff.FONTS):
        return content
    try:
        return cff.found_by_number(content)
    except cff.CharstringUnknownError as error:
        raise FetchRefusedError(
            f"`{path}` has outlines of an unusual kind ({error}): save the font as TrueType"
        ) from None
    except (TTLibError, OSError, ValueError, LookupError, struct.error, AssertionError):
        return content  # WeasyPrint says that the font cannot be loaded


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
