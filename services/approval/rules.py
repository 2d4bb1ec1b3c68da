"""What shall be of an order? Pure: an observation and a policy in, a decision out; no memory, no
clock, no chance, no I/O.

A decision goes by the set of facts that the observation holds, never by the order in which they
came:

1. Deleted, or the current status cancels (cancelled, refunded, failed, trash): `cancelled`.
2. The trigger holds: it is the current status, or it was reached later than the last status that
   cancels; for payment complete: the order has been paid, or its marketplace, which tells no
   payment, has sold it (as for a status). Then `released`, or `gated` while a gate has a reason to
   keep it back.
3. Else `observed`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

from schemas.orders import TICKETS_PER_ORDER_MAX, Line, OrderObserved, Person, State
from schemas.text import nearest

CANCELLING = frozenset({"cancelled", "refunded", "failed", "trash"})
UNPAID = frozenset({"pending", "on-hold", "checkout-draft", "auto-draft"})
PAID = frozenset({"processing", "completed"})
SOLD = frozenset({"accepted", "completed"})  # by a marketplace
PAYMENT_COMPLETE = "payment_complete"
STATUS_CHARS_MAX = 40  # as in schemas.orders
STATUS = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
NEAR = 0.8  # `complete` is meant to be completed, `deposit-paid` is a status of its own
NOBODY = Person()


def status_of(text: str) -> str:
    """Shops write `Completed` and `wc-completed` too."""
    return text.strip().lower().removeprefix("wc-")


@dataclass(frozen=True, slots=True)
class Policy:
    """When an order's tickets are due: payment complete, or any of these statuses."""

    statuses: frozenset[str]
    is_by_payment: bool = False

    @property
    def said(self) -> str | list[str]:
        """As settings, receipts and the version say it."""
        return PAYMENT_COMPLETE if self.is_by_payment else sorted(self.statuses)

    @property
    def version(self) -> str:
        """The same for the same policy, in whatever words and order it was written."""
        return hashlib.sha256(json.dumps({"issue_when": self.said}).encode()).hexdigest()[:16]

    @property
    def satisfying(self) -> frozenset[str]:
        """A completed order has been processed, whether or not the shop said so on the way."""
        if self.is_by_payment:
            return SOLD
        return self.statuses | {"completed"} if "processing" in self.statuses else self.statuses


@dataclass(frozen=True, slots=True)
class PreparedPolicy:
    """A policy with what a decision asks of it, worked out once."""

    policy: Policy
    version: str
    satisfying: frozenset[str]
    awaited: str


def prepare(policy: Policy) -> PreparedPolicy:
    awaited = (
        "payment" if policy.is_by_payment else "status " + " or ".join(sorted(policy.statuses))
    )
    return PreparedPolicy(policy, policy.version, policy.satisfying, f"waiting for {awaited}")


class LineDecision(NamedTuple):
    line: Line
    quantity: int  # what shall be active now


class Decision(NamedTuple):
    state: State
    reasons: tuple[str, ...]
    buyer: Person
    number: str
    lines: tuple[LineDecision, ...]
    refund_due_tickets: int


Gate: TypeAlias = Callable[
    [OrderObserved], Sequence[str]
]  # reasons to keep a released order back; none: it may go


def decide(
    observed: OrderObserved, prepared: PreparedPolicy, gates: Sequence[Gate] = ()
) -> Decision:
    """See the module. Gates are asked only about what would be released."""
    state, reasons = judge(observed, prepared)
    if state == "released" and (
        held := tuple(reason for gate in gates for reason in gate(observed))
    ):
        state, reasons = "gated", held
    front = observed.storefront
    if front is None:
        return Decision(state, reasons, NOBODY, "", (), 0)
    lines, refund_due = shares(front.lines) if state == "released" else (nothing(front.lines), 0)
    return Decision(state, reasons, front.buyer, front.number, lines, refund_due)


