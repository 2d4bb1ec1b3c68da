"""What a campaign may say and become, and how a file that says something else is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.issuer.campaign_file import read
from services.issuer.errors import CampaignFileInvalid
from services.issuer.rules.campaigns import CampaignDefinition, StoredCampaign, change, refusals
from services.issuer.worker import codes

GOOD = """
[[campaign]]
id = "draw"
name = "Gala Draw"
sources = ["shop", "other"]
skus = ["DRAW"]
product_ids = ["99"]
mode = "shuffled"
prefix = "G"
start = 500
padding = 6
capacity = 1000
date = 2027-04-10
time = "20:00"
zone = "Europe/Dublin"
venue = "Old Customs House"
"""


def definition(**changed: Any) -> CampaignDefinition:
    said = {"id": "draw", "name": "Gala Draw", "sources": ["shop"], "skus": ["DRAW"]}
    return CampaignDefinition.model_validate(said | changed)


def standing(issued: int, **said: Any) -> StoredCampaign:
    return StoredCampaign(3, definition(**said).content(), issued)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "campaigns.toml"
    file.write_text(GOOD)
    (found,) = read(file)
    assert (found.id, found.mode, found.capacity, found.content()["date"]) == (
        "draw",
        "shuffled",
        1000,
        "2027-04-10",
    )
    assert found.products() == {
        (source, kind, name)
        for source in ("shop", "other")
        for kind, name in (("sku", "DRAW"), ("product_id", "99"))
    }


@pytest.mark.parametrize(
    ("wrong", "instead", "told"),
    [
        ("capacity = 1000", "capactiy = 1000", "capactiy is no key; did you mean capacity"),
        ("capacity = 1000", "", "shuffled, so it needs a capacity"),
        ("capacity = 1000", "capacity = 0", "capacity should be greater than or equal to 1"),
        ("capacity = 1000", 'capacity = "1000"', "capacity should be a valid integer"),
        ('mode = "shuffled"', 'mode = "random"', "mode should be 'sequential' or 'shuffled'"),
        ('zone = "Europe/Dublin"', 'zone = "Dublin"', "zone is no IANA time zone"),
        ('time = "20:00"', 'time = "8pm"', "time is a local time such as 19:30"),
        ("date = 2027-04-10", 'date = "soon"', "date"),
        (
            'zone = "Europe/Dublin"',
            'language = "Deutsch"',
            "language is no language tag .*such as de or pt-BR",
        ),
        (
            'zone = "Europe/Dublin"',
            'language = "pt_BR"',
            "language is no language tag .*such as de or pt-BR",
        ),
        ('zone = "Europe/Dublin"', 'language = ["de"]', "language should be a valid string"),
        ('zone = "Europe/Dublin"', 'langage = "de"', "langage is no key; did you mean language"),
        ('id = "draw"', 'id = "The Draw"', "id should match pattern"),
        ('name = "Gala Draw"', "", "name is missing"),
        ('sources = ["shop", "other"]', 'sources = ["The Shop"]', "sources.0 .*pattern"),
        ('sources = ["shop", "other"]', 'sources = ["shop", "shop"]', "sources names shop twice"),
        (
            'skus = ["DRAW"]\nproduct_ids = ["99"]',
            "",
            "matches nothing: give it skus, product_ids or variation_ids",
        ),
        ("[[campaign]]", "[[campaigns]]", "campaigns is no key here"),
        ("[[campaign]]", "[[campaign", "line"),
        (GOOD, "", "it holds no campaign"),
        (GOOD, GOOD + GOOD, "id draw is used twice"),
        (GOOD, GOOD + GOOD.replace('"draw"', '"two"'), "two: .*belongs to draw already"),
    ],
)
def test_a_fault_is_told_with_file_campaign_key_and_remedy(
    tmp_path: Path, wrong: str, instead: str, told: str
) -> None:
    file = tmp_path / "campaigns.toml"
    assert wrong in GOOD
    file.write_text(GOOD.replace(wrong, instead))
    with pytest.raises(CampaignFileInvalid, match=told) as refused:
        read(file)
    assert str(file) in refused.value.cause


def test_a_file_that_is_missing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CampaignFileInvalid, match="it cannot be read: No such file or directory"):
        read(tmp_path / "none.toml")


def test_a_version_rises_when_the_content_changes_and_only_then() -> None:
    assert change(definition(), None) == ("added", 1)
    assert change(definition(), standing(0)) == ("unchanged", 3)
    assert change(definition(venue="Hall"), standing(0)) == ("changed", 4)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("pt-br", "pt-BR"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("", ""),
    ],
)
def test_a_language_is_kept_as_bcp_47_writes_it(said: str, kept: str) -> None:
    assert definition(language=said).language == kept
    assert definition(language=said).said()["language"] == kept


def test_a_campaign_without_a_language_is_what_releases_without_languages_kept() -> None:
    """Or each of them would get another version by an upgrade alone."""
    old = StoredCampaign(
        3, {key: it for key, it in definition().content().items() if key != "language"}, 0
    )
    assert "language" not in definition().content()
    assert change(definition(), old) == ("unchanged", 3)
    assert change(definition(language="de"), old) == ("changed", 4)
    assert change(definition(), standing(0, language="de")) == ("changed", 4)


@pytest.mark.feature("SF-157")
@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "shuffled", "capacity": 9},
        {"start": 7},
        {"mode": "shuffled", "capacity": 9, "start": 2},
    ],
)
def test_mode_and_start_are_fixed_once_tickets_exist(changed: dict[str, Any]) -> None:
    assert list(refusals(definition(**changed), standing(0))) == []
    assert list(refusals(definition(**changed), standing(1)))


def test_the_range_of_a_shuffled_campaign_is_fixed_once_tickets_exist() -> None:
    before = {"mode": "shuffled", "capacity": 10}
    for capacity in (9, 11):
        assert list(refusals(definition(mode="shuffled", capacity=capacity), standing(1, **before)))
        assert (
            list(refusals(definition(mode="shuffled", capacity=capacity), standing(0, **before)))
            == []
        )


def test_capacity_never_falls_below_what_was_issued() -> None:
    assert list(refusals(definition(capacity=5), standing(5, capacity=10))) == []
    assert list(refusals(definition(capacity=None), standing(5, capacity=10))) == []
    (told,) = refusals(definition(capacity=4), standing(5, capacity=10))
    assert "the least is 5" in told


@pytest.mark.parametrize(
    "changed",
    [{"prefix": "X"}, {"padding": 9}, {"venue": "Hall"}, {"status": "closed"}, {"language": "de"}],
)
def test_everything_else_may_change_at_any_time(changed: dict[str, Any]) -> None:
    assert list(refusals(definition(**changed), standing(5))) == []


def test_a_code_is_128_random_bits_in_base32() -> None:
    drawn = list(codes(500))
    assert len(set(drawn)) == len(drawn) == 500
    assert all(
        len(code) == 26 and set(code) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for code in drawn
    )
    assert {code[-1] for code in drawn} <= set(
        "AEIMQUY4"
    )  # 26 characters hold 130 bits: the last two are zero
    assert list(codes(0)) == []


def test_a_campaign_may_take_a_variation_and_one_that_takes_none_is_kept_as_before() -> None:
    """A version stands for a content: one more field in all of them would make a new version of
    each.
    """
    content = {"id": "draw", "name": "Draw", "sources": ["shop"], "variation_ids": ["17"]}
    definition = CampaignDefinition.model_validate(content)
    assert definition.products() == {("shop", "variation_id", "17")}
    assert definition.content()["variation_ids"] == ["17"]
    other = CampaignDefinition.model_validate({**content, "variation_ids": [], "skus": ["DRAW"]})
    assert "variation_ids" not in other.content()
