"""`stubline sources` prints what the webhook endpoint would do with the file, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.console import cli

FILE = """
[sources.shop]
kind = "woocommerce"
secrets = ["env:SHOP_NEW", "env:SHOP_OLD"]
rate_max = 50
[sources.bare]
kind = "woocommerce"
secrets = ["env:NOT_SET"]
"""
SECRET = "c9a1f0d2e4b6a8c0"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sources.toml"
    path.write_text(FILE, "utf-8")
    monkeypatch.setenv("STUBLINE_INGEST_SOURCES_FILE", str(path))
    monkeypatch.setenv("SHOP_NEW", SECRET)
    monkeypatch.setenv("SHOP_OLD", SECRET[::-1])
    return path


def test_each_source_is_listed_with_where_its_secrets_are(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sources", "list", "--json"]) == 0
    out = capsys.readouterr().out
    shop, bare = json.loads(out)
    assert shop == {
        "source": "shop",
        "kind": "woocommerce",
        "state": "served",
        "path": "/hooks/shop",
        "secrets": "env:SHOP_NEW, env:SHOP_OLD",
        "rate_max": 50.0,
        "poll": "",
        "why": "",
    }
    assert (bare["state"], bare["why"], bare["rate_max"]) == (
        "refused",
        "env:NOT_SET is missing or empty",
        4000.0,
    )
    assert SECRET not in out
    assert SECRET[::-1] not in out
    assert file.exists()


def test_a_source_that_would_not_be_served_fails_the_check(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(["sources", "check"]) == 1
    assert "env:NOT_SET is missing or empty" in capsys.readouterr().out
    monkeypatch.setenv("NOT_SET", SECRET)
    assert cli.run(["sources", "check", "--file", str(file)]) == 0


def test_a_gateway_of_a_source_that_the_file_does_not_have_is_reported_and_served(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = '[sources.paid]\nkind = "stripe"\nsecrets = ["env:SHOP_NEW"]\norders_of = "{}"\n'
    monkeypatch.setenv("NOT_SET", SECRET)
    for named, doubt in (
        ("shpo", "orders_of = 'shpo' is no source of this file; did you mean shop?"),
        ("shop", ""),
    ):
        file.write_text(FILE + gateway.format(named), "utf-8")
        assert cli.run(["sources", "check", "--json"]) == 0
        paid = json.loads(capsys.readouterr().out)[2]
        assert (paid["state"], paid["why"].partition(". ")[0]) == ("served", doubt)


@pytest.mark.parametrize(
    "text", ["[sources", "[sources.x]\nkind = 'shopify'\nsecrets = ['env:X']\n"]
)
def test_a_file_with_which_the_endpoint_would_not_start_is_reported_as_configuration(
    text: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text, "utf-8")
    assert cli.run(["sources", "check"]) == 78
    assert capsys.readouterr().err.startswith("configuration: ")


def test_how_a_source_is_polled_is_listed_and_missing_credentials_fail_the_check(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = (
        '[sources.shop.poll]\nurl = "https://shop.example.org/"\nkey = "env:POLL_KEY"\nsecret '
        '= "env:POLL_SECRET"\n'
    )
    file.write_text(FILE.partition("[sources.bare]")[0] + block, "utf-8")
    monkeypatch.setenv("POLL_KEY", "ck_key")
    assert cli.run(["sources", "check", "--json"]) == 1
    (shop,) = json.loads(capsys.readouterr().out)
    assert (shop["state"], shop["poll"]) == ("served", "refused")
    assert shop["why"] == "not polled: env:POLL_SECRET is missing or empty"
    monkeypatch.setenv("POLL_SECRET", "cs_never-shown")
    assert cli.run(["sources", "check", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)[0]["poll"] == "https://shop.example.org"
    assert "cs_never-shown" not in out
