"""A campaign with a design that cannot be printed is refused when it is applied: nothing is
written, and no ticket meets it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.console import cli
from tests.support.cli_output import CliOutput
from tests.support.rendering import make_design

FILE = """\
[[campaign]]
id = "spring"
name = "Spring Draw"
sources = ["shop"]
skus = ["RFL"]

[[campaign]]
id = "gala"
name = "Gala"
sources = ["shop"]
skus = ["GALA"]
design = "{design}"
language = "{language}"
"""


Apply = Callable[..., CliOutput]


@pytest.fixture
def apply(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    database_url: str,
) -> Apply:
    """`stubline campaigns apply`, of two campaigns: one with the default design, one with this and
    in this language.
    """
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")  # nobody asks it
    monkeypatch.setenv("STUBLINE_ACTOR", "ada")
    monkeypatch.setenv("STUBLINE_DELIVERY_DESIGNS_FOLDER", str(tmp_path / "designs"))
    monkeypatch.setenv("STUBLINE_DELIVERY_PLATES_FOLDER", str(tmp_path / "plates"))
    monkeypatch.setenv("STUBLINE_DELIVERY_FILES_URL", str(tmp_path / "files"))

    def run(design: str, language: str = "") -> CliOutput:
        (tmp_path / "campaigns.toml").write_text(FILE.format(design=design, language=language))
        code = cli.run(["campaigns", "apply", str(tmp_path / "campaigns.toml")])
        return CliOutput(code, *capsys.readouterr())

    return run


def written(database_url: str) -> dict[str, Any]:
    with psycopg.connect(database_url) as connection:
        tables = ("issuer.campaigns", "issuer.campaign_products", "runtime.audit")
        counts = {
            name: connection.execute(f"select count(*) from {name}".encode()).fetchone()
            for name in tables
        }
    return {name: row[0] for name, row in counts.items() if row is not None}


def test_a_design_that_cannot_be_printed_is_refused_and_nothing_is_written(
    apply: Apply, tmp_path: Path, database_url: str
) -> None:
    make_design(tmp_path / "designs" / "door", style=".holder { opacity: 0.5 }")
    before = written(database_url)
    answer = apply("door")
    assert answer.code == 1
    assert answer.err.startswith(
        "delivery-design-unusable campaign gala: door/page.html:10: field `holder`"
    )
    assert "stubline design check" in answer.err
    assert written(database_url) == before


def test_a_design_that_is_not_there_is_refused_and_nothing_is_written(
    apply: Apply, database_url: str
) -> None:
    before = written(database_url)
    answer = apply("no-such-design")
    assert answer.code == 3
    assert "campaign gala: `no-such-design`; there are e-ticket" in answer.err
    assert written(database_url) == before


def test_once_it_is_fixed_the_same_file_is_applied_and_its_tickets_find_it_compiled(
    apply: Apply, tmp_path: Path, database_url: str
) -> None:
    make_design(tmp_path / "designs" / "door", style=".holder { opacity: 0.5 }")
    assert apply("door").code == 1
    make_design(tmp_path / "designs" / "door")
    answer = apply("door")
    assert (answer.code, answer.err) == (0, "")
    assert "spring added, version 1; gala added, version 1" in answer.out
    assert written(database_url)["issuer.campaigns"] == 2
    assert len(list((tmp_path / "plates").glob("*.plate"))) == 2


def test_a_language_that_its_design_lacks_is_refused_and_nothing_is_written(
    apply: Apply, database_url: str
) -> None:
    before = written(database_url)
    answer = apply("event-ticket", "it")
    assert answer.code == 3
    assert (
        "campaign gala: event-ticket has no language `it`; it has en, de, fr, es, nl" in answer.err
    )
    assert written(database_url) == before


def test_a_campaigns_language_is_shown_also_of_one_that_an_older_release_applied(
    apply: Apply, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    assert apply("event-ticket", "fr-ca").code == 0
    assert cli.run(["campaigns", "show", "gala"]) == 0
    assert "fr-CA" in capsys.readouterr().out
    with psycopg.connect(database_url) as connection:
        [[old]] = connection.execute(
            "select definition ? 'language' from issuer.campaigns where campaign_id = 'spring'"
        )
    assert old is False
    assert cli.run(["campaigns", "show", "spring"]) == 0
    assert "language" in capsys.readouterr().out
