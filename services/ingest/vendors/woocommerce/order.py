"""An order of WooCommerce's REST API v3: the fields that are read, and repairs before it
is read.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.text import rfc3339
from services.ingest.errors import CallbackUnreadable, WebhookReportsError
from services.ingest.vendors.shared import exact_json
from services.ingest.vendors.shared.dates import is_readable
from services.ingest.vendors.shared.php_lists import list_from_php
from services.ingest.vendors.shared.repairs import Repair
from services.ingest.vendors.shared.source import EARLIEST, LATEST, bounded_time_or_none

ID = re.compile(r"[0-9]{1,19}", re.ASCII)
TEXT_CHARS_MAX = 10_000
# Numbers are read as text (coerce_numbers_to_str).
Id = Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]
Text = Annotated[str | None, Field(max_length=TEXT_CHARS_MAX)]
Number = Annotated[str, Field(max_length=40)]  # neither null nor empty: nothing is not zero
Amount = Annotated[str | None, Field(max_length=40)]  # no ticket depends on it
At = datetime | None
EARLIEST_GMT, LATEST_GMT = EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None)
DATES = ("date_created_gmt", "date_modified_gmt", "date_paid_gmt")


class WooCommerceModel(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class WooCommerceBilling(WooCommerceModel):
    first_name: Text = None
    last_name: Text = None
    email: Text = None


class WooCommerceLineItem(WooCommerceModel):
    id: Id
    name: Text = None
    product_id: Id | None = None
    variation_id: Id | None = None
    sku: Text = None
    quantity: Number
    total: Amount = None
    meta_data: object = None  # by plugins: read separately, so that nothing in it costs the order


class WooCommerceRefund(WooCommerceModel):
    total: Amount = None


class WooCommerceOrder(WooCommerceModel):
    """An order: the fields that are read."""

    id: Id
    number: Text = None
    status: Annotated[str, Field(min_length=1, max_length=43)]
    currency: Annotated[str | None, Field(max_length=40)] = None
    date_created_gmt: At = None
    date_modified_gmt: At = None
    date_paid_gmt: At = None
    total: Amount = None
    billing: WooCommerceBilling
    line_items: Annotated[list[WooCommerceLineItem], Field(max_length=500)]
    refunds: Annotated[list[WooCommerceRefund] | None, Field(max_length=1_000)] = None
    transaction_id: Text = None
    meta_data: object = None


class WooCommerceDeletion(WooCommerceModel):
    """Nothing but an id. A body with more is another callback under a wrong type."""

    id: Id
    status: None = None
    line_items: None = None


def read_order(body: bytes) -> tuple[WooCommerceOrder, list[Repair]]:
    """Return the order and its repairs. Raises ValidationError or WebhookReportsError."""
    try:
        return WooCommerceOrder.__pydantic_validator__.validate_json(body), []
    except ValidationError:
        if error_text := api_error(body):
            raise WebhookReportsError(error_text) from None
        if (repaired_order := repaired(body)) is None:
            raise
    return WooCommerceOrder.__pydantic_validator__.validate_json(repaired_order[0]), repaired_order[
        1
    ]


def read_deletion(body: bytes) -> WooCommerceDeletion:
    """Return the deletion. Raises ValidationError or WebhookReportsError."""
    try:
        return WooCommerceDeletion.model_validate_json(body)
    except ValidationError:
        if error_text := api_error(body):
            raise WebhookReportsError(error_text) from None
        raise


def repaired(body: bytes) -> tuple[bytes, list[Repair]] | None:
    """Return the body with lists where PHP wrote objects, and without malformed values on which
    nothing depends (dates that order nothing, amounts); None if it is not a JSON object.
    """
    try:
        order = exact_json.loads(body)
        if not isinstance(order, dict):
            return None
        repairs = [*_repair_lists(order), *_repair_dates(order), *_repair_texts(order)]
        amounts = [*_repair_amounts(order)]
        return exact_json.dumps(order), repairs + amounts
    except (ValueError, RecursionError):
        return None


def _repair_lists(order: dict[str, Any]) -> list[Repair]:
    repairs = list[Repair]()
    if (lines := list_from_php(order.get("line_items"))) is not None:
        order["line_items"] = lines
    if order.get("billing") == []:  # PHP's empty object
        order["billing"] = {}
    if (refunds := order.get("refunds")) is not None:
        listed = list_from_php(refunds)
        order["refunds"] = listed and [
            refund if isinstance(refund, dict) else {} for refund in listed
        ]
        if listed is None:
            repairs.append(Repair("unreadable-list", "refunds"))
    return repairs


def _repair_dates(order: dict[str, Any]) -> list[Repair]:
    """Remove unreadable dates. WordPress writes a missing one as an empty text,
    `0000-00-00T00:00:00` or `-0001-11-30T00:00:00`.
    """
    repairs = list[Repair]()
    for name in DATES:
        if order.get(name) is not None and not is_readable(order[name]):
            order[name] = None
            repairs.append(Repair("unreadable-date", name))
    return repairs


def _repair_texts(order: dict[str, Any]) -> list[Repair]:
    """Remove malformed names and references on which no ticket depends. PHP writes a missing one as
    an empty text, `false` or an empty list.
    """
    lines = [
        line for line in list_from_php(order.get("line_items")) or () if isinstance(line, dict)
    ]
    repairs = set[Repair]()
    for owner, name, cause in (
        (order, "number", "number"),
        (order, "transaction_id", "transaction_id"),
        *((line, "name", "line_items.name") for line in lines),
    ):
        if not _is_short(owner.get(name), TEXT_CHARS_MAX):
            repairs |= {Repair("missing-field", cause)} if owner[name] else set()
            owner[name] = None
    for line in lines:
        if (variation_id := line.get("variation_id")) is not None and not (
            _is_short(variation_id) and ID.fullmatch(str(variation_id))
        ):
            repairs |= (
                {Repair("missing-field", "line_items.variation_id")} if variation_id else set()
            )
            line["variation_id"] = None
    return sorted(repairs)


def _repair_amounts(order: dict[str, Any]) -> list[Repair]:
    """Remove amounts that no model reads at all. Other malformed amounts are counted as unreadable
    later.
    """
    repairs = set[Repair]()
    for owner, cause in (
        (order, "total"),
        *(
            (entry, "line_items.total")
            for entry in list_from_php(order.get("line_items")) or ()
            if isinstance(entry, dict)
        ),
        *(
            (entry, "refunds.total")
            for entry in list_from_php(order.get("refunds")) or ()
            if isinstance(entry, dict)
        ),
    ):
        if not _is_short(owner.get("total")):
            owner["total"] = None
            repairs.add(Repair("unreadable-amount", cause))
    if not _is_short(order.get("currency")):
        order["currency"] = None
    return sorted(repairs)


def _is_short(value: object, chars_max: int = 40) -> bool:
    """Return whether a model reads it as a text; with the default, as an amount or a currency."""
    is_one = value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))
    return is_one and len(str(value)) <= chars_max


def api_error(body: bytes) -> str:
    """Return the text of a REST API error, which a shop signs and sends when the webhook's user may
    not read the order; else an empty text.
    """
    try:
        document = orjson.loads(body)
    except ValueError:
        return ""
    data = document.get("data") if isinstance(document, dict) else None
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("status"), int)
        or not {"code", "message"} <= document.keys()
    ):
        return ""
    why = (
        "the user who made the webhook may no longer read orders"
        if data["status"] in {401, 403}
        else "no order"
    )
    return (
        f"an error of the shop's REST API, status {data['status']:d}, code "
        f"{str(document['code'])[:60]!r}: {why}"
    )


def modified_at(order: WooCommerceOrder, repairs: list[Repair]) -> datetime:
    """Return the time that orders the order. If it is missing, unreadable or out of bounds, it is
    the time of creation: then only the place in the log orders what the shop sends. A time out of
    bounds is reported as a repair.
    """
    if (at := order.date_modified_gmt) is not None:
        if (usable := within_bounds(at)) is not None:
            return usable
        repairs.append(Repair("unreadable-date", "date_modified_gmt"))
    if (created := order.date_created_gmt) is not None and (
        usable := within_bounds(created)
    ) is not None:
        return usable
    raise CallbackUnreadable("the order has no usable date_modified_gmt or date_created_gmt")


def within_bounds(at: datetime) -> datetime | None:
    """Return the time, or None if it is out of bounds: nothing may be pinned by it for ever. A time
    without an offset is UTC, as `*_gmt` has none; adding the offset would cost more than all else
    that is done with it.
    """
    if at.tzinfo is None:
        return at if EARLIEST_GMT <= at < LATEST_GMT else None
    return bounded_time_or_none(at)


def gmt_text(at: datetime) -> str:
    """As `rfc3339`, for a time within bounds."""
    return at.isoformat(timespec="microseconds") + "Z" if at.tzinfo is None else rfc3339(at)
