"""Decides which refunds an order shows when a gateway reports their total and names only some of
them. Pure.

A total is a fact beside the named refunds. Only the part of it that they do not add up to is shown.
So no refund is lost and none is counted twice, whether the gateway reports names, the total, or
both. What was never captured is not refunded: a refund that records the release of a part of an
authorisation (`released_minor`) is not shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from schemas.orders import Movement, Time
from schemas.structs import SnapshotPart, decode, encode
from schemas.text import rfc3339
from services.ingest.rules.facts import MOVED, Fact

REFUNDED_TOTAL = re.compile(r"moved:[a-z0-9-]{1,32}:refunds:", re.ASCII)


class RefundedTotal(SnapshotPart, frozen=True, kw_only=True):
    """How much of a charge was refunded by a time, and how much of that was never captured. Amounts
    are in minor units.
    """

    gateway: str
    reference: str  # the charge
    payment: str
    refunded_minor: int
    released_minor: int
    currency: str
    at: Time


def refunds_fact(total: RefundedTotal) -> Fact:
    """Return the total as a fact. If two have the same second, the greater total came later."""
    content = encode(total)
    digest = hashlib.sha256(content).hexdigest()
    version = f"{rfc3339(total.at)}/{total.refunded_minor:016d}/{digest}"
    return Fact(f"{MOVED}{total.gateway}:refunds:{total.reference}", version, content)


def movements(facts: Mapping[str, Fact]) -> list[bytes]:
    """Return all movements as JSON, in the order of their facts' names."""
    contents = {name: facts[name].content for name in sorted(facts) if name.startswith(MOVED)}
    for name in [name for name in contents if REFUNDED_TOTAL.match(name)]:
        total = decode(RefundedTotal, contents.pop(name))
        named_refunds = _named_refunds(contents, total)
        if (released := _released_refund(named_refunds, total.released_minor)) is not None:
            del contents[released], named_refunds[released]
        unnamed_minor = total.refunded_minor - sum(
            refund.amount_minor or 0
            for refund in named_refunds.values()
            if _is_counted(refund, total)
        )
        if unnamed_minor > 0:
            contents[name] = encode(_unnamed_refund(total, unnamed_minor))
    return [contents[name] for name in sorted(contents)]


def _named_refunds(contents: Mapping[str, bytes], total: RefundedTotal) -> dict[str, Movement]:
    """Return the named refunds of the same payment, by their facts' names."""
    prefix = f"{MOVED}{total.gateway}:refund:"
    refunds = {
        name: decode(Movement, content)
        for name, content in contents.items()
        if name.startswith(prefix)
    }
    return {name: refund for name, refund in refunds.items() if refund.payment == total.payment}


def _released_refund(named: Mapping[str, Movement], released_minor: int) -> str | None:
    """Return the refund that records the release: the first one of its amount. It is reported once,
    while a charge is captured.
    """
    same_amount = [
        (refund.at, name)
        for name, refund in named.items()
        if refund.amount_minor == released_minor and refund.state != "failed"
    ]
    return min(same_amount)[1] if released_minor and same_amount else None


def _is_counted(refund: Movement, total: RefundedTotal) -> bool:
    """Return whether the total includes the refund: one that failed before is no longer in it."""
    return refund.state != "failed" or refund.at > total.at


def _unnamed_refund(total: RefundedTotal, amount_minor: int) -> Movement:
    """Return the unnamed part of the total."""
    return Movement(
        gateway=total.gateway,
        kind="refund",
        reference=total.reference,
        payment=total.payment,
        state="done",
        amount_minor=amount_minor,
        currency=total.currency,
        detail="without a name",
        at=total.at,
    )
