"""A font subset: one font file cut to the characters that designs are compiled for.

A document embeds one font of each face, with the common glyphs, which nearly every document has,
and of all others only those that it shows. So a plain name does not carry the glyphs of forty
languages. Glyph ids stay those of the file, so that both ways of printing write the same.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import uharfbuzz as hb
from fontTools.ttLib import TTFont

from services.delivery.printing.errors import PlateUnreadable
from services.delivery.printing.fonts.programs import Outlines, cut_outlines, from_json, to_json
from services.delivery.printing.fonts.shaping import Face
from services.delivery.printing.plates import PlateBlobs, pack, unpack

MAGIC = b"stubline-face-3\n"
# The characters of names, numbers and addresses, whose glyphs are in every file.
COMMON = ((0x20, 0x20), (0x27, 0x29), (0x2C, 0x3A), (0x40, 0x5A), (0x61, 0x7A))
# Latin with all European accents, Greek, Cyrillic, and punctuation, as far as the font has them.
# Combining and right-to-left text is laid out.
STAMPED = (
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x1E00, 0x1FFF),
    (0x2010, 0x2044),
    (0x20AC, 0x20AC),
    (0x2116, 0x2122),
)
LIGATURE_CHARACTERS_MAX = 4


@dataclass(frozen=True)
class FontSubset:
    """All that is needed of one font file to stamp texts and to embed it."""

    digest: str
    family: str
    # The font for the shaper: the same glyph ids, kerning and ligatures, and no outlines.
    blob: bytes = field(repr=False)
    characters: frozenset[str] = field(repr=False)
    widths: Mapping[int, int] = field(repr=False)
    glyphs: Mapping[int, str] = field(repr=False)  # those in the subset -> their texts
    common: frozenset[int] = field(repr=False)  # glyphs that each document has
    outlines: Outlines = field(repr=False)
    metrics: tuple[int, ...]  # ascent, descent and bounding box in thousandths of the size
    is_cff: bool = False

    @cached_property
    def face(self) -> Face:
        return Face(self.blob, self.widths)


class FontSubsets(Protocol):
    """Where subsets are cached."""

    def subset(self, digest: str) -> FontSubset | None: ...


def require_subset(subsets: FontSubsets, digest: str) -> FontSubset:
    subset = subsets.subset(digest)
    if subset is None:
        raise PlateUnreadable(f"the face {digest[:12]} is missing")
    return subset


def digest_of(content: bytes, index: int, family: str, extra: str, tags: frozenset[str]) -> str:
    """Return the hash of all that a subset is made of. The family is part of it, because two
    designs may name one file differently and a PDF holds the name.
    """
    parts = (
        f"{hb.__version__} {COMMON} {STAMPED} {index} {sorted(tags)} "
        f"{''.join(sorted(set(extra)))} {family} "
    )
    return hashlib.sha256(MAGIC + parts.encode() + hashlib.sha256(content).digest()).hexdigest()


def compile_subset(
    content: bytes, index: int, family: str, extra: str, tags: frozenset[str]
) -> FontSubset:
    """Return the subset of a font file. `tags` are the features that fields switch on; their glyphs
    are in the subset too. Raises what fontTools raises.
    """
    font = TTFont(io.BytesIO(content), fontNumber=index, lazy=True)
    characters, glyphs, common = covered_glyphs(font, extra, tags)
    face = hb.Face(content, index)
    upem, hmtx, head, hhea = face.upem, font["hmtx"].metrics, font["head"], font["hhea"]
    names, is_cff = font.getGlyphOrder(), font.sfntVersion == "OTTO"
    lengths = (hhea.ascent, hhea.descent, head.xMin, head.yMin, head.xMax, head.yMax)

    def thousandths(units: float) -> int:
        return int(round(units * 1000 / upem))  # noqa: RUF046 - the library's numbers have no types

    return FontSubset(
        digest=digest_of(content, index, family, extra, tags),
        family=family,
        blob=for_shaping(face, characters),
        characters=characters,
        widths={glyph: thousandths(hmtx[names[glyph]][0]) for glyph in glyphs},
        glyphs=glyphs,
        common=frozenset(common),
        outlines=cut_outlines(face, glyphs, common, is_cff=is_cff),
        metrics=tuple(map(thousandths, lengths)),
        is_cff=is_cff,
    )


def covered_glyphs(
    font: TTFont, extra: str, tags: frozenset[str]
) -> tuple[frozenset[str], dict[int, str], set[int]]:
    """Return the characters that the font has, their glyphs with their texts, and which of these
    every document embeds.
    """
    cmap: dict[int, str] = font.getBestCmap()
    ids = font.getReverseGlyphMap()
    wanted = [*code_points(STAMPED), *map(ord, extra)]
    known = {code for code in wanted if code in cmap and is_plain(chr(code))}
    # Of two characters with one glyph, the first counts.
    texts = {ids[cmap[code]]: chr(code) for code in sorted(known, reverse=True)}
    common = {ids[cmap[code]] for code in code_points(COMMON) if code in known}
    shapes = other_shapes(font, texts, ids, tags)
    common_texts = {glyph: texts[glyph] for glyph in common}
    common |= shapes.keys() & other_shapes(font, common_texts, ids, tags).keys()
    glyphs = dict(sorted((ligatures(font, texts, ids) | shapes | texts).items()))
    return frozenset(map(chr, known)), glyphs, common


def code_points(ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    for first, last in ranges:
        yield from range(first, last + 1)


def is_plain(character: str) -> bool:
    """Return whether a character neither combines with another nor runs from right to left."""
    return unicodedata.combining(character) == 0 and unicodedata.bidirectional(character) not in {
        "R",
        "AL",
        "RLE",
        "RLO",
        "RLI",
    }


def ligatures(font: TTFont, known: Mapping[int, str], ids: Mapping[str, int]) -> dict[int, str]:
    """Return the glyphs of all ligatures of known characters, each with its text."""
    if "GSUB" not in font or font["GSUB"].table.LookupList is None:
        return {}
    texts = dict[int, str]()
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for subtable in lookup.SubTable:
            table = getattr(subtable, "ExtSubTable", subtable)
            for first, ligature_set in getattr(table, "ligatures", {}).items():
                for ligature in ligature_set:
                    parts = [known.get(ids[name]) for name in (first, *ligature.Component)]
                    if (
                        len(parts) <= LIGATURE_CHARACTERS_MAX
                        and None not in parts
                        and ids[ligature.LigGlyph] not in known
                    ):
                        texts[ids[ligature.LigGlyph]] = "".join(filter(None, parts))
    return texts


def other_shapes(
    font: TTFont, known: Mapping[int, str], ids: Mapping[str, int], tags: frozenset[str]
) -> dict[int, str]:
    """Return the glyphs that these features substitute for known ones, such as tabular digits, each
    with its text.
    """
    if not tags or "GSUB" not in font or font["GSUB"].table.FeatureList is None:
        return {}
    table, texts = font["GSUB"].table, dict[int, str]()
    wanted = {
        at
        for record in table.FeatureList.FeatureRecord
        if record.FeatureTag in tags
        for at in record.Feature.LookupListIndex
    }
    for at in sorted(wanted):
        for subtable in table.LookupList.Lookup[at].SubTable:
            substitutions = getattr(getattr(subtable, "ExtSubTable", subtable), "mapping", {})
            for usual, shape in substitutions.items():
                if ids[usual] in known and isinstance(shape, str) and ids[shape] not in known:
                    texts[ids[shape]] = known[ids[usual]]
    return texts


def for_shaping(face: hb.Face, characters: Iterable[str]) -> bytes:
    """Return the font without outlines: the shaper needs none."""
    wanted = hb.SubsetInput()
    wanted.sets(hb.SubsetInputSets.UNICODE).update(map(ord, characters))
    features = wanted.sets(hb.SubsetInputSets.LAYOUT_FEATURE_TAG)
    features.clear()
    features.invert()  # all of them
    wanted.sets(hb.SubsetInputSets.DROP_TABLE_TAG).update(
        tag(name) for name in ("glyf", "loca", "CFF ", "fpgm", "prep", "cvt ", "post", "name")
    )
    wanted.flags = hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING
    return bytes(hb.subset(face, wanted).blob.data)


def tag(name: str) -> int:
    return int.from_bytes(name.encode(), "big")


def to_bytes(subset: FontSubset) -> bytes:
    blobs = PlateBlobs()
    outlines, parts = to_json(subset.outlines)
    head = {
        "digest": subset.digest,
        "family": subset.family,
        "blob": blobs.add(subset.blob),
        "characters": "".join(sorted(subset.characters)),
        "widths": [list(subset.widths), list(subset.widths.values())],
        "glyphs": list(subset.glyphs.values()),
        "common": sorted(subset.common),
        "outlines": outlines,
        "packed": [blobs.add(zlib.compress(part)) for part in parts],
        "metrics": subset.metrics,
        "is_cff": subset.is_cff,
    }
    return pack(MAGIC, head, blobs)


def from_bytes(packed: bytes) -> FontSubset:
    """Raises PlateUnreadable."""
    head, blobs = unpack(MAGIC, packed)
    try:
        return subset_from_json(head, blobs)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, zlib.error) as error:
        raise PlateUnreadable(str(error)) from None


def subset_from_json(head: dict[str, Any], blobs: list[bytes]) -> FontSubset:
    return FontSubset(
        digest=head["digest"],
        family=head["family"],
        blob=blobs[head["blob"]],
        characters=frozenset(head["characters"]),
        widths=dict(zip(*head["widths"], strict=True)),
        glyphs=dict(zip(head["widths"][0], head["glyphs"], strict=True)),
        common=frozenset(head["common"]),
        outlines=from_json(
            head["outlines"],
            [zlib.decompress(blobs[part]) for part in head["packed"]],
            is_cff=head["is_cff"],
        ),
        metrics=tuple(head["metrics"]),
        is_cff=head["is_cff"],
    )
