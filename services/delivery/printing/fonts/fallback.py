"""The fallback fonts, which come with Stubline for what a design's own fonts lack: other scripts,
signs and emoji. They are the same on every machine.

A file is made only when a text needs it. HarfBuzz takes milliseconds for one weight of a variable
font, or one slice of a large one. The result is a static font, with the same bytes for the same
release of the font and of HarfBuzz.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import PurePath

import uharfbuzz as hb

from services.delivery.printing.fonts import cff

NOTO, PLEX, CJK = "manimgx-fonts", "fontpkg-ibm-plex-sans-arabic", "noto-cjk-sans-jp-regular"
PACKAGES = (NOTO, PLEX, CJK)
# Begins the families' names: the machine may have a font of the same name and another release.
FAMILY_PREFIX = "Stubline "
WEIGHTS = {"Regular": 400, "Bold": 700}
SLICE = re.compile(r"(\w+)-([0-9a-f]{2,3})\.otf")
# Variation selectors, which choose among the shapes of the character before them.
SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
# Unicode's Default_Ignorable_Code_Point, beyond those of category Cf.
UNDRAWN = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x3164, 0xFFA0}
)
# Characters of category Cf that have a shape all the same.
DRAWN_FORMATS = (
    *((0x0600, 0x0605), (0x06DD, 0x06DD), (0x070F, 0x070F), (0x0890, 0x0891), (0x08E2, 0x08E2)),
    *((0xFFF9, 0xFFFB), (0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x13430, 0x1343F)),
)
BLANKS, OGHAM_SPACE = "\t\n\r", 0x1680  # the one space that has a shape
SPACES = (0x20, 0xA0, 0x3000)  # which are set in the font of the character before them
VERTICAL = (b"vhea", b"vmtx", b"VORG")  # tables for vertical text, which no page has
NAMES = (1, 6)  # family and PostScript name
EMOJI_FROM = 0x2000  # a character below it is an emoji only if TO_EMOJI follows
TO_EMOJI = "\ufe0f"


@dataclass(frozen=True, slots=True)
class FallbackFamily:
    """A variable font file, or a file for each weight. Without `weights` the family is the same in
    bold, and so large that texts get slices of it.

    A slice has 256 characters. An embedded font has an entry for each glyph of its file, and 65,535
    of them are more than a ticket should carry.
    """

    name: str
    package: str = NOTO
    file: str = "{}[wght].ttf"  # name, and weight where it has one
    weights: tuple[str, ...] = tuple(WEIGHTS)

    @property
    def css(self) -> str:
        return FAMILY_PREFIX + self.name

    def names(self, codes: Iterable[int]) -> list[str]:
        """Return the names of the files that have these characters, as `fonts:` addresses them."""
        if self.weights:
            return [f"{self.name}-{weight}.ttf" for weight in self.weights]
        return [f"{self.name}-{block:02x}.otf" for block in sorted({code >> 8 for code in codes})]


EMOJI = FallbackFamily("NotoEmoji")
EUROPEAN = FallbackFamily("NotoSans")  # Latin, Greek, Cyrillic
# The order in which a character is looked up. It may not depend on texts that came before.
FAMILIES = (
    EUROPEAN,
    # Before Noto's Arabic, whose dots are glyphs of their own, so that a PDF reader cannot know to
    # which character they belong.
    FallbackFamily("IBMPlexSansArabic", PLEX, "{}-{}.ttf"),
    *(
        FallbackFamily(f"NotoSans{script}")
        for script in (
            "Arabic",
            "Armenian",
            "Bengali",
            "Devanagari",
            "Ethiopic",
            "Georgian",
            "Gujarati",
            "Gurmukhi",
            "Hebrew",
            "Kannada",
            "Khmer",
            "Lao",
            "Malayalam",
            "Myanmar",
            "Oriya",
            "Sinhala",
            "Tamil",
            "Telugu",
            "Thai",
        )
    ),
    FallbackFamily("NotoSansCJKjp", CJK, "{}-{}.otf", ()),  # Chinese, Japanese, Korean
    FallbackFamily("NotoSansSymbols"),
    EMOJI,
)


def needed(text: str) -> tuple[str, ...]:
    """Return the files that have what is in a text, whether the design's fonts have it or not."""
    wanted: dict[FallbackFamily, set[int]] = {EUROPEAN: set()}  # always: nearly every text needs it
    is_emoji = TO_EMOJI in text
    for code in {ord(character) for character in text if not is_ignorable(character)}:
        wanted.setdefault(
            next((family for family in FAMILIES if code in open_face(family).unicodes), EUROPEAN),
            set(),
        ).add(code)
        if (code >= EMOJI_FROM or is_emoji) and code in open_face(EMOJI).unicodes:
            wanted.setdefault(EMOJI, set())  # Pango tries an emoji's font before it tries a sign's
    return tuple(
        name for family in FAMILIES if family in wanted for name in family.names(wanted[family])
    )


