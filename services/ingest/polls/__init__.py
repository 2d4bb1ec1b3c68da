"""What webhooks lost, asked for: at each vendor that can be asked, bounded, and from where the last asking ended.

A vendor is one module of this package, by the name of its source's kind, with `POLLS`: what can be asked of him. It may have
`read_order(http, polled, external_id) -> Found`, for orders of which a source without proof spoke; `URL`, where everybody's
API is; and `NEEDS`, of `key` and `secret`, if it is not both.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import httpx

from services.ingest.polls.poll import Found, Poll, Polled

CREDENTIALS = ("key", "secret")


@dataclass(frozen=True, slots=True)
class Vendor:
    """A kind of source that can be asked."""

    kind: str
    polls: Mapping[str, Poll]  # by what they ask for
    read_order: Callable[[httpx.Client, Polled, str], Found] | None = None
    url: str = ""
    needs: Sequence[str] = CREDENTIALS


def _found() -> dict[str, Vendor]:
    """Every module here that declares polls, by its name."""
    vendors = dict[str, Vendor]()
    for name in (found.name for found in pkgutil.iter_modules(__path__)):
        module = import_module(f"{__name__}.{name}")
        if polls := getattr(module, "POLLS", None):
            vendors[name] = Vendor(
                name,
                {poll.what: poll for poll in polls},
                getattr(module, "read_order", None),
                getattr(module, "URL", ""),
                getattr(module, "NEEDS", CREDENTIALS),
            )
    return vendors


VENDORS = _found()
