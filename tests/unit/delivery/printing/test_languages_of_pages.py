"""Pages of languages with rules of their own: stamped as WeasyPrint sets them, or set whole; and a
campaign's start refuses none of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from services.delivery.printing.design.library import Design, DesignLibrary, DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.stamping import NotStampable
from services.delivery.printing.tools.checks import DesignCheck
from services.delivery.printing.tools.samples import texts
from tests.support.rendering import (
    ADA,
    SPRING,
    compile_design,
    difference,
    make_design,
    picture,
    squeezed,
    text_of,
)

EMOJI = CampaignFacts("gala", "🎤 🎸 🎹 🥁 🎷 🎺 🎻", "", "", "#8c1d40")
WHEN = "الأربعاء، 30 سبتمبر 2026 في 7:30 م (Europe/Vienna)"


def in_language(
    language: str, folder: Path, *, style: str = "", page: tuple[str, str] = ("", "")
) -> Design:
    return make_design(folder, manifest=('["en"]', f'["{language}"]'), style=style, page=page)


def compared_faults(design: Design, facts: CampaignFacts, folder: Path) -> list[str]:
    """The texts of the faults that a campaign's start finds. If there is none, its plate is cached
    as compared.
    """
    variant = DesignVariant(design, next(iter(design.manifest.sizes)), design.manifest.languages[0])
    check = DesignCheck(PlateCache(folder), lambda _: None)
    faults = [finding.text for finding in check.campaign(variant, facts) if finding.kind == "fault"]
    assert PlateCache(folder).is_compared(plate_key(variant, facts)) == (not faults)
    return faults


@pytest.mark.parametrize("language", ["tr", "az", "tr-TR"])
def test_a_turkish_page_is_stamped_with_the_glyphs_of_its_language(
    language: str, tmp_path: Path
) -> None:
    printed = compile_design(
        in_language(language, tmp_path / "made", style=".holder { text-transform: uppercase }")
    )
    texts_of_ticket = ADA | {"holder": "Deniz I\u015f\u0131k İpek fi"}
    fitted, unstampable = printed.split(texts_of_ticket)
    assert unstampable == {}
    assert fitted["holder"].lines == ("DENİZ IŞIK İPEK Fİ",)
    ours, theirs = printed.ours(texts_of_ticket), printed.weasyprints(texts_of_ticket)
    assert difference(picture(ours, 144), picture(theirs, 144), 2) == (0, 0)
    assert squeezed(text_of(ours)) == squeezed(text_of(theirs))


def test_greek_capitals_without_accents_are_left_to_weasyprint(tmp_path: Path) -> None:
    printed = compile_design(
        in_language("el", tmp_path / "made", style=".holder { text-transform: uppercase }")
    )
    with pytest.raises(NotStampable, match="capitals"):
        printed.stamp.fitted("holder", "Ágnes")
    texts_of_ticket = ADA | {"holder": "Ágnes Ölçer"}
    assert difference(
        picture(printed.ours(texts_of_ticket), 144),
        picture(printed.weasyprints(texts_of_ticket), 144),
        2,
    ) == (
        0,
        0,
    )
    assert printed.stamp.fitted("holder", "Agnes").lines == ("AGNES",)


def test_a_bracket_that_is_mirrored_reads_as_it_was_written(tmp_path: Path) -> None:
    page = (
        "</body>",
        '<p dir="rtl" style="position: absolute; top: 140mm">{{ campaign.when }}</p></body>',
    )
    facts = CampaignFacts("gala", "Gala", WHEN, "", "#8c1d40")
    design = in_language("ar", tmp_path / "made", page=page)
    printed = compile_design(design, facts=facts)
    ours, theirs = text_of(printed.ours(ADA)), text_of(printed.weasyprints(ADA))
    assert squeezed(ours) == squeezed(theirs)
    assert compared_faults(design, facts, tmp_path / "shelf") == []


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["event-ticket-a4", "event-ticket-a5", "raffle-entry-phone"])
def test_a_campaign_with_emoji_in_its_name_may_start(reference: str, tmp_path: Path) -> None:
    variant = DesignLibrary().choose(reference)
    check = DesignCheck(PlateCache(tmp_path / "shelf"), lambda _: None)
    assert [
        finding.text for finding in check.campaign(variant, EMOJI) if finding.kind == "fault"
    ] == []


def test_a_font_that_lacks_a_character_and_a_name_that_is_cut_are_no_fault(tmp_path: Path) -> None:
    style = (
        '@font-face { font-family: Plex; src: url("fonts:IBMPlexSansArabic-Regular.ttf") } '
        "html { font-family: Plex }"
    )
    design = make_design(tmp_path / "made", style=style)
    printed = compile_design(design)
    assert [
        what
        for what, texts_of_ticket in texts(design)
        if printed.split({**ADA, **texts_of_ticket})[1]
    ] != []  # some are set whole
    assert compared_faults(design, SPRING, tmp_path / "shelf") == []
