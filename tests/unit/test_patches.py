"""Tests replace no part of the program by patching it: what a test must change (clock, randomness,
servers) is handed in. What still is replaced stands in PATCHES, which may only shrink.
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
# Path: how many patches of private names, how many of other names, and why. A private name of
# another module is no test's business; none may be added.
PATCHES: dict[str, tuple[int, int, str]] = {
    "tests/integration/test_delivery_document_cache.py": (0, 2, KILLED_THERE),
    "tests/integration/test_issuer.py": (0, 1, COUNTED),
    "tests/integration/test_polls_malformed_responses.py": (1, 0, COUNTED),
    "tests/protocol/laws/test_fake_laws.py": (0, 1, KILLED_THERE),
    "tests/protocol/patching.py": (0, 1, COUNTED),
    "tests/protocol/toy/mutate.py": (0, 1, TAKEN_OUT),
    "tests/unit/delivery/printing/test_design_checks.py": (0, 3, SHORTENED),
    "tests/unit/delivery/printing/test_design_commands.py": (1, 0, SHORTENED),
    "tests/unit/delivery/printing/test_layout_worker.py": (0, 2, KILLED_THERE),
    "tests/unit/delivery/printing/test_other_scripts.py": (0, 1, TAKEN_OUT),
    "tests/unit/delivery/printing/test_plate_cache.py": (0, 7, COUNTED),
    "tests/unit/delivery/printing/test_qr.py": (0, 1, COUNTED),
    "tests/unit/delivery/printing/test_renderer.py": (0, 2, COUNTED),
    "tests/unit/delivery/test_blob_store.py": (0, 3, KILLED_THERE),
    "tests/unit/delivery/test_campaign_check.py": (0, 1, COUNTED),
    "tests/unit/ingest/test_add_a_source.py": (1, 0, COUNTED),
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
    found = [
        f"{named(path)} imports {module}"
        for path in PYTHON
        for module in imports(path)
        if MOCKING & {module, module.rpartition(".")[0]} or module.startswith("unittest.mock.")
    ]
    assert not found


def patches(tree: ast.Module) -> Iterator[str]:
    """The names that a test replaces with `setattr`; an empty one for a name that is computed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) == "setattr" and node.args:
            is_path = isinstance(node.args[0], ast.Constant)
            name = node.args[0] if is_path else node.args[1]
            text = name.value if isinstance(name, ast.Constant) else ""
            yield str(text).rpartition(".")[2]


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
    ("code", "found"),
    [
        ('patch.setattr(module, "_private", 1)', (1, 0)),
        ('patch.setattr("services.module._private", 1)', (1, 0)),
        ('patch.setattr(Class, "method", 1)', (0, 1)),
        ("setattr(owner, name, 1)", (0, 1)),
        ('patch.setenv("NAME", "1")', (0, 0)),
    ],
)
def test_a_patch_is_found(code: str, found: tuple[int, int]) -> None:
    assert counted_patches(patches(ast.parse(code))) == found
