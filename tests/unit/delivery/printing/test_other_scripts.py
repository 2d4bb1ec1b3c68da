"""A name in any common script has real letters, and the same ones on every machine: no font is the
machine's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pikepdf
import pytest
from structlog.testing import capture_logs

from services.delivery import metrics
from services.delivery.printing.compile.layout import PageTemplate
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.fonts import fallback
from services.delivery.sender.telemetry import SenderLoggingTelemetry
from services.runtime.observability.health import Health
from services.runtime.observability.metrics import value_of
from tests.support.corpus import ODD
from tests.support.pdfs import opened
from tests.support.rendering import (
    ADA,
    SPRING,
    CompiledDesign,
    compile_template,
    compiled_design,
    difference,
    make_design,
    picture,
    squeezed,
    template_of,
    text_of,
)

ROOT = Path(__file__).resolve().parents[4]
SHEET = "event-ticket-a5"
# Text -> the family that has its letters; where a glyph stands for several characters, pdfium
# reports them in its own order.
SCRIPTS = {
    "Chinese": (ODD["Chinese"], "NotoSansCJKjp"),
    "Chinese, long": (ODD["Chinese, long"], "NotoSansCJKjp"),
    "Japanese": (ODD["Japanese"], "NotoSansCJKjp"),
    "Korean": (ODD["Korean"], "NotoSansCJKjp"),
    "Arabic": (ODD["Arabic"], "IBMPlexSansArabic"),
    "Maghrebi": ("ڢ", "NotoSansArabic"),
    "Hebrew": (ODD["Hebrew"], "NotoSansHebrew"),
    "Devanagari": (ODD["Devanagari"], "NotoSansDevanagari"),
    "Thai": (ODD["Thai"], "NotoSansThai"),
    "Tamil": (ODD["Tamil"], "NotoSansTamil"),
    "Georgian": ("გიორგი", "NotoSansGeorgian"),
    "emoji": (ODD["emoji"], "NotoEmoji"),
    "mixed": (ODD["mixed"], "IBMPlexSansArabic"),
}
UNORDERED = {
    "Arabic",
    "Hebrew",
    "emoji",
    "mixed",
    "Chinese, long",
}  # from right to left, joined to one picture, or cut
CAMPAIGNS = {
    "Japanese": "東京コンサート",
    "emoji": "🎄 Christmas Gala",
    "Devanagari": "संगीत समारोह",
}
NOBODYS = "\U00013000"  # a hieroglyph
TICKET_BYTES_MAX = 60_000
PRINTING = """
import hashlib, sys
from tests.support.rendering import ADA, compiled_design
for name in sys.argv[1:]:
    print(hashlib.sha256(compiled_design("event-ticket-a5").ours({**ADA, "holder": name})).hexdigest())
"""  # noqa: E501 - a row of a table, or a program


def fonts_of(pdf: bytes) -> set[str]:
    with opened(pdf) as document:
        fonts = document.pages[0].Resources.get("/Font", pikepdf.Dictionary()).values()
        return {str(font.BaseFont).rpartition("+")[2] for font in fonts}


def compiled_again() -> CompiledDesign:
    return compile_template(PageTemplate(DesignLibrary().choose(SHEET), SPRING))


@pytest.mark.feature("SF-054")
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_name_in_another_script_has_glyphs_of_our_fonts(script: str) -> None:
    name, family = SCRIPTS[script]
    at_work, texts = compiled_design(SHEET), {**ADA, "holder": name}
    pdf = at_work.ours(texts)
    assert at_work.plate_with_texts_of({"holder": name}).missing == ""
    fonts = fonts_of(pdf)
    assert any(font.startswith(f"Stubline-{family}") for font in fonts)
    assert [font for font in fonts if not re.match(r"Stubline-|Source-?Sans-?Pro", font)] == []
    text_shown = squeezed(text_of(pdf))
    if script in UNORDERED:
        assert {character for character in name if character.isalpha()} <= set(text_shown)
    else:
        assert squeezed(name) in text_shown
    one, other = picture(pdf, 144), picture(at_work.weasyprints(texts), 144)
    assert difference(one, other, 2)[1] == 0


def test_the_proof_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our fonts no font has the letters: those of the machine are not used."""
    monkeypatch.setattr(fallback, "needed", lambda _: ())
    at_work = compiled_again()
    assert set(ODD["Chinese"]) <= set(
        at_work.plate_with_texts_of({"holder": ODD["Chinese"]}).missing
    )
    assert not any(
        font.startswith("Stubline-")
        for font in fonts_of(at_work.ours({**ADA, "holder": ODD["Hebrew"]}))
    )


