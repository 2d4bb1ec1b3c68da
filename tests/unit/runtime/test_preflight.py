"""Preflight checks are entry points: all installed ones run, in order, and each may refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.admin import preflight
from services.runtime.errors import UnexpectedError

MODULE = """
def notes(content): content["ran"].append({name!r})
def raises(content): raise LookupError({name!r})
def refuses(content):
    from services.runtime.errors import UnexpectedError
    if content["at"] % 2: raise UnexpectedError(str(content["at"]))
"""
POINTS = (
    "[stubline.preflight]\ntoy = {module}:notes\nbad = {module}:raises\nsome = {module}:refuses\n"
)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two distributions on the path, as pip installs them."""
    for name in ("second", "first"):
        folder, module = tmp_path / name, f"preflight_toy_{name}"
        about = folder / f"{module}-1.dist-info"
        about.mkdir(parents=True)
        (folder / f"{module}.py").write_text(MODULE.format(name=name))
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(POINTS.format(module=module))
        monkeypatch.syspath_prepend(folder)


def test_all_installed_checks_run_in_an_order_that_does_not_depend_on_the_path() -> None:
    content: dict[str, list[str]] = {"ran": []}
    preflight.run("toy", content)
    assert content["ran"] == ["first", "second"]


def test_the_first_refusal_ends_it() -> None:
    with pytest.raises(LookupError, match="first"):
        preflight.run("bad", {})


def test_without_a_check_nothing_is_refused() -> None:
    preflight.run("no-such-name", {})


def test_all_refusals_are_reported_at_once_in_their_order() -> None:
    preflight.run_all("some", [{"at": 0}, {"at": 2}])
    with pytest.raises(UnexpectedError) as raised:
        preflight.run_all("some", [{"at": at} for at in range(4)])
    assert raised.value.cause == "1; 3"
    with pytest.raises(UnexpectedError) as raised:
        preflight.run_all("some", [{"at": at} for at in range(50)])
    assert raised.value.cause == "; ".join([*map(str, range(1, 20, 2)), "and 15 more"])
