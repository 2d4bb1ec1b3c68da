"""A test may patch only what stands in PATCHES, a list that may only shrink: what a test must
change (clock, randomness, servers) is handed in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.sources import PYTHON, called, imports, named

THIS = Path(__file__).resolve()
TAKEN_OUT = "takes a rule out, so that its law is seen to fail"
KILLED_THERE = "fails or dies at a point that nothing outside can reach"
COUNTED = "counts calls, or forbids one"
SHORTENED = "shortens what would take minutes"
ONE_MORE = "adds the source of the how-to to the registries, as its folder would"
# Path: how many patches of private names, how many of other names, and why. A private name of
# another module is no test's business; none may be added.
PATCHES: dict[str, tuple[int, int, str]] = {
    "tests/integration/test_delivery_document_cache.py": (0, 2, KILLED_THERE),
    "tests/integration/test_issuer.py": (0, 1, COUNTED),
    "tests/integration/test_polls_malformed_responses.py": (1, 0, COUNTED),
    "tests/protocol/laws/test_fake_laws.py": (0, 1, KILLED_THERE),
    "tests/protocol/patching.py": (0, 1, COUNTED),
    "tests/protocol/toy/mutate.py": (0, 1, TAKEN_OUT),
    "tests/support/sabotaged.py": (0, 2, KILLED_THERE),
    "tests/support/sender_process.py": (0, 1, KILLED_THERE),
    "tests/unit/delivery/printing/test_design_checks.py": (0, 3, SHORTENED),
    "tests/unit/delivery/printing/test_design_commands.py": (1, 0, SHORTENED),
    "tests/unit/delivery/printing/test_layout_worker.py": (1, 2, KILLED_THERE),
    "tests/unit/delivery/printing/test_other_scripts.py": (0, 1, TAKEN_OUT),
    "tests/unit/delivery/printing/test_plate_cache.py": (0, 7, COUNTED),
    "tests/unit/delivery/printing/test_qr.py": (0, 1, COUNTED),
    "tests/unit/delivery/printing/test_renderer.py": (0, 2, COUNTED),
    "tests/unit/delivery/test_blob_store.py": (0, 3, KILLED_THERE),
    "tests/unit/delivery/test_campaign_check.py": (0, 1, COUNTED),
    "tests/unit/ingest/test_add_a_source.py": (1, 3, ONE_MORE),
    "tests/unit/ingest/test_retention.py": (0, 1, COUNTED),
    "tests/unit/ingest/test_ticketevolution_client.py": (0, 1, TAKEN_OUT),
}
# Bounds that tests make small: a module's constants, which nothing else may patch.
BOUNDS = frozenset(
    {
        "BATCH_BYTES_MAX",
        "BATCH_FILES_MAX",
        "FETCH_TIMEOUT_S",
        "FILE_BYTES_MAX",
        "ORDER_BYTES_MAX",
        "PAGES_MAX",
        "PROGRAM",
        "RESPONSE_S_MAX",
        "TICK_BYTES_MAX",
        "TICK_TICKETS_MAX",
    }
)

MOCKING = frozenset({"mock", "unittest.mock", "pytest_mock"})


def test_no_library_of_mocks_is_imported() -> None:
    """Tests run against the real thing, or against the fake on which the laws run too."""
    importing = [
        f"{named(path)} imports {module}"
        for path in PYTHON
        for module in imports(path)
        if MOCKING & {module, module.rpartition(".")[0]} or module.startswith("unittest.mock.")
    ]
    assert not importing


def patches(tree: ast.Module) -> Iterator[str]:
    """The names that a test replaces: with `setattr` or a function that takes the name as a text,
    as an item of a registry, or by an assignment to an attribute that is private or that a module
    or class has. Empty for a name that is computed.
    """
    imported = {name for node in ast.walk(tree) for name in names_of_imports(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from patched_by_call(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner in imported or (node.attr.startswith("_") and owner not in {"self", "cls"}):
                yield node.attr
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            is_of_vars = isinstance(node.value, ast.Call) and called(node.value) == "vars"
            yield from [text_of(node.slice)] if is_of_vars else ()


def names_of_imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)


def patched_by_call(node: ast.Call) -> Iterator[str]:
    name, arguments = called(node), node.args
    if name == "setattr" and arguments:
        is_path = isinstance(arguments[0], ast.Constant)
        yield text_of(arguments[0] if is_path else arguments[1])
    elif name == "setitem" and arguments:
        yield f"an item of {ast.unparse(arguments[0])}"
    elif isinstance(node.func, ast.Name) and name == "replace" and len(arguments) > 2:
        yield from filter(None, [text_of(arguments[1])])


def text_of(name: ast.expr) -> str:
    """Return the last part of a name that is written as a text."""
    return str(name.value).rpartition(".")[2] if isinstance(name, ast.Constant) else ""


def counted_patches(names: Iterable[str]) -> tuple[int, int]:
    """Patches of private names, and of others, but for the bounds."""
    others = [name for name in names if name not in BOUNDS]
    private = sum(name.startswith("_") for name in others)
    return private, len(others) - private


def test_no_test_replaces_more_of_the_program_than_is_listed() -> None:
    """What a test must change (clock, randomness, servers) is handed in. What it replaces instead
    is listed, and the list only shrinks.
    """
    now = {
        named(path): counted
        for path in PYTHON
        if named(path).startswith("tests/") and path != THIS
        if any(counted := counted_patches(patches(ast.parse(path.read_text("utf-8")))))
    }
    assert now == {path: (private, others) for path, (private, others, _) in PATCHES.items()}
    assert all(why for _, _, why in PATCHES.values())


def test_every_bound_that_a_test_makes_small_is_listed_and_no_other() -> None:
    patched = {
        name
        for path in PYTHON
        if named(path).startswith("tests/") and path != THIS
        for name in patches(ast.parse(path.read_text("utf-8")))
        if name.isupper()
    }
    assert patched == BOUNDS


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('patch.setattr(module, "_private", 1)', (1, 0)),
        ('patch.setattr("services.module._private", 1)', (1, 0)),
        ('patch.setattr(Class, "method", 1)', (0, 1)),
        ("setattr(owner, name, 1)", (0, 1)),
        ('patch.setenv("NAME", "1")', (0, 0)),
        ('patch.setitem(module.REGISTRY, "name", 1)', (0, 1)),
        ("worker.scheduler._report_at = 0.0", (1, 0)),
        ("worker._count += 1", (1, 0)),
        ("self._count = other.count = 1", (0, 0)),
        ("import module\nmodule.function = 1", (0, 1)),
        ("from module import Class\nClass.method = 1", (0, 1)),
        ('vars(module)["Class"] = 1', (0, 1)),
        ('replace(owner, "name", 1)', (0, 1)),
        ("replace(owner, field=1)", (0, 0)),
    ],
)
def test_a_patch_is_found(code: str, expected: tuple[int, int]) -> None:
    assert counted_patches(patches(ast.parse(code))) == expected