def test_a_ticket_with_a_name_in_another_script_is_small() -> None:
    for script in ("Chinese", "Korean", "Devanagari", "emoji", "mixed"):
        assert (
            len(compiled_design(SHEET).ours({**ADA, "holder": SCRIPTS[script][0]}))
            < TICKET_BYTES_MAX
        ), script


def test_what_was_printed_before_changes_nothing() -> None:
    """A helper process lays out one text after another, and reads a font when the first of them
    needs it.
    """
    used = compiled_again()
    for name, _ in SCRIPTS.values():
        used.plate_with_texts_of({"holder": name})
    for script in ("Chinese", "Hebrew", "emoji", "mixed"):
        texts = {**ADA, "holder": SCRIPTS[script][0]}
        assert compiled_again().ours(texts) == used.ours(texts), script


@pytest.mark.feature("SF-055")
def test_a_machine_without_any_font_prints_the_same_bytes(tmp_path: Path) -> None:
    bare = tmp_path / "fonts.conf"
    bare.write_text('<?xml version="1.0"?><fontconfig></fontconfig>', "utf-8")
    names = [
        "Ada Lovelace",
        *(SCRIPTS[script][0] for script in ("Chinese", "Devanagari", "Hebrew", "emoji", "mixed")),
    ]
    command = [sys.executable, "-W", "ignore", "-c", PRINTING, *names]
    here, there = (
        subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        for env in (dict(os.environ), {**os.environ, "FONTCONFIG_FILE": str(bare)})
    )
    assert len(here) == len(names)
    assert here == there


@pytest.mark.parametrize("script", CAMPAIGNS)
def test_a_campaign_is_called_as_it_likes(script: str) -> None:
    name = CAMPAIGNS[script]
    at_work = compiled_design(SHEET, replace(SPRING, name=name))
    pdf = at_work.ours(ADA)
    assert squeezed(name) in squeezed(text_of(pdf))
    assert difference(picture(pdf, 144), picture(at_work.weasyprints(ADA), 144), 2)[1] == 0


def test_a_campaigns_character_that_no_font_has_is_an_error_with_a_remedy() -> None:
    sheet = PageTemplate(DesignLibrary().choose(SHEET), replace(SPRING, name=f"Gala {NOBODYS}"))
    with pytest.raises(
        DesignUnusable, match=r"no font here has: put a font that has it into the folder"
    ):
        compile_template(sheet)


def test_a_design_may_name_our_fonts_itself(tmp_path: Path) -> None:
    style = (
        '@font-face { font-family: Mine; src: url("fonts:NotoSansHebrew-Bold.ttf") } .holder '
        "{ font-family: Source, Mine }"
    )
    at_work = compile_template(template_of(make_design(tmp_path / "door", style=style)))
    fonts = fonts_of(at_work.ours({**ADA, "holder": ODD["Hebrew"]}))
    assert [font for font in fonts if font.startswith("Stubline-")] == []


def test_a_design_that_names_emoji_last_keeps_its_glyphs(tmp_path: Path) -> None:
    style = ".holder { font-family: Source, emoji }"
    at_work = compile_template(template_of(make_design(tmp_path / "door", style=style)))
    fonts = fonts_of(at_work.ours({**ADA, "holder": "Ada 🎟️ 7"}))
    assert [font for font in fonts if "Stubline-NotoSans" in font] == []
    assert any(font.startswith("Stubline-NotoEmoji") for font in fonts)


def test_every_font_that_is_needed_exists() -> None:
    for name in fallback.names():
        family, _ = fallback.family_and_weight(name)
        assert family.name in name
        assert fallback.font(name)[:4] in {b"\0\1\0\0", b"OTTO"}, name


def test_a_common_text_reads_no_font_of_another_script() -> None:
    assert fallback.needed("Ada Łovelace, Ελένη © 2026 №7") == (
        "NotoSans-Regular.ttf",
        "NotoSans-Bold.ttf",
    )
    assert fallback.needed("王小明")[2:] == tuple(
        f"NotoSansCJKjp-{block}.otf" for block in ("5c", "66", "73")
    )


def test_a_character_that_no_font_has_is_counted_and_logged_once_without_its_text() -> None:
    before = value_of(metrics.CHARACTERS_MISSING.name)
    with capture_logs() as lines:
        telemetry = SenderLoggingTelemetry(Health())
        telemetry.characters_missing("event-ticket", "holder", 3)
        telemetry.characters_missing("event-ticket", "holder", 2)
    assert value_of(metrics.CHARACTERS_MISSING.name) == before + 5
    assert [(line["design"], line["field"]) for line in lines] == [("event-ticket", "holder")]
