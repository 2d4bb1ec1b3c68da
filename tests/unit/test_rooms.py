"""Rooms and arrows: the subfolders and top modules of a package import each other without a circle.

A room is a subfolder or a module on top of the package; an arrow is an import from one room into
another, wherever in a module it stands. Without circles each room can be read, tested and replaced
with only those below it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(
    file.parent.relative_to(ROOT).as_posix() for file in (ROOT / "services").rglob("__init__.py")
)
ROOMS_MAX = {"services/runtime": 16}  # few enough to draw on one page; may only shrink

Arrows = Mapping[str, set[str]]


def module_name(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module, modules: frozenset[str]) -> Iterator[str]:
    """Yield the modules of the project that a module imports. `from package import name` imports
    the submodule of that name, if there is one.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules else node.module


def rooms(package: str, root: Path = ROOT) -> Arrows:
    """Return each room of a package with the rooms that it imports."""
    prefix = package.replace("/", ".") + "."
    files = {module_name(file, root): file for file in (root / package).rglob("*.py")}
    modules = frozenset(files)
    arrows: dict[str, set[str]] = {}
    for module, file in files.items():
        if not module.startswith(prefix):
            continue  # the package itself: a facade that nothing inside imports
        room = module.removeprefix(prefix).partition(".")[0]
        targets = {
            target.removeprefix(prefix).partition(".")[0]
            for target in imported(ast.parse(file.read_text("utf-8")), modules)
            if target.startswith(prefix)
        }
        arrows.setdefault(room, set()).update(targets - {room})
    return arrows


def circle(arrows: Arrows) -> list[str]:
    """Return the rooms of a circle, in order, or an empty list."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_have_no_circle(package: str) -> None:
    assert circle(rooms(package)) == []


@pytest.mark.parametrize("package", ["services/runtime", "services/ingest", "services/delivery"])
def test_rooms_and_arrows_are_found(package: str) -> None:
    arrows = rooms(package)
    assert len(arrows) > 3
    assert any(arrows.values())


@pytest.mark.parametrize("room", ["errors", "records", "ports", "kafka", "postgres"])
def test_the_loop_stands_above_what_it_runs_on(room: str) -> None:
    assert "loop" not in rooms("services/runtime")[room]


@pytest.mark.parametrize("package", ROOMS_MAX)
def test_a_package_has_no_more_rooms_than_one_page_can_show(package: str) -> None:
    present = sorted(rooms(package))
    assert len(present) <= ROOMS_MAX[package], present


def test_nothing_inside_a_package_imports_its_facade() -> None:
    facade = "services.runtime"
    files = list((ROOT / "services").rglob("*.py"))
    modules = frozenset(module_name(file, ROOT) for file in files)
    inside = [file for file in files if module_name(file, ROOT).startswith(f"{facade}.")]
    assert [
        str(file)
        for file in inside
        if facade in imported(ast.parse(file.read_text("utf-8")), modules)
    ] == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "p"
    (package / "low").mkdir(parents=True)
    (package / "high.py").write_text("from p.low import part\n")
    (package / "low" / "__init__.py").write_text("")
    (package / "low" / "part.py").write_text("def late() -> None:\n    import p.high\n")
    assert set(circle(rooms("p", tmp_path))) == {"high", "low"}
