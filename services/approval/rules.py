"""The decision on an order. Pure: an observation and a policy go in, a decision comes out. There is
no memory, no clock, no randomness and no I/O.

A decision depends on the set of facts that the observation holds, never on the order in which they
came:

1. The order is deleted, or its current status cancels it (cancelled, refunded, failed, trash):
   `cancelled`.
2. The trigger holds: it is the current status, or it was reached later than the last status that
   cancels. For payment complete: the order is paid, or its marketplace, which reports no payment,
   has sold it (as for a status). Then `released`, or `gated` while a gate has a hold reason.
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
NEAR = 0.8  # `complete` is a misspelt `completed`; `deposit-paid` is a status of its own
NO_BUYER = Person()


def status_of(text: str) -> str:
    """Return the normalised status: shops write `Completed` and `wc-completed` too."""
    return text.strip().lower().removeprefix("wc-")


@dataclass(frozen=True, slots=True)
class Policy:
    """When an order's tickets are due: at payment complete, or at any of these statuses."""

    statuses: frozenset[str]
    is_by_payment: bool = False

    @property
    def issue_when(self) -> str | list[str]:
        """Return the trigger as settings and receipts write it."""
        return PAYMENT_COMPLETE if self.is_by_payment else sorted(self.statuses)

    @property
    def version(self) -> str:
        """Return a hash that is the same for the same policy, however it was written."""
        return hashlib.sha256(json.dumps({"issue_when": self.issue_when}).encode()).hexdigest()[:16]

    @property
    def satisfying(self) -> frozenset[str]:
        """Return the statuses that meet the trigger.

        A completed order has been processed, whether or not the shop reported that.
        """
        if self.is_by_payment:
            return SOLD
        return self.statuses | {"completed"} if "processing" in self.statuses else self.statuses


@dataclass(frozen=True, slots=True)
class PreparedPolicy:
    """A policy with its version, satisfying statuses and hold reason, each computed once."""

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
    quantity: int  # how many tickets are to be active


class Decision(NamedTuple):
    state: State
    reasons: tuple[str, ...]
    buyer: Person
    number: str
    lines: tuple[LineDecision, ...]
    refund_due_tickets: int


# Returns the reasons to hold an order back; none: it is released.
Gate: TypeAlias = Callable[[OrderObserved], Sequence[str]]


def decide(
    observed: OrderObserved, prepared: PreparedPolicy, gates: Sequence[Gate] = ()
) -> Decision:
    """Return the decision: see the module. Gates are only called for orders to be released."""
    state, reasons = classify_order(observed, prepared)
    if state == "released" and (
        hold_reasons := tuple(reason for gate in gates for reason in gate(observed))
    ):
        state, reasons = "gated", hold_reasons
    storefront = observed.storefront
    if storefront is None:
        return Decision(state, reasons, NO_BUYER, "", (), 0)
    lines, refund_due = (
        allocate_tickets(storefront.lines)
        if state == "released"
        else (no_tickets(storefront.lines), 0)
    )
    return Decision(state, reasons, storefront.buyer, storefront.number, lines, refund_due)


def classify_order(
    observed: OrderObserved, prepared: PreparedPolicy
) -> tuple[State, tuple[str, ...]]:
    """Return the state by the facts alone, and the reasons in words for people."""
    storefront = observed.storefront
    if observed.is_deleted:
        return "cancelled", ("deleted",)
    if storefront is None:
        return "observed", ("the shop has not reported the order yet",)
    status = status_of(storefront.status)
    if status in CANCELLING:
        return "cancelled", (f"status {status}",)
    if prepared.policy.is_by_payment:
        if storefront.paid_at is not None:
            return "released", ("payment complete",)
        if not storefront.channel:
            return "observed", (prepared.awaited,)
    return classify_by_status(status, observed.reached, prepared)


def classify_by_status(
    status: str, reached: Mapping[str, datetime], prepared: PreparedPolicy
) -> tuple[State, tuple[str, ...]]:
    """Classify a current status that does not cancel. `reached`: when each was last reported."""
    if status in prepared.satisfying:
        return "released", (f"status {status}",)
    met = _latest(reached, prepared.satisfying)
    if met is None:
        return "observed", (prepared.awaited,)
    cancelled = _latest(reached, CANCELLING)
    if cancelled is not None and cancelled[0] >= met[0]:
        return "observed", (f"{prepared.awaited} again: it was {cancelled[1]} since",)
    return "released", (f"status {met[1]} was reached",)


def _latest(reached: Mapping[str, datetime], names: frozenset[str]) -> tuple[datetime, str] | None:
    """Return which of these statuses was last reported, and when.

    Of two at the same instant it is the greater name, so that the result is unique.
    """
    return max(
        ((at, name) for word, at in reached.items() if (name := status_of(word)) in names),
        default=None,
    )


def no_tickets(lines: Sequence[Line]) -> tuple[LineDecision, ...]:
    return tuple(LineDecision(line, 0) for line in lines)


def allocate_tickets(lines: Sequence[Line]) -> tuple[tuple[LineDecision, ...], int]:
    """Allocate tickets up to the limit of an order, in the order of the lines.

    The second result counts the tickets beyond it, for which refunds are due.
    """
    left, refund_due = TICKETS_PER_ORDER_MAX, 0
    decided = []
    for line in lines:
        quantity = min(line.quantity, left)
        left -= quantity
        refund_due += line.quantity - quantity
        decided.append(LineDecision(line, quantity))
    return tuple(decided), refund_due


def trigger_problems(words: Sequence[str], custom: frozenset[str]) -> Iterator[str]:
    """Yield the problems of a trigger, so that a wrong one is refused before it can hold orders
    back.

    `custom`: a shop's own statuses. Without such a list any status is accepted that does not look
    like a misspelt one.
    """
    names = [status_of(word) for word in words]
    if not any(names):
        yield f"is empty: write {PAYMENT_COMPLETE}, or statuses such as completed"
        return
    if PAYMENT_COMPLETE in names and len(names) > 1:
        yield f"names {PAYMENT_COMPLETE}, which is used alone: statuses beside it have no effect"
    for name in names:
        if name in CANCELLING:
            yield f"names {name}, which cancels an order, so it cannot release one"
        elif name in UNPAID:
            yield (
                f"names {name}, which is not paid: {PAYMENT_COMPLETE} issues on payment, "
                "whatever the status"
            )
        elif problem := _unknown_status(name, custom):
            yield problem


def _unknown_status(name: str, custom: frozenset[str]) -> str | None:
    known = PAID | custom | {PAYMENT_COMPLETE}
    if name in known:
        return None
    if not STATUS.fullmatch(name):
        return (
            f"names {name!r}, which is no status: letters, digits, - and _, at most "
            f"{STATUS_CHARS_MAX}"
        )
    if match := nearest(name, sorted(known), NEAR):
        return f"names {name}; did you mean {match}?"
    return f"names {name}, which is not among the custom statuses" if custom else None


def policy_of(words: Sequence[str]) -> Policy:
    """Return the policy for trigger names in which `trigger_problems` finds no problem."""
    names = frozenset(status_of(word) for word in words)
    return Policy(frozenset(), is_by_payment=True) if PAYMENT_COMPLETE in names else Policy(names)


def unlisted_statuses(words: Sequence[str], custom: frozenset[str]) -> list[str]:
    """Return the triggers that no list of statuses names.

    They are accepted, because a shop may have any status, and are worth a warning at the start.
    """
    return sorted({status_of(word) for word in words} - PAID - custom - {PAYMENT_COMPLETE, ""})
