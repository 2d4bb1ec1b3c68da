"""What gateways and fraud checkers share: references that can be names, amounts in their own units,
and the removal of card data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from schemas.orders import Movement, MovementKind, order_of
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules import facts
from services.ingest.vendors.shared.money import AMOUNT_MAX, EXPONENTS, amount_text
from services.ingest.vendors.shared.repairs import quoted
from services.ingest.vendors.shared.source import ReceivedCallback

__all__ = ["quoted"]

# Movements whose amounts a gateway reports.
KINDS_WITH_AMOUNTS: frozenset[MovementKind] = frozenset({"capture", "refund", "dispute"})

# Without blanks, because it stands in names and logs.
Reference = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
Minor = Annotated[int, Field(strict=True)]  # not "1500", 1500.0 or true
Text = Annotated[str | None, Field(max_length=10_000)]


class VendorModel(BaseModel):
    """The fields of a body that are read; the vendor may change the others."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


def order_reference(value: object) -> str | None:
    """Return the order's id that the shop gave to the gateway, or None if it cannot be one. Then
    only the payment joins the callback to its order.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return (
        text
        if isinstance(text, str) and text.isprintable() and order_of(f"shop:{text}".encode())
        else None
    )


def order_id(received: ReceivedCallback, value: object) -> str | None:
    reference = order_reference(value)
    return None if reference is None else f"{received.order_source}:{reference}"


def named_order(received: ReceivedCallback, value: str, field: str) -> str:
    """Return the order's id, for a vendor that reports on orders only. Raises
    CallbackUnreadable.
    """
    if (name := order_id(received, value)) is None:
        raise CallbackUnreadable(f"{field} can name no order")
    return name


def to_iso_minor(minor: int, currency: str, own_digits: Mapping[str, int]) -> int | None:
    """Return the amount in ISO 4217's minor units, in which shops write theirs. `own_digits` has
    the currencies that the gateway counts otherwise. None: the currency is unknown, the amount has
    a fraction of a unit, or it is out of bounds.
    """
    if (digits := EXPONENTS.get(currency)) is None:
        return None
    extra_digits = own_digits.get(currency, digits) - digits
    iso_minor, remainder = (
        divmod(minor, 10**extra_digits) if extra_digits > 0 else (minor * 10**-extra_digits, 0)
    )
    return None if remainder or abs(iso_minor) > AMOUNT_MAX else iso_minor


class CountedAmount(NamedTuple):
    """A movement's amount as its fields. If it cannot be counted, `amount_minor` is None and
    `amount_text` is what was written.
    """

    amount_minor: int | None = None
    currency: str | None = None
    amount_text: str | None = None


def counted_amount(counted: int | None, written: object, currency: str) -> CountedAmount:
    """Return the fields. `written` is the amount as the gateway wrote it."""
    if counted is not None:
        return CountedAmount(counted, currency)
    return CountedAmount(None, currency, amount_text(f"{written} {currency}"))


def kept_callback(
    received: ReceivedCallback, key: str, kind: str, cause: str, *, is_reported: bool
) -> facts.ParsedCallback:
    """Return a callback that is accepted, kept whole and not acted on."""
    drift_notice = facts.DriftNotice(
        received.source, kind, cause, received.body, is_kept=True, is_reported=is_reported
    )
    return facts.parsed_callback(key, None, drift=(drift_notice,))


def missing_amount_drift(
    received: ReceivedCallback, movement: Movement, event_type: str
) -> tuple[facts.DriftNotice, ...]:
    """Return the drift of a movement whose amount is missing or cannot be counted; it is accepted
    without it. `event_type` is as the gateway names it.
    """
    if movement.amount_text is not None:
        kind = "unknown-currency" if movement.currency not in EXPONENTS else "unreadable-amount"
        text = (
            f"the currency {quoted(movement.currency or '')}"
            if kind == "unknown-currency"
            else f"amount of {quoted(event_type)}"
        )
        return (facts.DriftNotice(received.source, kind, text, received.body),)
    if movement.amount_minor is not None or movement.kind not in KINDS_WITH_AMOUNTS:
        return ()
    return (
        facts.DriftNotice(
            received.source, "missing-field", f"amount of {quoted(event_type)}", received.body
        ),
    )


def field_blanker(*keys: str) -> Callable[[bytes], bytes]:
    """Return a function that empties the texts and numbers under these keys, at any depth, and
    leaves all other bytes as they are.

    It works by pattern, because it runs in the webhook endpoint, and in one pass: an unterminated
    text ends with the body. A quote inside a text is escaped, so only a key can match.
    """
    pattern = re.compile(
        rb'("(?:' + b"|".join(re.escape(key.encode()) for key in keys) + rb')"\s*:\s*)'
        rb'("[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|-?[0-9][0-9.eE+-]*+)',
        re.DOTALL,
    )

    def blank(match: re.Match[bytes]) -> bytes:
        return match[1] + (b'""' if match[2][:1] == b'"' else b"null")

    return lambda body: pattern.sub(blank, body)
