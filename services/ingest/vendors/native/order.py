"""A storefront's own order, and repairs of values that violate its contract and that no ticket
depends on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from schemas.callbacks import NativeOrder
from services.ingest.vendors.shared import exact_json
from services.ingest.vendors.shared.dates import is_readable
from services.ingest.vendors.shared.money import (
    AMOUNT_MAX,
    CURRENCY,
    EXPONENTS,
    NO_CURRENCY,
    amount_text,
)
from services.ingest.vendors.shared.php_lists import list_from_php
from services.ingest.vendors.shared.repairs import Repair, quoted
from services.ingest.vendors.shared.source import bounded_time_or_none

INTEGER = TypeAdapter(int)
AMOUNTS, DATES = ("total_minor", "refunded_minor"), ("placed_at", "paid_at")


class ReadNativeOrder(NamedTuple):
    """`beside` holds the Storefront's text fields for values that are no amount or currency."""

    order: NativeOrder
    beside: dict[str, str]
    repairs: list[Repair]


def read(body: bytes) -> ReadNativeOrder:
    """Read and repair an order. Raises ValidationError."""
    try:
        return bound_amounts_and_dates(NativeOrder.model_validate_json(body), {}, [])
    except ValidationError:
        if (put_right := repaired(body)) is None:
            raise
    document, beside, repairs = put_right
    return bound_amounts_and_dates(NativeOrder.model_validate_json(document), beside, repairs)


def bound_amounts_and_dates(
    order: NativeOrder, beside: dict[str, str], repairs: list[Repair]
) -> ReadNativeOrder:
    """Return the order with values that are out of bounds replaced; the same order if there are
    none.
    """
    changes: dict[str, object] = {}
    for name in AMOUNTS:
        if abs(amount := getattr(order, name)) > AMOUNT_MAX:
            changes[name], beside[text_name(name)] = 0, amount_text(amount)
            repairs.append(Repair("unreadable-amount", name))
    for name in DATES:
        at: datetime | None = getattr(order, name)
        if at is not None and (at.tzinfo is None or bounded_time_or_none(at) is None):
            changes[name] = None
            repairs.append(Repair("unreadable-date", name))
    if any(abs(line.total_minor) > AMOUNT_MAX for line in order.lines):
        changes["lines"] = tuple(
            line
            if abs(line.total_minor) <= AMOUNT_MAX
            else line.model_copy(
                update={"total_minor": 0, "total_text": amount_text(line.total_minor)}
            )
            for line in order.lines
        )
        repairs.append(Repair("unreadable-amount", "lines.total_minor"))
    if order.currency not in EXPONENTS and "currency_text" not in beside:
        repairs.append(Repair("unknown-currency", f"the currency {quoted(order.currency)}"))
    return ReadNativeOrder(order.model_copy(update=changes) if changes else order, beside, repairs)


def repaired(body: bytes) -> tuple[bytes, dict[str, str], list[Repair]] | None:
    """Return the repaired body; None if it is not a JSON object."""
    try:
        order = exact_json.loads(body)
        if not isinstance(order, dict):
            return None
        beside, repairs = dict[str, str](), set[Repair]()
        if (lines := list_from_php(order.get("lines"))) is not None:
            order["lines"] = lines
        for line in lines or ():
            if isinstance(line, dict):
                repairs.update(_repair_line(line))
        repairs.update(_repair_order(order, beside))
        return exact_json.dumps(order), beside, sorted(repairs)
    except (ValueError, RecursionError):
        return None


def _repair_line(line: dict[str, Any]) -> Iterator[Repair]:
    if (numbers := list_from_php(line.get("numbers"))) is not None:
        line["numbers"] = numbers
    if "total_minor" in line and not is_whole(line["total_minor"]):
        line["total_text"], line["total_minor"] = amount_text(line["total_minor"]), 0
        yield Repair("unreadable-amount", "lines.total_minor")


def _repair_order(order: dict[str, Any], beside: dict[str, str]) -> Iterator[Repair]:
    currency = order.get("currency")
    if not isinstance(currency, str) or CURRENCY.fullmatch(currency) is None:
        beside["currency_text"], order["currency"] = amount_text(currency), NO_CURRENCY
        yield Repair("unknown-currency", f"the currency {quoted(str(currency))}")
    for name in AMOUNTS:
        written = order.get(name)
        if name in order or name == "total_minor":
            if is_whole(written, 0 if name == "refunded_minor" else None):
                continue
            beside[text_name(name)], order[name] = amount_text(written), 0
            yield Repair("missing-field" if written is None else "unreadable-amount", name)
    for name in DATES:
        if order.get(name) is not None and not is_readable(order[name]):
            order[name] = None
            yield Repair("unreadable-date", name)


def is_whole(value: object, least: int | None = None) -> bool:
    """Return whether the model reads it as a whole number that is not below `least`."""
    try:
        number = INTEGER.validate_python(value)
    except ValidationError:
        return False
    return not isinstance(value, bool) and (least is None or number >= least)


def text_name(name: str) -> str:
    return name.replace("_minor", "_text")
