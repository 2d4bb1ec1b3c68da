"""The sources file: a mistake stops the endpoint with one line, a missing secret disables its own
source only.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.ingest.config import sources_file
from services.runtime.settings import ConfigurationError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "connect-a-payment-gateway.md"


def written(folder: Path, text: str) -> Path:
    path = folder / "sources.toml"
    path.write_text(text, "utf-8")
    return path


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("what a shop's page shows: a&amp;b\n", "utf-8")
    text = '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:OLD", "file:new"]\n'
    config = sources_file.read(written(tmp_path, text), {"OLD": "s3cr3t-of-the-shop"})["shop"]
    assert config.secrets == (b"s3cr3t-of-the-shop", b"what a shop's page shows: a&b")
    assert config.refusal is None
    assert "s3cr3t" not in repr(config)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("env:NOT_SET", "missing or empty"),
        ("env:EMPTY", "missing or empty"),
        ("file:nowhere", "read"),
        ("env:SHORT", "openssl rand"),
        ("env:ONE", "can be guessed"),
    ],
)
def test_a_missing_or_weak_secret_stops_its_own_source_only(
    tmp_path: Path, secret: str, why: str
) -> None:
    text = (
        '[sources.good]\nkind = "woocommerce"\nsecrets = ["env:GOOD"]\n[sources.bad]\nkind = '
        f'"woocommerce"\nsecrets = ["env:GOOD", "{secret}"]\n'
    )
    configs = sources_file.read(
        written(tmp_path, text),
        {"GOOD": "g00d-and-long-enough", "EMPTY": " ", "SHORT": "changeme", "ONE": "a" * 40},
    )
    assert configs["good"].refusal is None
    assert why in (configs["bad"].refusal or "")
    assert configs["bad"].secrets == ()


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("stripe", "whsec_1111111111"),  # the prefix has six characters of its own
        ("native", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAA"),  # base64 of zeros
        ("native", "whsec_MfKQ9r8GKYqr"),  # of nine bytes
        ("woocommerce", "&amp;&lt;&gt;&quot;&#039;"),  # of five characters, as WordPress signs
        ("adyen", "00" * 32),
    ],
)
def test_a_secret_is_as_strong_as_the_key_that_it_becomes(
    tmp_path: Path, kind: str, secret: str
) -> None:
    orders_of = '\norders_of = "shop"' if kind in {"adyen", "stripe"} else ""
    text = f'[sources.bad]\nkind = "{kind}"\nsecrets = ["env:WEAK"]{orders_of}\n'
    bad = sources_file.read(written(tmp_path, text), {"WEAK": secret})["bad"]
    assert "WEAK can be guessed" in (bad.refusal or "")
    assert bad.secrets == ()


def test_a_secret_that_is_no_text_is_reported_without_a_character_of_it(tmp_path: Path) -> None:
    text = '[sources.bad]\nkind = "woocommerce"\nsecrets = ["env:LATIN"]\n'
    bad = sources_file.read(written(tmp_path, text), {"LATIN": "written-in-latin-1-\udcff"})["bad"]
    assert bad.refusal == "env:LATIN is not UTF-8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[source.shop]\n", "did you mean sources"),
        ('[sources.shop]\nkind = "woocommerce"\nsecret = ["env:X"]\n', "did you mean secrets"),
        (
            '[sources.shop]\nkind = "woo-commerce"\nsecrets = ["env:X"]\n',
            "did you mean woocommerce",
        ),
        ('[sources.shop]\nkind = "woocommerce"\nsecrets = []\n', "1 to 10"),
        ('[sources.shop]\nkind = "woocommerce"\nsecrets = "env:X"\n', "1 to 10"),
        (
            '[sources.shop]\nkind = "woocommerce"\nsecrets = ["hunter2"]\n',
            "never written",
        ),
        ('[sources.Shop]\nkind = "woocommerce"\nsecrets = ["env:X"]\n', "a slug is"),
        (
            '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:X"]\nrate_max = 0\n',
            "rate_max is a number",
        ),
        (
            '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:X"]\nrate_max = "9"\n',
            "rate_max is a number",
        ),
        (
            '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:X"]\ndecimals = 9\n',
            "decimals is a whole number from 0",
        ),
        (
            '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:X"]\ndecimals = "2"\n',
            "decimals is a whole number from 0",
        ),
        ('[sources.own]\nkind = "native"\nsecrets = ["env:X"]\ndecimals = 2\n', "no decimals here"),
        (
            (
                '[sources.t]\nkind = "ticketevolution"\nsecrets = ["env:X"]\ndirect_buyer_type = '
                '"office"\n'
            ),
            "direct_buyer_type is Office or Client",
        ),
        ("sources = 1\n", "names no source"),
        ("", "names no source"),
        ("[sources", "not TOML"),
    ],
)
def test_a_mistake_is_reported_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sources_file.read(written(tmp_path, text), {"X": "x"})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_missing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        sources_file.read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "example", re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
)
def test_the_examples_for_gateways_are_served(tmp_path: Path, example: str) -> None:
    secrets = dict.fromkeys(re.findall(r"env:(\w+)", example), "0123456789abcdef" * 4)
    configs = sources_file.read(written(tmp_path, example), secrets)
    assert configs
    assert [config.refusal for config in configs.values()] == [None] * len(configs)
    assert {config.orders_of for config in configs.values() if config.source.needs_orders_of} == {
        "shop"
    }


def test_a_malformed_adyen_key_stops_its_source_and_is_not_quoted(tmp_path: Path) -> None:
    text = '[sources.pay]\nkind = "adyen"\nsecrets = ["env:KEY"]\norders_of = "shop"\n'
    config = sources_file.read(written(tmp_path, text), {"KEY": "whsec_not_hexadecimal_at_all"})[
        "pay"
    ]
    assert config.refusal == "env:KEY is not a hexadecimal key"
    assert config.secrets == ()


SHOP = '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:GOOD"]\n[sources.shop.poll]\n'
CREDENTIALS = 'key = "env:KEY"\nsecret = "file:secret"\n'
URL = 'url = "https://shop.example.org/"\n'
ENVIRONMENT = {"GOOD": "g00d-and-long-enough", "KEY": "ck_1"}


def test_how_a_source_is_polled_is_read_from_its_section(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("cs_1\n", "utf-8")
    text = SHOP + URL + CREDENTIALS + "every_s = 60\nfirst_days = 7\n"
    config = sources_file.read(written(tmp_path, text), ENVIRONMENT)["shop"]
    assert config.poll is not None
    assert config.poll_refusal is None
    assert tuple(config.poll) == (
        "shop",
        "https://shop.example.org",
        "ck_1",
        "cs_1",
        "",
        {},
        60.0,
        7.0,
        100,
    )
    assert "cs_1" not in repr(config)


def test_missing_credentials_disable_only_the_poll(tmp_path: Path) -> None:
    config = sources_file.read(written(tmp_path, SHOP + URL + CREDENTIALS), ENVIRONMENT)["shop"]
    assert (config.refusal, config.poll) == (None, None)
    assert (
        config.poll_refusal
        == "file:secret cannot be used: it cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (CREDENTIALS, "url = "),
        ('url = "shop.example.org"\n' + CREDENTIALS, "url = "),
        ('url = "https://user:pass@shop.example.org"\n' + CREDENTIALS, "without credentials"),
        ('url = "https://shop.example.org/?x=1"\n' + CREDENTIALS, "url = "),
        ('url = "http://shop.example.org"\n' + CREDENTIALS, "url is http"),
        ('url = "http://127.0.0.1.example.org"\n' + CREDENTIALS, "url is http"),
        (URL + 'key = "env:KEY"\n', "secret is missing"),
        (URL + 'key = "ck_in-the-file"\nsecret = "env:KEY"\n', "never written"),
        (URL + CREDENTIALS + "every = 5\n", "did you mean every_s"),
        (URL + CREDENTIALS + "every_s = 0\n", "every_s is a number"),
        (URL + CREDENTIALS + "every_s = true\n", "every_s is a number"),
        (URL + CREDENTIALS + "first_days = 400\n", "first_days is a number"),
    ],
)
def test_a_mistake_in_a_poll_section_stops_the_start(
    tmp_path: Path, section: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sources_file.read(written(tmp_path, SHOP + section), ENVIRONMENT)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
def test_http_is_allowed_to_this_machine_only(tmp_path: Path, host: str) -> None:
    (tmp_path / "secret").write_text("cs_1", "utf-8")
    config = sources_file.read(
        written(tmp_path, f'{SHOP}url = "http://{host}"\n{CREDENTIALS}'), ENVIRONMENT
    )["shop"]
    assert config.poll is not None
