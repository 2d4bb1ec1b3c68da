"""What is only kept costs no order: amounts, currencies, dates by which nothing is ordered, lists
of another form.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import structs
from schemas.orders import Storefront
from services.ingest import vendors
from services.ingest.callback_records import records
from services.ingest.config.sources_file import SourceConfig
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.facts import ParsedCallback
from services.ingest.vendors import WEBHOOK_SOURCES
from services.ingest.vendors.shared.money import EXPONENTS
from services.ingest.vendors.shared.php_lists import list_from_php
from services.ingest.vendors.woocommerce.cards import without_cards
from services.runtime.records import Record
from tests.support.callbacks import AT, native, native_order, record, woo_order

PAYMENTS = ("shop/ch_0000000000000000", "shop/pi_0000000000000000")


def front(callback: ParsedCallback) -> Storefront:
    """As it was written, which is as the model writes it."""
    (content,) = [fact.content for fact in callback.facts if fact.name == "storefront"]
    storefront = structs.decode(Storefront, content)
    assert structs.encode(storefront) == content
    return storefront


def read(decimals: int | None = None, **changes: object) -> ParsedCallback:
    return vendors.parse(record(woo_order(**changes), decimals=decimals))


def drift_pairs(callback: ParsedCallback) -> list[tuple[str, str]]:
    return [(drift_notice.kind, drift_notice.cause) for drift_notice in callback.drift]


def usual(callback: ParsedCallback) -> None:
    """Everything that tickets and payments depend on came through."""
    storefront = front(callback)
    assert [(line.line_id, line.quantity) for line in storefront.lines] == [("315", 2), ("316", 1)]
    assert storefront.lines[1].recipient is not None
    assert callback.payments == PAYMENTS


# Amounts.


@pytest.mark.parametrize("currency", ["IRT", "GGP", "IMP", "JEP", "BTC", "XTS"])
def test_a_currency_that_iso_does_not_count_costs_no_order(currency: str) -> None:
    callback = read(currency=currency)
    usual(callback)
    storefront = front(callback)
    assert (
        storefront.currency,
        storefront.currency_text,
        storefront.total_minor,
        storefront.total_text,
    ) == (
        currency,
        None,
        0,
        "15.00",
    )
    assert [line.total_text for line in storefront.lines] == ["10.00", "5.00"]
    assert drift_pairs(callback) == [("unknown-currency", f"the currency '{currency}'")]


@pytest.mark.parametrize(
    ("currency", "text"), [("eur", "eur"), ("USDT", "USDT"), (None, ""), (7, "7"), ([], "")]
)
def test_a_currency_that_is_no_code_is_kept_as_it_was_written(currency: object, text: str) -> None:
    callback = read(currency=currency)
    usual(callback)
    storefront = front(callback)
    assert (storefront.currency, storefront.currency_text, storefront.total_text) == (
        "XXX",
        text,
        "15.00",
    )
    assert [drift_notice.kind for drift_notice in callback.drift] == ["unknown-currency"]


@pytest.mark.parametrize(
    ("currency", "total", "text"),
    [
        ("JPY", "1500.50", "1500.50"),
        ("ISK", "1500.50", "1500.50"),
        ("EUR", "15.0050", "15.0050"),
        ("EUR", "1e3", "1e3"),
    ],
)
def test_more_digits_than_the_currency_has_cost_no_order_and_are_never_rounded(
    currency: str, total: str, text: str
) -> None:
    items = [{**line_item, "total": total} for line_item in woo_order()["line_items"]]
    callback = read(
        currency=currency, total=total, line_items=items, refunds=[{"id": 1, "total": f"-{total}"}]
    )
    usual(callback)
    storefront = front(callback)
    assert (storefront.total_minor, storefront.total_text, storefront.refunded_minor) == (
        0,
        text,
        0,
    )
    assert storefront.refunded_text == f"-{text}"
    assert {line.total_text for line in storefront.lines} == {text}
    assert drift_pairs(callback) == [
        ("unreadable-amount", "line_items.total"),
        ("unreadable-amount", "refunds.total"),
        ("unreadable-amount", "total"),
    ]


@pytest.mark.parametrize(
    ("decimals", "currency", "total", "minor", "shown"),
    [
        (2, "JPY", "1500.50", 150_050, 2),
        (4, "EUR", "15.0050", 150_050, 4),
        (0, "IRT", "15000", 15_000, 0),
        (8, "BTC", "0.00012345", 12_345, 8),
        (2, "EUR", "15.00", 1_500, None),
    ],
)
def test_a_shop_that_counts_otherwise_is_counted_by_its_settings(
    decimals: int, currency: str, total: str, minor: int, shown: int | None
) -> None:
    items = [{**line_item, "total": total} for line_item in woo_order()["line_items"]]
    callback = read(decimals, currency=currency, total=total, line_items=items)
    storefront = front(callback)
    assert (storefront.total_minor, storefront.total_text, storefront.decimals) == (
        minor,
        None,
        shown,
    )
    assert {line.total_minor for line in storefront.lines} == {minor}
    assert not callback.drift


@pytest.mark.parametrize("value", [..., None, "", [], "x" * 41, True])
@pytest.mark.parametrize("steps", [(), ("line_items", 0), ("refunds", 0)])
def test_an_amount_that_is_missing_or_no_text_is_unknown_and_not_zero(
    steps: tuple[str | int, ...], value: object
) -> None:
    order: Any = copy.deepcopy(woo_order(refunds=[{"id": 801, "total": "-5.00"}]))
    owner = order
    for step in steps:
        owner = owner[step]
    owner.pop("total")
    if value is not ...:
        owner["total"] = value
    callback = vendors.parse(record(order))
    usual(callback)
    assert {what for _, what in drift_pairs(callback)} == {
        ".".join([*map(str, steps[:1]), "total"])
    }
    storefront = front(callback)
    assert [storefront.total_text, storefront.lines[0].total_text, storefront.refunded_text].count(
        None
    ) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"refunds": [{"id": number, "total": "-999999999999999.99"} for number in range(200)]},
        {"total": "99999999999999.99"},
    ],
)
def test_an_amount_beyond_all_money_is_kept_as_a_text(changes: dict[str, Any]) -> None:
    """Beyond 64 bits it would come back from the database as another number."""
    callback = read(**changes)
    usual(callback)
    storefront = front(callback)
    assert (storefront.total_minor, storefront.refunded_minor) in {(0, 0), (1500, 0)}
    assert {drift_notice.kind for drift_notice in callback.drift} == {"unreadable-amount"}


def test_the_sources_file_has_the_decimals_of_a_shop_and_its_records_carry_them() -> None:
    shop = SourceConfig("shop", WEBHOOK_SOURCES["woocommerce"], (), decimals=2)
    (polled,) = records(shop, "order.updated", json.dumps(woo_order(currency="JPY")).encode())
    output = polled.encode(time=AT)
    callback = vendors.parse(
        Record(output.topic, 0, 0, 0, output.key, output.value, output.headers)
    )
    assert (front(callback).total_minor, front(callback).decimals) == (1500, 2)


# Dates.

NO_DATES = ["", "-0001-11-30T00:00:00", "0000-00-00T00:00:00", "yesterday", []]


@pytest.mark.parametrize("value", NO_DATES)
@pytest.mark.parametrize("name", ["date_created_gmt", "date_paid_gmt"])
def test_a_date_by_which_nothing_is_ordered_counts_as_missing(name: str, value: object) -> None:
    callback, without = (
        vendors.parse(record(woo_order(**{name: given}))) for given in (value, None)
    )
    assert callback.facts == without.facts
    assert drift_pairs(callback) == [("unreadable-date", name)]


@pytest.mark.parametrize("value", NO_DATES)
def test_without_a_readable_time_of_change_the_time_of_creation_orders_and_then_the_log(
    value: object,
) -> None:
    callback = read(date_modified_gmt=value)
    assert callback.facts == read(date_modified_gmt=None).facts
    assert drift_pairs(callback) == [
        ("missing-field", "date_modified_gmt"),
        ("unreadable-date", "date_modified_gmt"),
    ]
    with pytest.raises(CallbackUnreadable):
        read(date_modified_gmt=value, date_created_gmt=value)


@pytest.mark.parametrize(
    "value", ["1970-01-01T00:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59"]
)
def test_a_date_out_of_bounds_orders_nothing_and_costs_no_order(value: str) -> None:
    callback = read(date_modified_gmt=value)
    assert callback.facts == read(date_modified_gmt=None).facts
    assert drift_pairs(callback) == [("unreadable-date", "date_modified_gmt")]


def test_a_time_of_payment_beyond_all_reason_counts_as_missing() -> None:
    callback = read(date_paid_gmt="2999-01-01T00:00:00")
    assert front(callback).paid_at is None
    assert drift_pairs(callback) == [("unreadable-date", "date_paid_gmt")]


# Lists.


def gapped(value: Any) -> Any:
    """Every list in it as PHP writes one with gaps."""
    if isinstance(value, list):
        return {str(3 * at + 1): gapped(item) for at, item in reversed([*enumerate(value)])}
    return (
        {name: gapped(item) for name, item in value.items()} if isinstance(value, dict) else value
    )


def test_lists_with_gaps_are_lists_everywhere() -> None:
    meta = [
        {"key": "Chosen numbers", "value": ["7", "12"]},
        {"key": "_gift_recipient_name", "value": "Bob"},
    ]
    (first, *others) = woo_order()["line_items"]
    order = woo_order(
        line_items=[{**first, "meta_data": meta}, *others], refunds=[{"id": 1, "total": "-5.00"}]
    )
    plain, odd = (vendors.parse(record(document)) for document in (order, gapped(order)))
    assert odd.facts == plain.facts
    assert odd.payments == plain.payments == PAYMENTS
    assert not odd.drift
    assert front(odd).lines[0].numbers == ("7", "12")
    assert front(odd).lines[0].recipient is not None


@pytest.mark.parametrize("name", ["meta_data", "line_items", "refunds"])
def test_each_list_alone_may_have_gaps(name: str) -> None:
    order = woo_order(refunds=[{"id": 1, "total": "-5.00"}])
    odd = vendors.parse(record({**order, name: gapped(order[name])}))
    assert odd.facts == vendors.parse(record(order)).facts
    usual(odd)


def test_card_data_is_removed_from_lists_with_gaps_too() -> None:
    body = json.dumps(
        woo_order(meta_data={"1": {"key": "card_number", "value": "4111111111111111"}})
    ).encode()
    assert b"4111111111111111" not in without_cards(body)


@pytest.mark.parametrize("value", ["x", 7, True, {"a": 1}])
def test_what_is_neither_a_list_nor_one_with_gaps_is_reported(value: object) -> None:
    items = [{**line_item, "meta_data": value} for line_item in woo_order()["line_items"]]
    callback = read(meta_data=value, line_items=items, refunds=value)
    assert {
        drift_notice.cause
        for drift_notice in callback.drift
        if drift_notice.kind == "unreadable-list"
    } == {
        "meta_data",
        "line_items.meta_data",
        "refunds",
    }
    with pytest.raises(CallbackUnreadable):
        read(line_items=value)


@given(st.lists(st.integers(), max_size=20), st.integers(0, 3))
def test_a_list_is_ordered_by_its_numbers_and_not_by_their_texts(
    values: list[int], gap: int
) -> None:
    odd = {str(at * (gap + 1)): value for at, value in enumerate(values)}
    assert (
        list_from_php(values)
        == list_from_php(odd)
        == list_from_php(dict(reversed(odd.items())))
        == values
    )


def test_the_empty_objects_of_php_are_what_they_were() -> None:
    storefront = front(read(billing=[], meta_data={}, refunds={}))
    assert (storefront.buyer.name, storefront.refunded_minor) == ("", 0)


# Variations.


@pytest.mark.parametrize(
    ("value", "expected"), [(17, "17"), ("018", "018"), (0, ""), ("00", ""), (None, "")]
)
def test_a_line_names_the_variation_of_its_product(value: object, expected: str) -> None:
    items = [{**line_item, "variation_id": value} for line_item in woo_order()["line_items"]]
    callback = read(line_items=items)
    assert {line.variation_id for line in front(callback).lines} == {expected}
    assert (b"variation_id" in callback.facts[0].content) is bool(expected)


# A storefront's own orders.


@pytest.mark.parametrize(
    ("value", "is_drift"),
    [("", False), (False, False), ([], False), (-1, True), ("all", True), ({"id": 7}, True)],
)
def test_a_variation_that_cannot_be_read_costs_no_order(value: object, is_drift: bool) -> None:
    order = copy.deepcopy(woo_order())
    order["line_items"][0]["variation_id"] = value
    callback = vendors.parse(record(order))
    usual(callback)
    assert front(callback).lines[0].variation_id == ""
    assert drift_pairs(callback) == (
        [("missing-field", "line_items.variation_id")] if is_drift else []
    )


@pytest.mark.parametrize("value", [[], {}, False, ["x"], {"0": "x"}])
def test_a_number_a_reference_and_a_lines_name_that_are_no_texts_cost_no_order(
    value: object,
) -> None:
    order = copy.deepcopy(woo_order(number=value, transaction_id=value))
    order["line_items"][0]["name"] = value
    storefront = front(callback := vendors.parse(record(order)))
    assert (storefront.number, storefront.lines[0].name) == (str(order["id"]), "")
    assert [line.quantity for line in storefront.lines] == [2, 1]
    names = ["line_items.name", "number", "transaction_id"]
    assert drift_pairs(callback) == ([("missing-field", name) for name in names] if value else [])


def own(**changes: object) -> ParsedCallback:
    return vendors.parse(native(native_order(**changes)))


def test_none_of_that_costs_a_storefronts_own_order_either() -> None:
    line = native_order()["lines"][0]
    odd = own(
        currency="USDT",
        total_minor="15.50",
        placed_at="",
        paid_at="0000-00-00T00:00:00",
        lines={"4": line},
    )
    storefront = front(odd)
    assert (
        storefront.currency,
        storefront.currency_text,
        storefront.total_minor,
        storefront.total_text,
    ) == (
        "XXX",
        "USDT",
        0,
        "15.50",
    )
    assert (storefront.placed_at, storefront.paid_at, storefront.lines[0].quantity) == (
        None,
        None,
        2,
    )
    assert {drift_notice.kind for drift_notice in odd.drift} == {
        "unknown-currency",
        "unreadable-amount",
        "unreadable-date",
    }


def test_a_storefronts_own_currency_that_iso_does_not_count_stays_and_so_do_its_minor_units() -> (
    None
):
    callback = own(currency="IRT")
    assert (front(callback).currency, front(callback).total_minor) == ("IRT", 1500)
    assert drift_pairs(callback) == [("unknown-currency", "the currency 'IRT'")]


@pytest.mark.parametrize("name", ["paid_at", "placed_at"])
@pytest.mark.parametrize(
    "value", ["2999-01-01T00:00:00Z", "2026-11-20", "2026-11-20T15:28:08", "soon"]
)
def test_a_date_of_its_own_by_which_nothing_is_ordered_counts_as_missing(
    name: str, value: str
) -> None:
    callback = own(**{"paid_at": "2026-11-20T15:28:08Z", name: value})
    assert getattr(front(callback), name) is None
    assert drift_pairs(callback) == [("unreadable-date", name)]


def test_the_time_of_change_stays_strict() -> None:
    for value in ("", "2026-11-20T15:28:08", "2999-01-01T00:00:00Z"):
        with pytest.raises(CallbackUnreadable):
            own(modified_at=value)
    assert front(
        own(modified_at="2026-11-20T15:28:08Z", paid_at="2026-11-20T15:28:08Z")
    ).paid_at == datetime(2026, 11, 20, 15, 28, 8, tzinfo=UTC)


def test_the_currencies_that_woocommerce_has_and_iso_lacks() -> None:
    assert not {"BTC", "GGP", "IMP", "IRT", "JEP", "PRB"} & EXPONENTS.keys()
