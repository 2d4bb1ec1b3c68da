"""Keys under which gateways' plugins write a payment's name into the metadata of a shop's order.

A gateway's folder declares its own: a module `payment_meta` with `PAYMENT_META`.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from pathlib import Path

VENDORS = __package__.rpartition(".")[0]


def payment_meta_keys() -> frozenset[str]:
    """Return the keys of all vendors' folders."""
    keys = set[str]()
    for folder in pkgutil.iter_modules([str(Path(__file__).parents[1])]):
        name = f"{VENDORS}.{folder.name}.payment_meta"
        if folder.ispkg and importlib.util.find_spec(name) is not None:
            keys |= importlib.import_module(name).PAYMENT_META
    return frozenset(keys)
