"""An order of WooCommerce as a Storefront."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from schemas.orders import Line, Person, Storefront
from services.ingest.errors import AmountUnreadable, CallbackUnreadable
from services.ingest.vendors.shared.money import (
    AMOUNT_MAX,
    CURRENCY,
    EXPONENTS,
    NO_CURRENCY,
    amount_text,
    counted,
    minor,
)
from services.ingest.vendors.shared.repairs import Repair, quoted
from services.ingest.vendors.shared.source import refuse_duplicate_lines
from services.ingest.vendors.shared.text import email, unescaped
from services.ingest.vendors.woocommerce.lines import LineMeta
from services.ingest.vendors.woocommerce.order import (
    WooCommerceLineItem,
    WooCommerceOrder,
    WooCommerceRefund,
    within_bounds,
)

QUANTITY_MAX, QUANTITY_DIGITS = 1_000_000, 7
STATUS_CHARS_MAX = 40  # as in schemas.orders


def storefront(
    order: WooCommerceOrder,
    word: str,
    extras: Sequence[LineMeta],
    decimals: int | None,
    repairs: list[Repair],
) -> Storefront:
    """Return the Storefront. `decimals` are the shop's, if they differ from the
    currency's. Amounts that cannot be counted are kept as texts, with a repair.
    """
    billing, refunds = order.billing, order.refunds
    digits = EXPONENTS.get(order.currency or "") if decimals is None else decimals
    refuse_duplicate_lines([item.id for item in order.line_items])
    if len(word) > STATUS_CHARS_MAX:
        raise CallbackUnreadable(f"the status is longer than {STATUS_CHARS_MAX}")
    name = " ".join(filter(None, (billing.first_name, billing.last_name)))
    total = counted(order.total, digits)
    refunded = refunded_minor(refunds, digits) if refunds else 0
    front = Storefront(
        status=word,
        number=unescaped(order.number or order.id, 64),
        currency=order.currency or "",
        total_minor=total or 0,
        refunded_minor=refunded or 0,
        placed_at=utc(within_bounds(order.date_created_gmt)) if order.date_created_gmt else None,
        paid_at=paid_at(order, repairs),
        buyer=Person(name=unescaped(name, 200), email=email(billing.email or "")),
        lines=tuple(
            [
                line(item, beside, digits, repairs)
                for item, beside in zip(order.line_items, extras, strict=True)
            ]
        ),
    )
    if total is not None and refunded is not None and decimals is None:
        return front
    return with_uncounted_amounts(order, front, Amounts(total, refunded, digits, decimals), repairs)


def utc(at: datetime | None) -> datetime | None:
    """Return the time with its offset, which `*_gmt` leaves out."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def paid_at(order: WooCommerceOrder, repairs: list[Repair]) -> datetime | None:
    if not order.date_paid_gmt:
        return None
    if (at := within_bounds(order.date_paid_gmt)) is None:
        repairs.append(Repair("unreadable-date", "date_paid_gmt"))
    return utc(at)


def line(
    item: WooCommerceLineItem, beside: LineMeta, digits: int | None, repairs: list[Repair]
) -> Line:
    person, total = beside.recipient, counted(item.total, digits)
    if total is None and digits is not None:
        repairs.append(amount_repair("line_items.total", item.total))
    variation_id = item.variation_id
    return Line(
        line_id=item.id,
        product_id=item.product_id or "",
        sku=unescaped(item.sku or "", 100),
        name=unescaped(item.name or "", 300),
        quantity=quantity(item.quantity),
        total_minor=total or 0,
        recipient=None if person is None else Person(name=person[0], email=person[1]),
        numbers=beside.numbers,
        variation_id=variation_id if variation_id and variation_id.strip("0") else "",
        total_text=amount_text(item.total) if total is None else None,
    )


class Amounts(NamedTuple):
    """The amounts of an order as they were counted: None where that is impossible."""

    total: int | None
    refunded: int | None
    digits: int | None  # of the currency
    decimals: int | None  # that the shop sends, if it sends them


def with_uncounted_amounts(
    order: WooCommerceOrder, front: Storefront, amounts: Amounts, repairs: list[Repair]
) -> Storefront:
    """Return the Storefront with the texts of amounts that cannot be counted, and add the
    repairs.
    """
    changes: dict[str, Any] = {}
    digits, decimals = amounts.digits, amounts.decimals
    if order.currency is None or CURRENCY.fullmatch(order.currency) is None:
        changes |= {"currency": NO_CURRENCY, "currency_text": amount_text(order.currency)}
    if decimals is not None and decimals != EXPONENTS.get(order.currency or ""):
        changes["decimals"] = decimals
    if digits is None:
        repairs.append(
            Repair("unknown-currency", f"the currency {quoted(order.currency or 'none')}")
        )
    if amounts.total is None:
        changes["total_text"] = amount_text(order.total)
        if digits is not None:
            repairs.append(amount_repair("total", order.total))
    if amounts.refunded is None:
        texts = " ".join(refund.total or "?" for refund in order.refunds or ())
        changes["refunded_text"] = amount_text(texts)
        if digits is not None:
            repairs.append(Repair("unreadable-amount", "refunds.total"))
    return msgspec.structs.replace(front, **changes)


def amount_repair(cause: str, text: str | None) -> Repair:
    return Repair("unreadable-amount" if text else "missing-field", cause)


def refunded_minor(refunds: Sequence[WooCommerceRefund], digits: int | None) -> int | None:
    """Return the sum of the refunds; None if one of them, or the sum, cannot be counted."""
    total = 0
    for refund in refunds:
        if (amount_minor := counted(refund.total, digits)) is None:
            return None
        total += abs(amount_minor)
    return total if total <= AMOUNT_MAX else None


def quantity(text: str) -> int:
    """Return the integer part: a line of 1.5 kg beside the tickets is accepted as one unit."""
    if text.isdecimal() and text.isascii() and len(text) < QUANTITY_DIGITS:
        return int(text)
    try:
        units = minor(text, 20) // 10**20
    except AmountUnreadable:
        raise CallbackUnreadable("a quantity is not a decimal number") from None
    if units > QUANTITY_MAX:
        raise CallbackUnreadable(f"a quantity is above {QUANTITY_MAX}")
    return max(units, 0)
