"""When tickets are due is set per shop, and a trigger that cannot be intended stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.approval.settings import ApprovalSettings, policies
from services.runtime.settings import ConfigurationError


def with_file(tmp_path: Path, text: str, **more: str) -> ApprovalSettings:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    return ApprovalSettings.model_validate({"policy_file": str(file), **more})


@pytest.mark.feature("SF-029")
def test_completed_is_the_default() -> None:
    assert policies(ApprovalSettings()).of("any").policy.issue_when == ["completed"]


@pytest.mark.feature("SF-003", "SF-025")
def test_each_shop_may_have_its_own_trigger(tmp_path: Path) -> None:
    text = (
        '[sources.one]\nissue_when = ["wc-VIP-ok"]\n[sources.two]\nissue_when = '
        '"payment_complete"\n'
    )
    loaded = policies(with_file(tmp_path, text, issue_when="processing, completed"))
    assert loaded.of("one").policy.issue_when == ["vip-ok"]
    assert loaded.of("two").policy.issue_when == "payment_complete"
    assert loaded.of("three").policy.issue_when == ["completed", "processing"]


@pytest.mark.feature("SF-025")
@pytest.mark.parametrize("words", ["", " , ", "complete", "refunded", "payment_complete,completed"])
def test_a_trigger_that_cannot_be_intended_stops_the_start_and_names_its_setting(
    words: str,
) -> None:
    with pytest.raises(ConfigurationError, match="STUBLINE_APPROVAL_ISSUE_WHEN"):
        policies(ApprovalSettings(issue_when=words))


@pytest.mark.feature("SF-005")
def test_a_trigger_that_no_shop_is_known_to_have_is_a_warning_at_the_start(tmp_path: Path) -> None:
    text = '[sources.one]\nissue_when = ["deposit-paid"]\n[sources.two]\nissue_when = "completed"\n'
    one, two = policies(with_file(tmp_path, text, issue_when="wc-Approved")).warnings
    assert "STUBLINE_APPROVAL_ISSUE_WHEN names approved" in one
    assert "STUBLINE_APPROVAL_CUSTOM_STATUSES" in one
    assert "sources.one.issue_when names deposit-paid" in two
    assert policies(with_file(tmp_path, text, custom_statuses="deposit-paid")).warnings == ()
    assert policies(ApprovalSettings(issue_when="payment_complete")).warnings == ()


@pytest.mark.feature("SF-005")
def test_a_trigger_that_the_list_of_statuses_does_not_have_stops_the_start() -> None:
    with pytest.raises(
        ConfigurationError, match="approved, which is not among the custom statuses"
    ):
        policies(ApprovalSettings(issue_when="approved", custom_statuses="deposit-paid"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[sources.one]\nissue_when = ["complete"]', "sources.one.issue_when .*completed"),
        ('[sources.one]\nissue_whem = ["completed"]', "sources.one.issue_whem .*issue_when"),
        ("[sources.one]\nissue_when = 3", "sources.one.issue_when is a list"),
        ("[source.one]\n", "source is no key"),
        ("sources = 1", "sources is a table"),
        ("[sources", "policy.toml"),
    ],
)
def test_a_malformed_policy_file_stops_the_start_and_names_file_key_and_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        policies(with_file(tmp_path, text))


def test_a_missing_policy_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        policies(ApprovalSettings(policy_file=str(tmp_path / "none.toml")))
