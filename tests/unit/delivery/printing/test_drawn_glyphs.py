"""Each character is drawn with the outline that its font has for it, whichever program reads the
file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import uharfbuzz as hb
from PIL import Image

from services.delivery.printing.fonts import fallback, packaged
from services.delivery.printing.fonts.fallback import EMOJI, FAMILIES, FallbackFamily
from tests.support.outlines import differences, reference, renderers
from tests.support.rendering import ADA, SPRING, CompiledDesign, compile_design, make_design

DPI = 200
SIZE_PT = 22.0
EM = SIZE_PT * DPI / 72
FIELD, HEADING = (15.0, 42.0, 148.0, 75.0), (15.0, 4.0, 148.0, 30.0)  # mm: left, top, right, bottom
MOST_APART = 0.35  # of a glyph's ink: what two ways of smoothing an edge make of a thin line
SAMPLE_CHARS = 6
STYLE = """
h1 {{ white-space: nowrap; font-size: {size}pt; font-weight: 400; width: 120mm; height: 20mm }}
.holder {{ font-size: {size}pt; font-weight: {weight}; width: 120mm; height: 20mm }}
"""
# What people are called, with characters of several slices of the font in each.
NAMES = {
    "NotoSansCJKjp": ("中文", "山田太郎", "김철수", "東京音楽祭と花", "カナさくら"),
    "NotoSans": ("Достоевский", "Ελευθερία"),
    "IBMPlexSansArabic": ("محمد",),
    "NotoSansHebrew": ("דוד",),
    "NotoSansDevanagari": ("मोहनदास",),
    "NotoSansThai": ("สมชาย",),
    "NotoSansTamil": ("கமல்ஹாசன்",),
    "NotoSansGeorgian": ("გიორგი",),
    "NotoEmoji": ("🎄🎟🐱",),
}


Box = tuple[float, float, float, float]


def latin(*, only: str = "", leave_out: str = "") -> bytes:
    """A font of a design that has the letters of English, so that all others come from ours."""
    wanted = hb.SubsetInput()
    wanted.unicode_set.update(
        map(ord, only)
        if only
        else (code for code in range(0x20, 0x7F) if chr(code) not in leave_out)
    )
    return bytes(hb.subset(hb.Face(packaged.font("SourceSansPro-Regular.ttf")), wanted).blob.data)


Printer = Callable[..., CompiledDesign]


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> Printer:
    """Presses of one small design: in a weight, in a font that it names itself, for a campaign."""

    @cache
    def layout_with(
        weight: int = 400, font: str = "", campaign: str = SPRING.name
    ) -> CompiledDesign:
        style = STYLE.format(size=SIZE_PT, weight=weight)
        if font:
            style += (
                f'@font-face {{ font-family: Own; src: url("{font}") }} .holder {{ '
                "font-family: Own }"
            )
        else:
            style += (
                '@font-face { font-family: Latin; src: url("latin.ttf") } html { '
                "font-family: Latin }"
            )
        folder = tmp_path_factory.mktemp("design")
        return compile_design(
            make_design(folder / "door", style=style, files={"latin.ttf": latin()}),
            facts=replace(SPRING, name=campaign),
        )

    return layout_with


def sample(family: FallbackFamily) -> str:
    """Letters that this font is the first to have, evenly spread over all of it; signs if it has no
    letters.
    """
    before = FAMILIES[: FAMILIES.index(family)]
    own = [
        code
        for code in sorted(unicodes(family))
        if code > 0x7F
        and not 0xFB00 <= code <= 0xFEFF  # shapes of letters, not letters
        and not any(code in unicodes(earlier) for earlier in before)
        and (family is EMOJI or code not in unicodes(EMOJI))
        and unicodedata.normalize("NFKC", chr(code)) == chr(code)
    ]
    native_script = [code for code in own if unicodedata.category(chr(code)) in {"Lo", "Ll"}]
    sample = (
        native_script
        if len(native_script) >= SAMPLE_CHARS
        else [code for code in own if unicodedata.category(chr(code)) == "So"]
    )
    return "".join(
        chr(sample[at * (len(sample) - 1) // (SAMPLE_CHARS - 1)]) for at in range(SAMPLE_CHARS)
    )


@cache
def unicodes(family: FallbackFamily) -> frozenset[int]:
    return frozenset(fallback.open_face(family).unicodes)


# Without a text: letters of all of the font. A large font is the same in bold.
CASES = [
    *((family, name, 400) for family in FAMILIES for name in (*NAMES.get(family.name, ()), "")),
    *((family, "", 700) for family in FAMILIES if family.weights),
]


def face_of(family: FallbackFamily, weight: int) -> tuple[hb.Face, int | None]:
    """The packaged file itself, and the weight if the file has all of them."""
    if not family.weights:
        return fallback.open_face(family), None
    if "[wght]" in family.file:
        return fallback.open_face(family), weight
    return fallback.open_face(family, {400: "Regular", 700: "Bold"}[weight]), None


def part(shown: Image.Image, box: Box) -> Image.Image:
    left, top, right, bottom = (round(side * DPI / 25.4) for side in box)
    return shown.crop((left, top, min(right, shown.width), bottom))


def assert_drawn(pdf: bytes, box: Box, text: str, face: hb.Face, weight: int | None = None) -> None:
    wanted = reference(face, text, EM, weight=weight)
    for name, shown in renderers(pdf, DPI):
        distances = differences(part(shown, box), wanted)
        assert distances, name
        assert max(distances) < MOST_APART, (
            name,
            text,
            [round(distance, 2) for distance in distances],
        )


@pytest.mark.feature("SF-054")
@pytest.mark.parametrize(
    ("family", "name", "weight"), CASES, ids=lambda value: getattr(value, "name", str(value))
)
def test_each_character_of_a_name_has_the_outline_of_its_font(
    printer: Printer, family: FallbackFamily, name: str, weight: int
) -> None:
    text = name or sample(family)
    pdf = printer(weight).ours({**ADA, "holder": text})
    assert_drawn(pdf, FIELD, text, *face_of(family, weight))


@pytest.mark.parametrize("name", sorted(packaged.font_names()))
def test_each_character_that_is_stamped_has_the_outline_of_its_font(
    printer: Printer, name: str
) -> None:
    at_work, text = printer(400, f"fonts:{name}"), "Ada Łőžåğ 27"
    assert not at_work.split({**ADA, "holder": text})[1], "it is stamped"
    assert_drawn(at_work.ours({**ADA, "holder": text}), FIELD, text, hb.Face(packaged.font(name)))


@pytest.mark.parametrize("name", ["東京音楽祭と花", "火大会山田太郎"])
def test_each_character_of_a_campaigns_name_has_the_outline_of_its_font(
    printer: Printer, name: str
) -> None:
    at_work, cjk = (
        printer(campaign=name),
        fallback.family_and_weight("NotoSansCJKjp-Regular.otf")[0],
    )
    assert_drawn(at_work.ours(ADA), HEADING, name, fallback.open_face(cjk))
    with_holder = at_work.ours({**ADA, "holder": "김철수"})
    assert_drawn(with_holder, HEADING, name, fallback.open_face(cjk))
    assert_drawn(with_holder, FIELD, "김철수", fallback.open_face(cjk))


def test_a_family_of_two_files_is_drawn_from_both(tmp_path: Path) -> None:
    """Divided by `unicode-range`, as font services hand them out: the second file has other glyphs
    under the same numbers.
    """
    parts = {"most.ttf": latin(leave_out="xyz"), "xyz.ttf": latin(only="xyz")}
    style = STYLE.format(size=SIZE_PT, weight=400) + "html { font-family: Own }"
    for file, codes in (("most.ttf", "U+0020-0077, U+007B-007E"), ("xyz.ttf", "U+0078-007A")):
        style += f'@font-face {{ font-family: Own; src: url("{file}"); unicode-range: {codes} }}'
    at_work = compile_design(make_design(tmp_path / "door", style=style, files=parts))
    assert_drawn(at_work.ours({**ADA, "holder": "zyx"}), FIELD, "zyx", hb.Face(latin()))


def test_the_proof_can_fail(printer: Printer) -> None:
    """One character of another slice, and one of the same slice: what a wrong file drew."""
    cjk = fallback.family_and_weight("NotoSansCJKjp-Regular.otf")[0]
    pdf = printer(400).ours({**ADA, "holder": "中文"})
    for other in ("中享", "丮文"):
        with pytest.raises(AssertionError):
            assert_drawn(pdf, FIELD, other, fallback.open_face(cjk))