def is_ignorable(character: str) -> bool:
    """Return whether a character joins, directs or selects others, or is a space: no glyph of its
    own is drawn, whether a font has one or not.
    """
    code = ord(character)
    if character in BLANKS or code in UNDRAWN or code in SELECTORS:
        return True
    category = unicodedata.category(character)
    if category == "Zs":
        return code != OGHAM_SPACE
    return category == "Cf" and not any(first <= code <= last for first, last in DRAWN_FORMATS)


def font_face_rule(name: str) -> str:
    """Return the CSS rule that declares a file."""
    family, weight = family_and_weight(name)
    return (
        f'@font-face{{font-family:"{family.css}";font-weight:{WEIGHTS.get(weight, 400)};'
        f'src:url("fonts:{name}")}}'
    )


def is_fallback(family: str) -> bool:
    return family.startswith(FAMILY_PREFIX)


@cache
def open_face(family: FallbackFamily, weight: str = "Regular") -> hb.Face:
    """Return the face, mapped and not read."""
    wanted = family.file.format(family.name, weight)
    files = (file for file in distribution(family.package).files or [] if file.name == wanted)
    return hb.Face(hb.Blob.from_file_path(str(next(files).locate())))


@cache
def names() -> dict[str, tuple[FallbackFamily, str]]:
    """Return the file names that a design may use -> family and weight."""
    return {
        f"{family.name}-{weight}{PurePath(family.file).suffix}": (family, weight)
        for family in FAMILIES
        for weight in family.weights or ("Regular",)
    }


def family_and_weight(name: str) -> tuple[FallbackFamily, str]:
    """Return family and weight, or slice. Raises KeyError."""
    if match := SLICE.fullmatch(name):
        return names()[f"{match[1]}-Regular.otf"][0], match[2]
    return names()[name]


def is_known(name: str) -> bool:
    return name in names() or (
        (match := SLICE.fullmatch(name)) is not None and f"{match[1]}-Regular.otf" in names()
    )


def font(name: str) -> bytes:
    """Return the font file. It is not cached, because a template declares it once and WeasyPrint
    keeps a copy.
    """
    family, weight = family_and_weight(name)
    wanted = hb.SubsetInput()
    if weight in WEIGHTS and "[wght]" not in family.file:
        return cff.keyed_by_number(bytes(open_face(family, weight).blob.data))
    if weight in WEIGHTS:
        wanted.keep_everything()
        wanted.pin_axis_location(open_face(family), "wght", float(WEIGHTS[weight]))
    else:
        first, known = int(weight, 16) << 8, open_face(family).unicodes
        wanted.unicode_set.update(code for code in range(first, first + 256) if code in known)
        wanted.unicode_set.update((*SPACES, *SELECTORS))
        wanted.drop_table_tag_set.update(int.from_bytes(name, "big") for name in VERTICAL)
        wanted.name_id_set.clear()
        wanted.name_id_set.update(NAMES)
        wanted.flags = hb.SubsetFlags.NO_HINTING | hb.SubsetFlags.DESUBROUTINIZE
    return cff.keyed_by_number(bytes(hb.subset(open_face(family), wanted).blob.data))
