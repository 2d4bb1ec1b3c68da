"""Which refunds an order shows, where a gateway tells their sum and names only some of them. Pure.

A sum is a fact beside the refunds that are told by name, and shown only as far as they leave
something of it: so no refund is lost and none is counted twice, whether the names are told, the
sums, or both. What was never taken does not come back: a refund by which a gateway writes down that
it let go of a part of an authorisation (`released_minor`) is not shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from services.ingest.rules.facts import MOVED, Fact, sortable

REFUNDED_TOTAL = re.compile(r"moved:[a-z0-9-]{1,32}:refunds:", re.ASCII)


class RefundedTotal(NamedTuple):
    """What came back of a charge by a time, and how much of it was never taken. Amounts in minor
    units.
    """

    gateway: str
    reference: str  # the charge
    payment: str
    refunded_minor: int
    released_minor: int
    currency: str
    at: datetime


def refunds_fact(told: RefundedTotal) -> Fact:
    """Of two in the same second the greater sum came later."""
    at = sortable(told.at)
    said = orjson.dumps({**told._asdict(), "at": at})
    version = f"{at}/{told.refunded_minor:016d}/{hashlib.sha256(said).hexdigest()}"
    return Fact(f"{MOVED}{told.gateway}:refunds:{told.reference}", version, said)


def movements(facts: Mapping[str, Fact]) -> list[bytes]:
    """All that moved, as JSON, by the names of the facts."""
    told = {name: facts[name].content for name in sorted(facts) if name.startswith(MOVED)}
    for name in [name for name in told if REFUNDED_TOTAL.match(name)]:
        total = orjson.loads(told.pop(name))
        named = _named_refunds(told, total)
        if (let_go := _released_refund(named, total["released_minor"])) is not None:
            del told[let_go], named[let_go]
        rest = total["refunded_minor"] - sum(
            it["amount_minor"] or 0 for it in named.values() if _is_counted(it, total)
        )
        if rest > 0:
            told[name] = _unnamed_refund(total, rest)
    return [told[name] for name in sorted(told)]


def _named_refunds(
    told: Mapping[str, bytes], total: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The refunds of the same payment, by their facts."""
    refunds = {
        name: orjson.loads(it) for name, it in told.items() if name.startswith(_prefix(total))
    }
    return {name: it for name, it in refunds.items() if it["payment"] == total["payment"]}


def _prefix(total: Mapping[str, Any]) -> str:
    return f"{MOVED}{total['gateway']}:refund:"


def _released_refund(named: Mapping[str, Mapping[str, Any]], released_minor: int) -> str | None:
    """The refund by which the part was let go: the first of its amount. It is told while a charge
    is captured, and once.
    """
    alike = [
        (it["at"], name)
        for name, it in named.items()
        if it["amount_minor"] == released_minor and _has_not_failed(it)
    ]
    return min(alike)[1] if released_minor and alike else None


def _has_not_failed(it: Mapping[str, Any]) -> bool:
    return bool(it["state"] != "failed")


def _is_counted(it: Mapping[str, Any], total: Mapping[str, Any]) -> bool:
    """Whether the sum counts it: one that failed before is not in it any more."""
    return _has_not_failed(it) or datetime.fromisoformat(it["at"]) > datetime.fromisoformat(
        total["at"]
    )


def _unnamed_refund(total: Mapping[str, Any], rest: int) -> bytes:
    """A Movement."""
    return orjson.dumps(
        {
            "gateway": total["gateway"],
            "kind": "refund",
            "reference": total["reference"],
            "payment": total["payment"],
            "state": "done",
            "amount_minor": rest,
            "currency": total["currency"],
            "detail": "without a name",
            "at": total["at"],
        }
    )
