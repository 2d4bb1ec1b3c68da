"""The fonts of one template, among which fontconfig and Pango choose: the design's own, then the
fallback fonts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from typing_extensions import override
from weasyprint.text.ffi import ffi, fontconfig, pangoft2
from weasyprint.text.fonts import FontConfiguration

from services.delivery.printing.design.links import BASE
from services.delivery.printing.fonts import fallback

# U+FFFD, a question mark in a diamond: Unicode's sign for a character that cannot be shown
REPLACEMENT = "\ufffd"
# Pango draws these from the font of the character before them, which lacks them.
NEVER_CHOSEN = "\u0890\u0891"
FAMILY, CHARSET = b"family", b"charset"  # fontconfig's words
EMOJI = b"emoji"  # the family that Pango requests for emoji
FALLBACK_FAMILIES = [family.css.encode() for family in fallback.FAMILIES]
TAG_CHARACTERS = 6
TAGGED = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><match target="font">
<test name="file" compare="eq"><string>{file}</string></test>
<edit name="family" mode="assign_replace" binding="same"><string>{family}</string></edit>
</match></fontconfig>"""
ffi.cdef("""
    typedef void (*SubstituteFunc) (FcPattern *pattern, void *data);
    void pango_ft2_font_map_set_default_substitute (
        PangoFontMap *map, SubstituteFunc function, void *data, void *notify);
    FcConfig * FcConfigCreate (void);
    typedef struct _FcCharSet FcCharSet;
    FcPattern * FcFontRenderPrepare (FcConfig *config, FcPattern *pattern, FcPattern *font);
    FcResult FcPatternGetCharSet (FcPattern *pattern, const char *object, int n, FcCharSet **set);
    FcBool FcCharSetHasChar (FcCharSet *set, unsigned int character);
    FcBool FcPatternDel (FcPattern *pattern, const char *object);
""")


class DesignFonts(FontConfiguration):  # type: ignore[misc]  # weasyprint ships no types
    """The fonts that a design declares, and after them the fallback fonts. The machine's fonts and
    rules are not read.

    WeasyPrint takes two fonts of one description (family, weight, style, width) for one file, and
    draws the glyph numbers of the second from the first. So each file that was chosen gets a family
    of its own: the declared one and a tag. The glyphs of a slice of a large font, or of the second
    `unicode-range` of a family, can then not be drawn from another file.

    `sources` has the file of each family, because WeasyPrint's message about a broken font only
    names the family.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        self._config = fontconfig.FcConfigCreate()
        pangoft2.pango_fc_font_map_set_config(
            ffi.cast("PangoFcFontMap *", self.font_map), self._config
        )
        fontconfig.FcConfigDestroy(self._config)  # the map has its own reference
        # Kept here, because Pango keeps no reference to it.
        self._sequence = ffi.callback("SubstituteFunc", append_fallbacks)
        pangoft2.pango_ft2_font_map_set_default_substitute(
            self.font_map, self._sequence, ffi.NULL, ffi.NULL
        )

    @override
    def add_font_face(self, rule_descriptors: Any, url_fetcher: Any) -> Any:
        addresses = [
            str(address).removeprefix(BASE) for _, address in rule_descriptors["src"] if address
        ]
        family = rule_descriptors["font_family"]
        self.sources[family] = ", ".join(addresses)
        before = self._files()
        super().add_font_face(rule_descriptors, url_fetcher)
        for file in self._files() - before:
            rule = TAGGED.format(
                file=escape(file.as_posix()), family=escape(tagged(family, str(rule_descriptors)))
            )
            self.__dict__.pop("_coverage", None)
            fontconfig.FcConfigParseAndLoadFromMemory(self._config, rule.encode(), True)
            pangoft2.pango_fc_font_map_config_changed(ffi.cast("PangoFcFontMap *", self.font_map))

    def _files(self) -> set[Path]:
        return set(self._folder.iterdir()) if self._folder else set()

    def shown(self, text: str, *, is_upper: bool = False) -> tuple[str, str]:
        """Return the text with U+FFFD for each character that no font has, and those characters.

        A PDF may not show the glyph `.notdef` that WeasyPrint would draw there (PDF/UA-1, 7.21.8).
        """
        shown, missing = list[str](), set[str]()
        for character in text:
            drawn = character.upper() if is_upper else character
            if all(map(self._has, drawn)):
                shown.append(character)
            elif all(map(self._has, parts := unicodedata.normalize("NFD", drawn))):
                shown.append(parts)
            else:
                shown.append(REPLACEMENT)
                missing.add(character)
        return "".join(shown), "".join(sorted(missing))

    def _has(self, character: str) -> bool:
        """Decide as Pango does: by what the files cover, less what a `unicode-range` leaves out."""
        code = ord(character)
        return character not in NEVER_CHOSEN and (
            fallback.is_ignorable(character)
            or any(fontconfig.FcCharSetHasChar(charset, code) for _, charset in self._coverage)
        )

    @cached_property
    def _coverage(self) -> list[tuple[Any, Any]]:
        """Return each font's character set, with the pattern that owns it. Recomputed when a font
        is added.
        """
        fonts, coverage = fontconfig.FcConfigGetFonts(self._config, fontconfig.FcSetApplication), []
        bare = ffi.gc(fontconfig.FcPatternCreate(), fontconfig.FcPatternDestroy)
        for at in range(fonts.nfont if fonts != ffi.NULL else 0):
            prepared = fontconfig.FcFontRenderPrepare(self._config, bare, fonts.fonts[at])
            owner, charset = ffi.gc(prepared, fontconfig.FcPatternDestroy), ffi.new("FcCharSet **")
            if (
                fontconfig.FcPatternGetCharSet(owner, CHARSET, 0, charset)
                == fontconfig.FcResultMatch
            ):
                coverage.append((owner, charset[0]))
        return coverage

    def with_source(self, message: str) -> str:
        """Return WeasyPrint's message about a font that it cannot load, with the font's file."""
        for family, sources in self.sources.items():
            if message == f"Font-face {family!r} cannot be loaded":
                return (
                    f"the font {family!r} cannot be loaded from `{sources[:120]}`: give it a "
                    "font file (TTF, OTF, WOFF, WOFF2)"
                )
        return message


def tagged(family: str, rule: str) -> str:
    """Return the family with six letters of the rule's hash, which are the same on each machine and
    do not depend on earlier rules.
    """
    digest = hashlib.sha256(rule.encode()).digest()
    tag = "".join(chr(ord("a") + byte % 26) for byte in digest[:TAG_CHARACTERS])
    return f"{family} {tag}"


def untagged(family: str) -> str:
    """Return the family as the style sheet declares it."""
    return family[: -TAG_CHARACTERS - 1]


def append_fallbacks(pattern: Any, _: Any) -> None:
    """Append the fallback fonts after all families that a text names."""
    if next(families(pattern), b"") == EMOJI:
        # Pango's own request for emoji, which replaces the families that the design names.
        fontconfig.FcPatternDel(pattern, FAMILY)
        fontconfig.FcPatternAddString(pattern, FAMILY, fallback.EMOJI.css.encode())
    for family in FALLBACK_FAMILIES:
        fontconfig.FcPatternAddString(pattern, FAMILY, family)


def families(pattern: Any) -> Iterator[bytes]:
    family = ffi.new("FcChar8 **")
    for at in count():
        if fontconfig.FcPatternGetString(pattern, FAMILY, at, family):
            return
        yield ffi.string(family[0])
