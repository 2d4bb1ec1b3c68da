"""The vendors that can be polled for what their webhooks lost.

Such a vendor has a module `poll` in its folder, with `POLLS`: what can be polled. It may also have

- `fetch_order(http, config, external_id) -> FoundObject`, for orders that a source without proof
  named
- `URL`, if its API has one address for everybody
- `NEEDS`, if it needs only one of the credentials `key` and `secret`
"""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from services.ingest import vendors as package
from services.ingest.vendors.shared.poll import FoundObject, Poll, PollConfig

CREDENTIALS = ("key", "secret")


@dataclass(frozen=True, slots=True)
class PolledVendor:
    """A kind of source that can be polled."""

    kind: str
    polls: Mapping[str, Poll]  # by object kind
    fetch_order: Callable[[httpx.Client, PollConfig, str], FoundObject] | None = None
    url: str = ""
    needs: Sequence[str] = CREDENTIALS


def find_polled_vendors() -> dict[str, PolledVendor]:
    """Return every vendor whose folder has a module `poll` with polls, by the folder's name."""
    vendors = dict[str, PolledVendor]()
    for folder in pkgutil.iter_modules(package.__path__):
        if (
            not folder.ispkg
            or importlib.util.find_spec(f"{package.__name__}.{folder.name}.poll") is None
        ):
            continue
        name = folder.name
        module = importlib.import_module(f"{package.__name__}.{name}.poll")
        if polls := getattr(module, "POLLS", None):
            vendors[name] = PolledVendor(
                name,
                {poll.object_kind: poll for poll in polls},
                getattr(module, "fetch_order", None),
                getattr(module, "URL", ""),
                getattr(module, "NEEDS", CREDENTIALS),
            )
    return vendors


VENDORS = find_polled_vendors()
