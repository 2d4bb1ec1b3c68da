"""A file claims to be PDF/UA-1, and veraPDF finds it to be so; a strict reader has nothing to
complain of; its fonts are ours.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pikepdf
import pymupdf
import pytest
import uharfbuzz as hb

from services.delivery.printing.fonts import fallback, packaged
from tests.support import pdfs, verapdf
from tests.support.corpus import LATIN, ODD
from tests.support.rendering import (
    ADA,
    SPRING,
    VARIANTS,
    CompiledDesign,
    compile_design,
    compiled_design,
    document_of,
    make_design,
    renderer,
    text_of,
    ticket,
)

ROOT = Path(__file__).resolve().parents[4]
SHEET = "event-ticket-a5"
GOTHIC, HIEROGLYPH = "\U00010348", "\U00013000"  # no font here has them
CONTROLS = "a\x01b\x1bc\x7fd\x9be\ufefff\ue000g\U0010ffffh\u0600\u0890i\ufffej"
NAMES = {
    "plain": "Ada Lovelace",
    **{name: LATIN[name] for name in ("accents", "string of a PDF", "decomposed")},
    **{name: text for name, text in ODD.items() if "long" not in name and "book" not in name},
    "Chinese, long": ODD["Chinese, long"],
    "several slices": "中文 山田太郎 김철수",
    "signs": "⌘ ☃ ✓ ♥ ★",
    "Gothic": f"Ada {GOTHIC} 7",
    "missing beside Chinese": f"王{HIEROGLYPH}明",
    "missing alone": HIEROGLYPH,
    "controls": CONTROLS,
}
CAMPAIGNS = {"Japanese campaign": "東京音楽祭と花火大会", "emoji campaign": "🎄 Christmas Gala"}


def cid_keyed() -> bytes:
    """A font that a designer may bring: PostScript outlines keyed by CID, whose glyph numbers are
    not its CIDs.
    """
    wanted = hb.SubsetInput()
    wanted.unicode_set.update(range(0x20, 0x7F))
    wanted.unicode_set.update(map(ord, "東京山田太郎"))
    wanted.layout_feature_tag_set.clear()
    cjk = fallback.family_and_weight("NotoSansCJKjp-Regular.otf")[0]
    return bytes(hb.subset(fallback.open_face(cjk), wanted).blob.data)


def with_own_font(folder: Path) -> CompiledDesign:
    style = '@font-face { font-family: Own; src: url("own.otf") } html { font-family: Own }'
    return compile_design(make_design(folder / "door", style=style, files={"own.otf": cid_keyed()}))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The ticket of each name, every built-in design, campaigns, many tickets in one file, a
    design's own fonts.
    """
    files = {
        name: compiled_design(SHEET).ours({**ADA, "holder": text}) for name, text in NAMES.items()
    }
    files |= {sheet: compiled_design(sheet).ours(ADA) for sheet in VARIANTS}
    files |= {
        f"{sheet}, unstampable": compiled_design(sheet).ours(
            {**ADA, "holder": "山田太郎", "purchaser": GOTHIC}
        )
        for sheet in VARIANTS
    }
    for what, name in CAMPAIGNS.items():
        at_work = compiled_design(SHEET, replace(SPRING, name=name))
        files |= {
            what: at_work.ours(ADA),
            f"{what}, unstampable": at_work.ours({**ADA, "holder": "김철수"}),
        }
    own = with_own_font(tmp_path_factory.mktemp("design"))
    files |= {
        "own font": own.ours(ADA),
        "own font, unstampable": own.ours({**ADA, "holder": "東京 山田"}),
    }
    many = document_of(
        *(ticket(at, holder=text) for at, text in enumerate(NAMES.values())),
        ticket(99, design="e-ticket"),
    )
    pages = {page.design: page for page in many.pages}
    files["many tickets"] = renderer(tmp_path_factory.mktemp("shelf"), *pages.values()).render(many)
    return files


