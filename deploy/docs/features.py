"""The page of the feature register: tests/features.toml, and beside each id the tests that carry
its mark.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from deploy.docs.markdown import table

TESTS = Path(__file__).resolve().parents[2] / "tests"
REGISTER = TESTS / "features.toml"
NO_TEST = "no test yet"
INTRODUCTION = """# Features

What Stubline must do, one sentence an id. Each id was first described for the system in its
heading. Tests carry the ids that they test (`@pytest.mark.feature("SF-014")`), and
`make test T=SF-014` runs the tests of one id.

"""


def register(path: Path = REGISTER) -> dict[str, dict[str, str]]:
    """The sentence of each id, by the system that it was first described for."""
    with path.open("rb") as file:
        return tomllib.load(file)


def features_page() -> str:
    systems, tests = register(), modules_by_feature(TESTS.rglob("test_*.py"))
    total = sum(len(features) for features in systems.values())
    tested = sum(name in tests for features in systems.values() for name in features)
    text = INTRODUCTION + f"{tested} of {total} have a test.\n"
    for system, features in systems.items():
        rows = [
            (name, sentence, ", ".join(tests.get(name, [NO_TEST])))
            for name, sentence in features.items()
        ]
        text += f"\n## {system}\n\n" + table(("id", "what", "tested in"), rows)
    return text


def modules_by_feature(modules: Iterable[Path]) -> dict[str, list[str]]:
    """The test modules of each id, as links from docs/reference."""
    paths_of: dict[str, set[str]] = {}
    for module in modules:
        for name in marks(ast.parse(module.read_text("utf-8"))):
            paths_of.setdefault(name, set()).add(module.relative_to(TESTS).as_posix())
    return {
        name: [f"[{path}](../../tests/{path})" for path in sorted(paths)]
        for name, paths in paths_of.items()
    }


def marks(tree: ast.AST) -> Iterator[str]:
    """The ids in `pytest.mark.feature(...)`, and in `feature(...)` where a module calls it so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node.func) == "feature":
            yield from (str(word.value) for word in node.args if isinstance(word, ast.Constant))


def called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
