"""A vendor is one folder: it uses what is shared, and nothing of another vendor."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from services.ingest import vendors
from services.ingest.vendors.shared.payment_keys import payment_meta_keys

FOLDER = Path(str(vendors.__file__)).parent
SHARED = FOLDER / "shared"
VENDORS = sorted(
    path.name for path in FOLDER.iterdir() if (path / "__init__.py").exists() and path != SHARED
)
NAME = re.compile(rf"{re.escape(vendors.__name__)}\.(\w+)")


def imported(file: Path) -> set[str]:
    """The folders of the package from which a module imports."""
    tree = ast.parse(file.read_text("utf-8"))
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {match[1] for name in names if (match := NAME.match(name))}


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_imports_only_itself_and_what_is_shared(vendor: str) -> None:
    modules = list((FOLDER / vendor).glob("*.py"))
    assert modules
    for module in modules:
        assert imported(module) <= {vendor, SHARED.name}, module.name


def test_what_is_shared_imports_no_vendor() -> None:
    for module in SHARED.glob("*.py"):
        assert imported(module) <= {SHARED.name}, module.name


def test_each_gateway_declares_its_own_keys_of_a_shops_order() -> None:
    declared = {
        key
        for vendor in VENDORS
        for key in re.findall(r'"(\w+)"', text_of(FOLDER / vendor / "payment_meta.py"))
    }
    assert payment_meta_keys() == declared >= {"_stripe_intent_id", "_adyen_psp_reference"}
    for key in declared:
        holders = {
            path.parent.name for path in FOLDER.glob("*/*.py") if f'"{key}"' in text_of(path)
        }
        assert len(holders) == 1, f"{key} stands in {holders}"


def text_of(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""
