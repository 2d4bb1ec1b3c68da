"""A storefront's own order, and what is put right in it where it is not as its contract says and no
ticket depends on it.
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
    uncountable,
)
from services.ingest.vendors.shared.notes import Note, quoted
from services.ingest.vendors.shared.php_lists import listed
from services.ingest.vendors.shared.source import reasonable

WHOLE = TypeAdapter(int)
AMOUNTS, DATES = ("total_minor", "refunded_minor"), ("placed_at", "paid_at")


class ReadNativeOrder(NamedTuple):
    """`beside`: fields of a Storefront that keep what was written where it is no amount or
    currency.
    """

    order: NativeOrder
    beside: dict[str, str]
    notes: list[Note]


def read(body: bytes) -> ReadNativeOrder:
    """Raises ValidationError."""
    try:
        return within_bounds(NativeOrder.model_validate_json(body), {}, [])
    except ValidationError:
        if (put_right := repaired(body)) is None:
            raise
    document, beside, notes = put_right
    return within_bounds(NativeOrder.model_validate_json(document), beside, notes)


def within_bounds(order: NativeOrder, beside: dict[str, str], notes: list[Note]) -> ReadNativeOrder:
    """The same order when all its amounts and dates are within reason."""
    changes: dict[str, object] = {}
    for name in AMOUNTS:
        if abs(found := getattr(order, name)) > AMOUNT_MAX:
            changes[name], beside[text_name(name)] = 0, uncountable(found)
            notes.append(Note("unreadable-amount", name))
    for name in DATES:
        at: datetime | None = getattr(order, name)
        if at is not None and (at.tzinfo is None or reasonable(at) is None):
            changes[name] = None
            notes.append(Note("unreadable-date", name))
    if any(abs(it.total_minor) > AMOUNT_MAX for it in order.lines):
        changes["lines"] = tuple(
            it
            if abs(it.total_minor) <= AMOUNT_MAX
            else it.model_copy(update={"total_minor": 0, "total_text": uncountable(it.total_minor)})
            for it in order.lines
        )
        notes.append(Note("unreadable-amount", "lines.total_minor"))
    if order.currency not in EXPONENTS and "currency_text" not in beside:
        notes.append(Note("unknown-currency", f"the currency {quoted(order.currency)}"))
    return ReadNativeOrder(order.model_copy(update=changes) if changes else order, beside, notes)


def repaired(body: bytes) -> tuple[bytes, dict[str, str], list[Note]] | None:
    """None: it is no JSON object."""
    try:
        order = exact_json.loads(body)
        if not isinstance(order, dict):
            return None
        beside, notes = dict[str, str](), set[Note]()
        if (lines := listed(order.get("lines"))) is not None:
            order["lines"] = lines
        for line in lines or ():
            if isinstance(line, dict):
                notes.update(_line_put_right(line))
        notes.update(_put_right(order, beside))
        return exact_json.dumps(order), beside, sorted(notes)
    except (ValueError, RecursionError):
        return None


def _line_put_right(line: dict[str, Any]) -> Iterator[Note]:
    if (numbers := listed(line.get("numbers"))) is not None:
        line["numbers"] = numbers
    if "total_minor" in line and not is_whole(line["total_minor"]):
        line["total_text"], line["total_minor"] = uncountable(line["total_minor"]), 0
        yield Note("unreadable-amount", "lines.total_minor")


def _put_right(order: dict[str, Any], beside: dict[str, str]) -> Iterator[Note]:
    currency = order.get("currency")
    if not isinstance(currency, str) or CURRENCY.fullmatch(currency) is None:
        beside["currency_text"], order["currency"] = uncountable(currency), NO_CURRENCY
        yield Note("unknown-currency", f"the currency {quoted(str(currency))}")
    for name in AMOUNTS:
        written = order.get(name)
        if name in order or name == "total_minor":
            if is_whole(written, 0 if name == "refunded_minor" else None):
                continue
            beside[text_name(name)], order[name] = uncountable(written), 0
            yield Note("missing-field" if written is None else "unreadable-amount", name)
    for name in DATES:
        if order.get(name) is not None and not is_readable(order[name]):
            order[name] = None
            yield Note("unreadable-date", name)


def is_whole(value: object, least: int | None = None) -> bool:
    """Whether the model reads it as a whole number, and one that is not below `least`."""
    try:
        found = WHOLE.validate_python(value)
    except ValidationError:
        return False
    return not isinstance(value, bool) and (least is None or found >= least)


def text_name(name: str) -> str:
    return name.replace("_minor", "_text")
