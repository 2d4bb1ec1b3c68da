"""The vendors as the webhook endpoint sees them: for each kind of source real bodies, and how it
signs them.

A module here that declares a `VENDOR` puts its source under the laws of every source
(tests/unit/ingest/test_every_source.py).
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from tests.support.vendors.vendor import Sample, Vendor

__all__ = ["VENDORS", "Sample", "Vendor"]


def _vendors() -> dict[str, Vendor]:
    modules = [
        import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    declared = [
        vendor
        for module in modules
        if isinstance(vendor := getattr(module, "VENDOR", None), Vendor)
    ]
    return {vendor.kind: vendor for vendor in declared}


VENDORS = _vendors()
