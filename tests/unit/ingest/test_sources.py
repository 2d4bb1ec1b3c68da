"""What the vendors' bytes mean. Each source is parsed in the same way; what cannot be read is a
dead letter with a reason.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas import structs
from schemas.envelope import NotAnEvent
from schemas.orders import Person, Storefront
from services.ingest import vendors
from services.ingest.errors import (
    AmountUnreadable,
    CallbackMisaddressed,
    CallbackTypeUnknown,
    CallbackUnreadable,
)
from services.ingest.rules.facts import ParsedCallback
from services.ingest.vendors.native import webhook as native_source
from services.ingest.vendors.shared.money import EXPONENTS, minor
from services.ingest.vendors.shared.source import WebhookRequest
from services.ingest.vendors.shared.text import clean, email, unescaped
from services.ingest.vendors.woocommerce import webhook as woocommerce
from services.runtime.records import Record
from tests.support.callbacks import AT, native, native_order, record, signature, woo_order
from tests.support.vendors.woocommerce import ACTION

HOOK = {woocommerce.SIGNATURE: b""}


def front(callback: ParsedCallback) -> Storefront:
    content = next(fact.content for fact in callback.facts if fact.name == "storefront")
    return structs.decode(Storefront, content)


# Proof of origin.


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("s3cr3t", "qY2Gl36+X5UqWQ/k7Z17aTwyK2OVpPPjsi+X9k+wXe0="),  # vector W1
        ("a&amp;b", "fvvfKrQTDGAWM83fuFQAeFPz+Xaj5zHi22J9mwwzwd8="),  # vector W2
    ],
)
def test_the_signature_is_the_vendors(shown: str, expected: str) -> None:
    headers = {woocommerce.SIGNATURE: expected.encode()}
    secret = woocommerce.signing_key(shown)
    assert woocommerce.verify(WebhookRequest(headers, b'{"id":727}', [secret]))
    assert not woocommerce.verify(WebhookRequest(headers, b'{"id":728}', [secret]))
    assert not woocommerce.verify(WebhookRequest(headers, b'{"id":727}', [b"other"]))


def test_several_secrets_are_valid_while_one_is_replaced() -> None:
    body = b'{"id":727}'
    for secret in ("old", "new"):
        assert woocommerce.verify(
            WebhookRequest(
                {woocommerce.SIGNATURE: signature(body, secret).encode()}, body, [b"old", b"new"]
            )
        )
    assert not woocommerce.verify(
        WebhookRequest(
            {woocommerce.SIGNATURE: signature(body, "x").encode()}, body, [b"old", b"new"]
        )
    )


@pytest.mark.parametrize("given", [b"", b"x", b"\xff\xfe", "ä".encode(), b"=" * 10_000])
def test_a_malformed_signature_does_not_fit(given: bytes) -> None:
    assert not woocommerce.verify(
        WebhookRequest({woocommerce.SIGNATURE: given}, b"{}", [b"s3cr3t"])
    )
    assert not woocommerce.verify(WebhookRequest({}, b"{}", [b"s3cr3t"]))
    assert not woocommerce.verify(WebhookRequest({woocommerce.SIGNATURE: b""}, b"{}", []))


def test_only_wordpress_own_entities_are_decoded_in_a_secret() -> None:
    shown = "&amp;&lt;&gt;&quot;&#039;&#x27;&#038;&amp;lt;&copy;&copy"
    assert woocommerce.signing_key(shown) == b"&<>\"''&&lt;&copy;&copy"


def test_a_ping_is_unsigned_and_nothing_but_a_number() -> None:
    assert woocommerce.is_ping(WebhookRequest({}, b"webhook_id=12", ()))
    for body in (b"webhook_id=", b"webhook_id=x", b"webhook_id=12&a=b", b"a=1", b""):
        assert not woocommerce.is_ping(WebhookRequest({}, body, ()))
    assert not woocommerce.is_ping(WebhookRequest(HOOK, b"webhook_id=12", ()))


def test_a_storefronts_own_source_accepts_no_unsigned_request() -> None:
    assert not native_source.SOURCE.verify(WebhookRequest({}, b"{}", [b"s3cr3t"]))
    assert not native_source.SOURCE.is_ping(WebhookRequest({}, b"webhook_id=12", ()))


# The key of a callback.


def test_neither_the_delivery_id_nor_the_reception_id_is_the_key() -> None:
    one = vendors.parse(record(woo_order()))
    other = vendors.parse(record(woo_order(), reception_id="b-2"))
    assert (one.key, one.content_hash) == (other.key, other.content_hash)


@pytest.mark.parametrize(
    "changes", [{"date_modified_gmt": "2026-11-20T15:28:09"}, {"status": "completed"}, {"id": 728}]
)
def test_order_second_and_status_make_the_key(changes: dict[str, object]) -> None:
    assert vendors.parse(record(woo_order())).key != vendors.parse(record(woo_order(**changes))).key


def test_source_and_topic_make_the_key_too() -> None:
    keys = {
        vendors.parse(record(woo_order())).key,
        vendors.parse(record(woo_order(), source="other")).key,
        vendors.parse(record(woo_order(), callback_type="order.created")).key,
    }
    assert len(keys) == 3


def test_other_bytes_with_the_same_content_are_the_same_callback() -> None:
    order = woo_order()
    plain = json.dumps(order).encode()
    spaced = json.dumps(dict(reversed(order.items())), indent=1).encode()
    one, other = vendors.parse(record(plain)), vendors.parse(record(spaced))
    assert plain != spaced
    assert (one.key, one.content_hash, one.facts) == (other.key, other.content_hash, other.facts)


# WooCommerce's bodies.


def test_the_sample_of_the_notes_is_read() -> None:
    callback = vendors.parse(record(woo_order()))
    order = front(callback)
    assert callback.order_id == "shop:727"
    assert [fact.name for fact in callback.facts] == ["storefront", "reached:processing"]
    assert callback.facts[1].content == b'"2026-11-20T15:28:08.000000Z"'
    assert (order.status, order.number, order.currency, order.total_minor) == (
        "processing",
        "727",
        "EUR",
        1500,
    )
    assert order.placed_at == datetime(2026, 11, 20, 15, 28, 2, tzinfo=UTC)
    assert order.paid_at == datetime(2026, 11, 20, 15, 28, 8, tzinfo=UTC)
    assert (order.buyer.name, order.buyer.email) == ("Ada Example", "ada@example.org")
    assert [
        (line.line_id, line.product_id, line.sku, line.quantity, line.total_minor)
        for line in order.lines
    ] == [
        ("315", "93", "RFL-SPRING", 2, 1000),
        ("316", "93", "RFL-SPRING", 1, 500),
    ]


def test_traps_of_the_vendor() -> None:
    order = front(
        vendors.parse(
            record(
                woo_order(
                    number="A&ndash;727",
                    status="wc-Completed",
                    date_paid_gmt=None,
                    refunds=[
                        {"id": 801, "reason": "x", "total": "-5.00"},
                        {"id": 802, "total": "-0.50"},
                    ],
                    billing={"first_name": "Zo&euml;", "last_name": " O&#039;Brien\n"},
                    meta_data=[{"id": 1, "key": "k", "value": {"deep": [1, {"x": None}]}}],
                    line_items=[
                        {
                            "id": 1,
                            "name": "Draw &ndash; entry",
                            "quantity": 2,
                            "total": 10,
                            "price": 5.0,
                        }
                    ],
                )
            )
        )
    )
    assert (order.status, order.number) == ("completed", "A\u2013727")
    assert order.refunded_minor == 550
    assert order.paid_at is None
    assert (order.buyer.name, order.buyer.email) == ("Zoë O'Brien", "")
    assert (order.lines[0].name, order.lines[0].total_minor) == ("Draw \u2013 entry", 1000)


@pytest.mark.feature("SF-070")
def test_a_deletion_is_a_fact_of_an_order_of_which_only_the_id_is_known() -> None:
    callback = vendors.parse(record(b'{"id":727}', callback_type="order.deleted"))
    (fact,) = callback.facts
    assert (callback.order_id, fact.name, fact.content) == ("shop:727", "deletion", b"true")
    assert fact.version.startswith("2026-11-20T15:30:00.000000Z/")  # when the endpoint received it


def test_restored_lifts_the_deletion_and_has_the_order() -> None:
    callback = vendors.parse(record(woo_order(), callback_type="order.restored"))
    assert {fact.name: fact.content for fact in callback.facts}["deletion"] == b"false"
    assert front(callback).status == "processing"


def test_a_whole_order_under_the_topic_deleted_deletes_nothing() -> None:
    """No signature covers the topic: a callback that was overheard must not cancel by another
    header.
    """
    with pytest.raises(CallbackUnreadable):
        vendors.parse(record(woo_order(), callback_type="order.deleted"))


def test_an_order_is_read_though_a_proxy_took_its_topic_and_an_id_alone_is_not() -> None:
    assert vendors.parse(record(woo_order(), callback_type="")).order_id == "shop:727"
    with pytest.raises(CallbackUnreadable):
        vendors.parse(record(b'{"id":727}', callback_type=""))


@pytest.mark.parametrize(
    "callback_type",
    ["coupon.updated", "customer.created", "action.woocommerce_add_to_cart", "order.\x1b"],
)
def test_what_is_not_about_orders_has_that_reason(callback_type: str) -> None:
    with pytest.raises(CallbackTypeUnknown):
        vendors.parse(record(woo_order(), callback_type=callback_type))
    with pytest.raises(CallbackTypeUnknown):
        vendors.parse(record(ACTION, callback_type=callback_type))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": -1},
        {"id": 1.5},
        {"id": True},
        {"id": "../x"},
        {"id": 10**30},
        {"status": ""},
        {"status": "x" * 60},
        {"status": "a\u202eb"},
        {"date_modified_gmt": "9999-12-31T23:59:59", "date_created_gmt": None},
        {
            "date_modified_gmt": "0001-01-01T00:00:00+14:00",
            "date_created_gmt": "1970-01-01T00:00:00",
        },
        {"date_modified_gmt": None, "date_created_gmt": None},
        {"line_items": None},
        {"line_items": [{"id": 1}, {"id": 1}]},
        {"line_items": [{"id": 1, "quantity": 10**9}]},
        {"line_items": [{"id": 1, "quantity": "many"}]},
        {"line_items": [{"id": n} for n in range(501)]},
        {"billing": "x"},
    ],
)
def test_an_order_that_is_malformed_is_unreadable(changes: dict[str, object]) -> None:
    with pytest.raises(CallbackUnreadable):
        vendors.parse(record(woo_order(**changes)))


def test_what_is_wrong_is_reported_without_what_was_sent() -> None:
    with pytest.raises(CallbackUnreadable) as caught:
        vendors.parse(record(woo_order(status=["hunter2"], billing={"email": ["ada@example.org"]})))
    assert "status" in caught.value.cause
    assert not {"hunter2", "ada@"} & set(caught.value.cause.split())


@pytest.mark.parametrize(
    ("body", "order_id"),
    [
        (b'{"id":727,"x":1}', "727"),
        (b' {\n "id" : 727 }', "727"),
        (b'{"x":1,"id":727}', None),
        (b'{"id":"727"}', None),
        (b'{"id":7.5}', None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_the_endpoint_reads_an_id_only_where_it_is_cheap(body: bytes, order_id: str | None) -> None:
    assert woocommerce.order_ids(body) == (order_id,)


def test_an_order_that_was_placed_beyond_all_reason_is_an_order_all_the_same() -> None:
    """Shops import old orders. That time orders nothing."""
    for created in ("1970-01-01T00:00:00", "2999-01-01T00:00:00", None):
        assert front(vendors.parse(record(woo_order(date_created_gmt=created)))).placed_at is None


# A storefront's own bodies.


def test_a_native_order_is_read() -> None:
    callback = vendors.parse(native(native_order()))
    assert callback.order_id == "shop:727"
    assert callback.key == "shop:727 e-1"
    assert [fact.name for fact in callback.facts] == ["storefront", "reached:completed"]
    assert front(callback).lines[0].quantity == 2
    assert front(callback).placed_at is None
    placed = front(
        vendors.parse(native(native_order(placed_at="2026-11-20T16:00:00+01:00")))
    ).placed_at
    assert placed == datetime(2026, 11, 20, 15, 0, tzinfo=UTC)


def test_the_same_instant_under_another_offset_is_the_same_order() -> None:
    here = native_order(
        modified_at="2026-11-20T16:28:08+01:00", paid_at="2026-11-20T16:28:08+01:00"
    )
    assert vendors.parse(native(here)) == vendors.parse(native(native_order()))


@pytest.mark.parametrize(("is_deleted", "content"), [(True, b"true"), (False, b"false")])
def test_a_native_order_may_be_about_its_deletion(is_deleted: bool, content: bytes) -> None:
    callback = vendors.parse(native(native_order(is_deleted=is_deleted)))
    assert {fact.name: fact.content for fact in callback.facts}["deletion"] == content


def lacking(name: str, *place: str | int, value: object) -> Record:
    """An order without a field, or with nothing in it: null, or an empty text."""
    order = copy.deepcopy(woo_order(refunds=[{"id": 801, "total": "-5.00"}]))
    owner: Any = order
    for step in place:
        owner = owner[step]
    owner.pop(name)
    if value is not ...:
        owner[name] = value
    return record(order)


@pytest.mark.parametrize("value", [..., None, ""])
def test_a_quantity_that_is_missing_is_not_read_as_zero(value: object) -> None:
    """The order waits as a dead letter, whole, and with all others that lack it is one incident."""
    with pytest.raises(CallbackUnreadable) as raised:
        vendors.parse(lacking("quantity", "line_items", 1, value=value))
    if value != "":
        assert raised.value.cause.startswith("line_items.1.quantity: ")


@pytest.mark.parametrize("value", [..., None])
@pytest.mark.parametrize("name", ["refunds", "date_modified_gmt"])
def test_a_missing_field_with_a_default_is_reported(name: str, value: object) -> None:
    callback = vendors.parse(lacking(name, value=value))
    assert [(drift_notice.kind, drift_notice.cause) for drift_notice in callback.drift] == [
        ("missing-field", name)
    ]
    assert len(callback.facts) == 2


@pytest.mark.parametrize("wrong", [{"order": "728"}, {"source": "other"}])
def test_a_native_order_under_another_key_or_source_has_that_reason(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallbackMisaddressed):
        vendors.parse(native(native_order(), **wrong))


@pytest.mark.parametrize(
    "changes",
    [
        {"modified_at": "2026-11-20T15:28:08"},
        {"modified_at": "2999-01-01T00:00:00Z"},
        {"status": "  "},
        {"surprise": 1},
        {"lines": [{"line_id": "a b", "quantity": 1}]},
        {"lines": [{"line_id": "a\u0000", "quantity": 1}]},
        {"lines": [{"line_id": "1", "quantity": -1}]},
        {"lines": [{"line_id": "1", "quantity": 1, "numbers": ["7\u202e"]}]},
        {"lines": [{"line_id": "1", "quantity": 1}] * 2},
        {"buyer": {"name": "x" * 201}},
    ],
)
def test_a_native_order_out_of_its_bounds_is_unreadable(changes: dict[str, object]) -> None:
    with pytest.raises(CallbackUnreadable):
        vendors.parse(native(native_order(**changes)))


def test_hostile_text_arrives_as_a_plain_line() -> None:
    order = native_order(
        buyer={"name": "A\u0000da\r\nBcc: x \u202egnp.exe", "email": "a@b\r\nBcc: c@d"},
        lines=[
            {
                "line_id": "1",
                "name": "a\u2028b\x7f",
                "sku": " s ",
                "quantity": 1,
                "recipient": {"name": "B\u202eob", "email": "x\ny@z"},
            }
        ],
    )
    storefront = front(vendors.parse(native(order)))
    assert storefront.buyer.name == "A da Bcc: x gnp.exe"
    assert storefront.buyer.email == ""
    assert (storefront.lines[0].name, storefront.lines[0].sku) == ("a b", "s")
    assert storefront.lines[0].recipient == Person(name="Bob", email="")


# What is no event.


def test_an_unknown_type_has_that_reason() -> None:
    with pytest.raises(CallbackTypeUnknown):
        vendors.parse(record(b"{}", kind="stubline.callback.nobody.v1"))


@pytest.mark.parametrize(
    "source", ["/stubline/ingest", "/sources/SHOP", "/sources/", "/sources/a/b", "x"]
)
def test_a_callback_names_its_source(source: str) -> None:
    callback = record(woo_order())
    headers = [
        (name, source.encode() if name == "ce_source" else text) for name, text in callback.headers
    ]
    with pytest.raises(NotAnEvent):
        vendors.parse(callback._replace(headers=headers))


def test_a_deletion_is_ordered_by_the_log_whatever_the_endpoints_clock_shows() -> None:
    read = [
        vendors.parse(record(b'{"id":727}', callback_type="order.deleted", at=moment, logged_at=AT))
        for moment in (AT, "soon")
    ]
    assert read[0].facts == read[1].facts


# Money and text.


@pytest.mark.parametrize(
    ("text", "currency", "is_minor"),
    [
        ("15.00", "EUR", 1500),
        ("15", "EUR", 1500),
        ("-5.5", "EUR", -550),
        ("1500", "JPY", 1500),
        ("1500.00", "JPY", 1500),
        ("1.234", "KWD", 1234),
        ("1.2345", "CLF", 12345),
        ("0.10000", "USD", 10),
    ],
)
def test_amounts_are_minor_units_by_the_currencys_exponent(
    text: str, currency: str, is_minor: int
) -> None:
    assert minor(text, EXPONENTS[currency]) == is_minor


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("1.5", 0),
        ("1.005", 2),
        ("", 2),
        ("1,00", 2),
        ("+1", 2),
        ("\u0661", 2),
        ("1" * 16, 2),
        ("NaN", 2),
    ],
)
def test_an_amount_that_cannot_be_expressed_exactly_is_refused(text: str, digits: int) -> None:
    with pytest.raises(AmountUnreadable):
        minor(text, digits)


def test_exponents_are_those_of_iso_4217() -> None:
    assert [EXPONENTS[code] for code in ("JPY", "EUR", "KWD", "CLF", "UGX", "ISK", "MGA")] == [
        0,
        2,
        3,
        4,
        0,
        0,
        2,
    ]
    assert not {"XAU", "XTS", "EURO", "eur"} & EXPONENTS.keys()


def test_text_is_one_line_within_its_bounds() -> None:
    assert clean("  a \t b\u200e  ", 10) == "a b"
    assert clean("x" * 500, 200) == "x" * 200
    assert clean("👩\u200d👩\u200d👧 José", 50) == "👩\u200d👩\u200d👧 José"
    assert unescaped("&#0;&#x202e;&lt;b&gt;", 50).strip("\ufffd") == "<b>"
    assert clean("a" * 1_000_000, 5) == "aaaaa"


@pytest.mark.parametrize(
    "text", ["", "x", "@", "a@", "@b", "a b@c", "a@b\n", "a" * 320 + "@b", "a@b\u202e"]
)
def test_what_is_not_an_address_is_left_out(text: str) -> None:
    assert email(text) in {"", text.strip()}
    assert "\n" not in email(text)