def judge(observed: OrderObserved, prepared: PreparedPolicy) -> tuple[State, tuple[str, ...]]:
    """The state by the facts alone, and why, in words for people."""
    front = observed.storefront
    if observed.is_deleted:
        return "cancelled", ("deleted",)
    if front is None:
        return "observed", ("the shop has not told the order yet",)
    status = status_of(front.status)
    if status in CANCELLING:
        return "cancelled", (f"status {status}",)
    if prepared.policy.is_by_payment:
        if front.paid_at is not None:
            return "released", ("payment complete",)
        if not front.channel:
            return "observed", (prepared.awaited,)
    return by_status(status, observed.reached, prepared)


def by_status(
    status: str, told: Mapping[str, datetime], prepared: PreparedPolicy
) -> tuple[State, tuple[str, ...]]:
    """Of a status that does not cancel, and when each was last told."""
    if status in prepared.satisfying:
        return "released", (f"status {status}",)
    met = _latest(told, prepared.satisfying)
    if met is None:
        return "observed", (prepared.awaited,)
    fell = _latest(told, CANCELLING)
    if fell is not None and fell[0] >= met[0]:
        return "observed", (f"{prepared.awaited} again: it was {fell[1]} since",)
    return "released", (f"status {met[1]} was reached",)


def _latest(told: Mapping[str, datetime], names: frozenset[str]) -> tuple[datetime, str] | None:
    """When one of these statuses was last told; of two at the same instant the greater name, so
    that the answer is one.
    """
    return max(
        ((at, name) for word, at in told.items() if (name := status_of(word)) in names),
        default=None,
    )


def nothing(lines: Sequence[Line]) -> tuple[LineDecision, ...]:
    return tuple(LineDecision(line, 0) for line in lines)


def shares(lines: Sequence[Line]) -> tuple[tuple[LineDecision, ...], int]:
    """Tickets up to the most that an order may have, in the order of the lines; the rest is refund
    due.
    """
    left, over = TICKETS_PER_ORDER_MAX, 0
    decided = []
    for line in lines:
        taken = min(line.quantity, left)
        left -= taken
        over += line.quantity - taken
        decided.append(LineDecision(line, taken))
    return tuple(decided), over


def trigger_problems(words: Sequence[str], custom: frozenset[str]) -> Iterator[str]:
    """What is wrong with a trigger as it was written: nobody may find out from a missing ticket.

    `custom`: a shop's own statuses. Without such a list any is taken that does not look like a
    misspelt one.
    """
    names = [status_of(word) for word in words]
    if not any(names):
        yield f"is empty: say {PAYMENT_COMPLETE}, or statuses such as completed"
        return
    if PAYMENT_COMPLETE in names and len(names) > 1:
        yield f"says {PAYMENT_COMPLETE}, which stands alone: statuses beside it would mean nothing"
    for name in names:
        if name in CANCELLING:
            yield f"says {name}, which cancels an order, so it cannot release one"
        elif name in UNPAID:
            yield (
                f"says {name}, which is not paid: {PAYMENT_COMPLETE} issues on payment, "
                "whatever the status"
            )
        elif problem := _stranger(name, custom):
            yield problem


def _stranger(name: str, custom: frozenset[str]) -> str | None:
    known = PAID | custom | {PAYMENT_COMPLETE}
    if name in known:
        return None
    if not STATUS.fullmatch(name):
        return (
            f"says {name!r}, which is no status: letters, digits, - and _, at most "
            f"{STATUS_CHARS_MAX}"
        )
    if match := nearest(name, sorted(known), NEAR):
        return f"says {name}; did you mean {match}?"
    return f"says {name}, which is not among the custom statuses" if custom else None


def policy_of(words: Sequence[str]) -> Policy:
    """Of words without problems."""
    names = frozenset(status_of(word) for word in words)
    return Policy(frozenset(), is_by_payment=True) if PAYMENT_COMPLETE in names else Policy(names)


def unlisted(words: Sequence[str], custom: frozenset[str]) -> list[str]:
    """Triggers that nobody says there are: taken, for a shop may have any status, and worth a word
    at the start.
    """
    return sorted({status_of(word) for word in words} - PAID - custom - {PAYMENT_COMPLETE, ""})
