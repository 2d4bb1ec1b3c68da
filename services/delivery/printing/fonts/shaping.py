"""Text as glyphs, placed as Pango places them and written as WeasyPrint writes them.

Widths are in Pango units (1/1024 CSS pixel) at the size in use, so that a stamped text and one that
WeasyPrint sets round to the same value. The adjustments between glyphs are in thousandths of the
size, truncated to whole numbers as WeasyPrint 70 does (weasyprint/draw/text.py).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

import uharfbuzz as hb

UNITS = 1024  # Pango's, per CSS pixel
RUNS_CACHED_MAX = 4_096  # per face: an order's tickets have the same names
# Pango forms no ligatures in text with letter spacing.
LETTERSPACED = {"liga": False, "clig": False, "dlig": False}


# The scripts of stampable characters, by the first word of their names in Unicode, and the language
# that Pango takes for a text of the script where the page's language is not written in it.
LANGUAGES_OF_SCRIPTS = {"LATIN": "en", "GREEK": "el", "CYRILLIC": "ru", "COPTIC": "cop"}
LATIN_SIGNS = ("FEMININE", "MASCULINE")  # ordinal indicators
IN_GREEK = frozenset({"el", "grc"})
IN_CYRILLIC = frozenset(
    {
        *("ab", "av", "ba", "be", "bg", "ce", "cv", "kk", "kv", "ky", "mk", "mn", "os", "ru"),
        *("sah", "sr", "tg", "tt", "tyv", "uk"),
    }
)


@lru_cache(4_096)
def script(character: str) -> str:
    """Return the script of a character; empty for what every script uses."""
    word = unicodedata.name(character, "").partition(" ")[0]
    if word in LATIN_SIGNS:
        return "LATIN"
    return word if word in LANGUAGES_OF_SCRIPTS else ""


def scripts(text: str) -> set[str]:
    return set(map(script, text)) - {""}


def language(of_page: str, text_scripts: AbstractSet[str]) -> str:
    """Return the language by which a text in one script is shaped: the page's, if it is written in
    that script.
    """
    primary = of_page.partition("-")[0].lower()
    if "GREEK" in text_scripts and primary not in IN_GREEK:
        return LANGUAGES_OF_SCRIPTS["GREEK"]
    if "CYRILLIC" in text_scripts and primary not in IN_CYRILLIC:
        return LANGUAGES_OF_SCRIPTS["CYRILLIC"]
    return of_page


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One line. `before` and `after` are how far the pen moves beside each glyph, in thousandths of
    the size.
    """

    ids: tuple[int, ...]
    before: tuple[float, ...]  # empty without letter spacing
    after: tuple[int, ...]
    width: float  # CSS pixels


@dataclass(frozen=True, slots=True)
class TextStyle:
    """The language, letter spacing and font features that CSS sets."""

    language: str = "en"
    letter_spacing: float = 0.0
    features: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Face:
    """A font file ready to shape with."""

    blob: bytes
    widths: Mapping[int, int]  # of the glyphs that the subset has, in thousandths of the size
    _face: hb.Face = field(init=False, repr=False)
    _fonts: dict[int, hb.Font] = field(init=False, default_factory=dict, repr=False)
    _runs: dict[object, Glyphs | None] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._face = hb.Face(self.blob)

    def shape(self, text: str, size: float, style: TextStyle) -> Glyphs | None:
        """Return a line's glyphs, or None if the line cannot be stamped: it needs a glyph that the
        subset lacks, or one that is moved off its position.
        """
        scale = int(size * UNITS)
        key = (
            text,
            scale,
            style.letter_spacing,
            style.language,
            tuple(sorted(style.features.items())),
        )
        if key not in self._runs:
            if len(self._runs) >= RUNS_CACHED_MAX:
                self._runs.clear()
            self._runs[key] = self._shaped(text, scale, style)
        return self._runs[key]

    def line(self, size: float) -> tuple[float, float]:
        """Return ascent and height of a line without leading, in CSS pixels, rounded at this size
        as Pango rounds them.
        """
        extents = self._font(int(size * UNITS)).get_font_extents("ltr")
        return extents.ascender / UNITS, (extents.ascender - extents.descender) / UNITS

    def _font(self, scale: int) -> hb.Font:
        font = self._fonts.get(scale)
        if font is None:
            font = self._fonts[scale] = hb.Font(self._face)
            font.scale = (scale, scale)
        return font

    def _shaped(self, text: str, scale: int, style: TextStyle) -> Glyphs | None:
        shaped_in = style.language
        if not text.isascii():
            text_scripts = scripts(text)
            if len(text_scripts) > 1:
                return None  # Pango shapes each script by itself
            shaped_in = language(style.language, text_scripts)
        font = self._font(scale)
        buffer = hb.Buffer()
        buffer.add_str(text)
        buffer.guess_segment_properties()
        # Not the language of the process's locale.
        buffer.language = shaped_in
        gap = int(style.letter_spacing * UNITS)
        features = {**style.features, **LETTERSPACED} if gap else dict(style.features)
        hb.shape(font, buffer, features)
        return self._placed(buffer, scale, style.letter_spacing)

    def _placed(self, buffer: hb.Buffer, scale: int, spacing_px: float) -> Glyphs | None:
        gap = int(spacing_px * UNITS)
        ids = [info.codepoint for info in buffer.glyph_infos]
        positions = [item.position for item in buffer.glyph_positions]
        kit_widths = self.widths
        if not kit_widths.keys() >= set(ids) or any(
            x_offset or y_offset for x_offset, y_offset, _, _ in positions
        ):
            return None
        if not gap:
            after = tuple(
                [
                    int(kit_widths[glyph] - position[2] * 1000 / scale)
                    for glyph, position in zip(ids, positions, strict=True)
                ]
            )
            return Glyphs(
                tuple(ids), (), after, sum([position[2] for position in positions]) / UNITS
            )
        # Pango puts one half of the gap before each glyph but the first, and the other half after
        # each but the last. It divides as C does, and half of a gap of whole pixels is rounded to
        # whole pixels (pango_glyph_item_letter_space).
        left, last = int(gap / 2), len(ids) - 1
        if gap % UNITS == 0:
            left = (left + UNITS // 2) // UNITS * UNITS
        moved = left / scale * UNITS
        offsets = [left if index else 0 for index in range(len(ids))]
        advances = [
            position[2] + offset + (gap - left if index < last else 0)
            for index, (position, offset) in enumerate(zip(positions, offsets, strict=True))
        ]
        before = tuple(moved if offset else 0.0 for offset in offsets)
        after = tuple(
            int(kit_widths[glyph] + move - advance * 1000 / scale)
            for glyph, move, advance in zip(ids, before, advances, strict=True)
        )
        # WeasyPrint counts the space after the last glyph too, which moves text aligned right.
        return Glyphs(tuple(ids), before, after, sum(advances) / UNITS + spacing_px)
