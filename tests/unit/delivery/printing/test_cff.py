"""A font is handed to WeasyPrint so that every reader finds a glyph by its number: same outlines,
advances and characters.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import uharfbuzz as hb
from fontTools.pens.recordingPen import RecordingPen
from fontTools.ttLib import TTCollection, TTFont

from services.delivery.printing.fonts import fallback, packaged
from services.delivery.printing.fonts.cff import OutlinesUnknownError, keyed_by_number, with_width

TEXT = "東京山田太郎 김철수 AVを7"
SANS = packaged.font("SourceSansPro-Regular.ttf")


def keyed() -> bytes:
    """Keyed by CID, from several font dictionaries, with hints and subroutines; its numbers are not
    its CIDs.
    """
    wanted = hb.SubsetInput()
    wanted.unicode_set.update(map(ord, TEXT))
    return bytes(
        hb.subset(
            fallback.open_face(fallback.family_and_weight("NotoSansCJKjp-Regular.otf")[0]), wanted
        ).blob.data
    )


def glyphs(content: bytes) -> list[tuple[object, float]]:
    """Of each number: what is drawn and how wide it is, by the outlines' own table."""
    font = TTFont(io.BytesIO(content))
    charstrings, outlines = font["CFF "].cff[0].CharStrings, []
    for name in font.getGlyphOrder():
        pen = RecordingPen()
        charstrings[name].draw(pen)
        outlines.append((pen.value, charstrings[name].width))
    return outlines


def test_a_font_keyed_by_cid_keeps_its_glyphs_under_their_numbers() -> None:
    before = keyed()
    after = keyed_by_number(before)
    assert hasattr(TTFont(io.BytesIO(before))["CFF "].cff[0], "ROS")
    assert not hasattr(TTFont(io.BytesIO(after))["CFF "].cff[0], "ROS")
    assert glyphs(before) == glyphs(after)
    one, other = hb.Face(before), hb.Face(after)
    assert set(one.unicodes) == set(other.unicodes)
    assert [hb.Font(one).get_nominal_glyph(ord(character)) for character in TEXT] == [
        hb.Font(other).get_nominal_glyph(ord(character)) for character in TEXT
    ]
    assert (TTFont(io.BytesIO(before)).reader.tables.keys()) == TTFont(
        io.BytesIO(after)
    ).reader.tables.keys()


def test_the_same_font_is_the_same_bytes() -> None:
    before = keyed()
    assert keyed_by_number(before) == keyed_by_number(before)
    assert fallback.font("NotoSansCJKjp-4e.otf") == fallback.font("NotoSansCJKjp-4e.otf")


def test_other_fonts_stay_as_they_are() -> None:
    assert keyed_by_number(SANS) is SANS
    named = keyed_by_number(keyed())
    assert keyed_by_number(named) is named


def test_of_a_collection_the_first_font_is_used(tmp_path: Path) -> None:
    collection = TTCollection()
    collection.fonts = [
        TTFont(io.BytesIO(SANS)),
        TTFont(io.BytesIO(packaged.font("SourceSansPro-Bold.ttf"))),
    ]
    collection.save(tmp_path / "both.ttc")
    alone = keyed_by_number((tmp_path / "both.ttc").read_bytes())
    assert TTFont(io.BytesIO(alone))["name"].getDebugName(6) == TTFont(io.BytesIO(SANS))[
        "name"
    ].getDebugName(6)


@pytest.mark.parametrize("flavor", ["woff", "woff2"])
def test_a_packed_font_is_unpacked_first(flavor: str) -> None:
    before, packed = keyed(), io.BytesIO()
    font = TTFont(io.BytesIO(before))
    font.flavor = flavor
    font.save(packed)
    assert glyphs(keyed_by_number(packed.getvalue())) == glyphs(before)


def test_an_outline_that_begins_like_no_drawing_is_refused() -> None:
    with pytest.raises(OutlinesUnknownError, match="operator 10"):
        with_width(bytes([139, 10, 14]), 500, 1000)