@pytest.fixture(scope="module")
def verdicts(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    return verapdf.faults(files, tmp_path_factory.mktemp("verapdf"))


@pytest.mark.slow
@pytest.mark.feature("SF-053", "SF-054")
def test_every_file_is_the_pdf_ua_that_it_claims_to_be(verdicts: dict[str, list[str]]) -> None:
    assert {name: broken for name, broken in verdicts.items() if broken} == {}


def test_the_validator_finds_what_is_wrong(tmp_path: Path) -> None:
    good = compiled_design(SHEET).ours(ADA)
    packed = io.BytesIO()
    with pdfs.opened(good) as document:
        del document.Root.Lang
        del document.Root.MarkInfo
        document.save(packed)
    files = verapdf.faults({"good": good, "bad": packed.getvalue()}, tmp_path)
    assert files["good"] == []
    assert files["bad"]


@pytest.mark.slow
def test_a_strict_reader_has_nothing_to_complain_of(files: dict[str, bytes]) -> None:
    for name, pdf in files.items():
        pymupdf.TOOLS.reset_mupdf_warnings()
        with pymupdf.open(stream=io.BytesIO(pdf)) as document:
            for page in document:
                page.get_pixmap(dpi=50)
        assert pymupdf.TOOLS.mupdf_warnings() == "", name


@pytest.mark.slow
def test_no_glyph_is_notdef_and_no_font_is_the_machines(files: dict[str, bytes]) -> None:
    own = {"Own"} | {f"Stubline-{family.name}" for family in fallback.FAMILIES}
    own |= {name.partition(".")[0].partition("-")[0] for name in packaged.font_names()}
    for name, pdf in files.items():
        with pdfs.opened(pdf) as document:
            for page in document.pages:
                for font in page.Resources.get("/Font", pikepdf.Dictionary()).values():
                    family = str(font.BaseFont).rpartition("+")[2]
                    assert any(
                        family.replace("-", "").startswith(name.replace("-", "")) for name in own
                    ), (name, family)
                assert not {glyph for glyph in pdfs.glyphs_of(page) if not glyph[1]}, name
                assert all(font.is_plain for font in pdfs.fonts_of(page).values()), name


def test_a_character_that_no_font_has_is_a_replacement_character_and_is_counted() -> None:
    at_work = compiled_design(SHEET)
    plate = at_work.plate_with_texts_of({"holder": f"Ada {GOTHIC}{HIEROGLYPH}{GOTHIC}"})
    assert plate.missing == "".join(sorted({GOTHIC, HIEROGLYPH}))
    assert "Ada \ufffd\ufffd\ufffd" in text_of(
        at_work.ours({**ADA, "holder": f"Ada {GOTHIC}{HIEROGLYPH}{GOTHIC}"})
    )


PRINTING = """
import hashlib, sys
from tests.support.rendering import ADA, compiled_design
for name in sys.argv[1:]:
    print(hashlib.sha256(compiled_design("event-ticket-a5").ours({**ADA, "holder": name})).hexdigest())
"""  # noqa: E501 - a row of a table, or a program


@pytest.mark.slow
@pytest.mark.feature("SF-055")
def test_fonts_of_the_machine_change_nothing(tmp_path: Path) -> None:
    """Present or absent, whatever the text: also characters that only a font of the machine has."""
    bare = tmp_path / "fonts.conf"
    bare.write_text('<?xml version="1.0"?><fontconfig></fontconfig>', "utf-8")
    names = [
        "Ada Lovelace",
        *(NAMES[name] for name in ("several slices", "signs", "Gothic", "controls")),
    ]
    printed = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PRINTING, *names],
            env=env, cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split()
        for env in (dict(os.environ), {**os.environ, "FONTCONFIG_FILE": str(bare)})
    ]  # fmt: skip
    assert len(printed[0]) == len(names)
    assert printed[0] == printed[1]
