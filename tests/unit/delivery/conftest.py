"""`stubline design` in an empty folder, and one plate cache for all its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.console import cli
from tests.support.cli_output import CliOutput, StublineCommand


@pytest.fixture(scope="session")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One plate cache for all: a font's letters are cut out once."""
    return tmp_path_factory.mktemp("plates")


@pytest.fixture
def stubline(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    plates: Path,
) -> StublineCommand:
    """The command, in this process and in an empty folder, with neither a database nor a broker."""
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "STUBLINE_DELIVERY_DESIGNS_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STUBLINE_DELIVERY_PLATES_FOLDER", str(plates))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> CliOutput:
        code = cli.run(["design", *(str(argument) for argument in arguments)])
        return CliOutput(code, *capsys.readouterr())

    return run
