"""Laws of the statements: named once, found by name, and each names itself to the server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.runtime.postgres import statements


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def make(**files: str) -> str:
        name = f"package_{tmp_path.name.replace('-', '_')}"
        queries = tmp_path / name / "queries"
        queries.mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
        for file, content in files.items():
            (queries / f"{file}.sql").write_text(content, "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return make


def test_statements_of_all_files_are_found_by_name(package: Callable[..., str]) -> None:
    name = package(
        a="-- name: one\nselect 1;\n\n-- name: two\n-- Why.\nselect 2;\n",
        b="-- name: three\nselect 3;\n",
    )
    loaded = statements.load(name)
    assert sorted(loaded) == ["one", "three", "two"]
    assert loaded["one"] == f"/* {name}.one */\nselect 1;\n\n".encode()
    assert b"-- Why.\nselect 2;" in loaded["two"]


def test_a_name_that_is_given_twice_stops_the_process(package: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="one is named twice"):
        statements.load(package(a="-- name: one\nselect 1;\n", b="-- name: one\nselect 2;\n"))


def test_text_without_a_name_stops_the_process(package: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="before the first"):
        statements.load(package(a="select 1;\n-- name: one\nselect 1;\n"))
