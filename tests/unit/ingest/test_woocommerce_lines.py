"""What is beside a line of a WooCommerce order: its recipient, its chosen numbers, and what must
not be kept.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas import structs
from schemas.orders import Line, Person, Storefront
from services.ingest import vendors
from services.ingest.errors import AmountUnreadable, CallbackUnreadable, WebhookReportsError
from services.ingest.rules.facts import STOREFRONT, ParsedCallback
from services.ingest.vendors.shared.money import minor
from services.ingest.vendors.shared.ticket_keys import NUMBERS, PEOPLE
from services.ingest.vendors.woocommerce.cards import without_cards
from services.ingest.vendors.woocommerce.lines import (
    NO_META,
    NUMBERS_MAX,
    LineMeta,
    line_meta,
)
from tests.support.callbacks import record, woo_order
from tests.support.vendors import VENDORS
from tests.support.vendors.woocommerce import CARD_META, line

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "connect-a-woocommerce-shop.md"


def parse(*meta: tuple[str, object], **more: Any) -> ParsedCallback:
    return vendors.parse(record(woo_order(line_items=[line(1, *meta, **more)])))


def front(callback: ParsedCallback) -> Storefront:
    (content,) = [fact.content for fact in callback.facts if fact.name == STOREFRONT]
    return structs.decode(Storefront, content)


def line_of(*meta: tuple[str, object]) -> Line:
    return front(parse(*meta)).lines[0]


@pytest.mark.feature("SF-035", "SF-037")
def test_only_a_gift_has_a_recipient() -> None:
    """The sample of the notes: two entries for the buyer, one as a gift."""
    own, gift = front(vendors.parse(record(woo_order()))).lines
    assert own.recipient is None
    assert gift.recipient == Person(name="", email="bob@example.org")


@pytest.mark.parametrize(
    ("meta", "name", "email"),
    [
        ([("_gift_recipient_name", "Bob"), ("_gift_recipient_email", "b@c.d")], "Bob", "b@c.d"),
        ([("Recipient Name", "Bob"), ("Recipient E-mail:", "b@c.d")], "Bob", "b@c.d"),
        ([("recipient-first-name", "Bob"), ("recipient-last-name", "Builder")], "Bob Builder", ""),
        ([("recipient_last_name", "Builder")], "Builder", ""),
        ([("holder_name", "Bob"), ("holder_email", "no address")], "Bob", ""),
        ([("attendee", "Bob")], "Bob", ""),
        ([("gift_to", "b@c.d")], "", "b@c.d"),
        (
            [("attendee_name", "Eve"), ("recipient_name", "Bob"), ("attendee_email", "e@f.g")],
            "Bob",
            "",
        ),
        ([("recipient_name", " "), ("attendee_name", "Eve")], "Eve", ""),
        ([("recipient", "Bob Builder <b@c.d>")], "Bob Builder", "b@c.d"),
        ([("recipient", '"Bob" <mailto:b@c.d>')], "Bob", "b@c.d"),
        ([("recipient_email", "<b@c.d>"), ("recipient_name", "Bob")], "Bob", "b@c.d"),
        ([("recipient_email", "mailto:b@c.d")], "", "b@c.d"),
        ([("recipient_name", "Bob <b@c.d>")], "Bob", "b@c.d"),
        ([("recipient_name", "Bob <3")], "Bob <3", ""),
        ([("gift_to", {"name": "Bob", "email": "b@c.d", "id": 7})], "Bob", "b@c.d"),
        ([("gift_to", {"first_name": "Bob", "surname": "Builder"})], "Bob Builder", ""),
        ([("recipient_name", "B\u0000ob\r\nBcc: x \u202egnp.exe")], "B ob Bcc: x gnp.exe", ""),
        (
            [("recipient_name", "B&ouml;b " + "x" * 500), ("recipient_email", "b@c\r\nBcc: d@e")],
            "Böb " + "x" * 196,
            "",
        ),
    ],
)
def test_a_recipient_is_known_by_the_names_that_plugins_use(
    meta: list[tuple[str, object]], name: str, email: str
) -> None:
    for written in (meta, meta[::-1]):
        assert line_of(*written).recipient == Person(name=name, email=email)


@pytest.mark.parametrize(
    "meta",
    [
        ("recipient", 41),
        ("recipient", "41"),
        ("recipient_email", "nobody"),
        ("recipient_name", {"deep": 1}),
        ("recipient_name", None),
        ("my_recipient_name", "Bob"),
        ("gift_message", "Happy birthday"),
        ("x" * 9_000, "Bob"),
    ],
)
def test_a_key_without_a_name_makes_no_gift(meta: tuple[str, object]) -> None:
    assert line_of(meta).recipient is None


@pytest.mark.parametrize(
    "value",
    [41, "42", "nobody at all@", {"id": 41}, ["Bob"], '<a href="mailto:b@c.d">b@c.d</a>', True],
)
def test_a_gift_without_a_recipient_is_reported_and_costs_nothing_else(value: object) -> None:
    """Its ticket is the buyer's, and it is reported."""
    callback = parse(("gift_to", value), ("holder_name", ""))
    assert front(callback).lines[0].recipient is None
    (drift_notice,) = callback.drift
    assert (drift_notice.kind, drift_notice.cause) == (
        "unusable-recipient",
        "line_items.meta_data.gift_to",
    )
    for silent in (
        parse(("gift_to", value), ("holder_name", "Bob")),
        parse(("gift_to", "")),
        parse(("gift_to", None)),
    ):
        assert silent.drift == ()


@pytest.mark.parametrize(
    ("key", "value", "numbers"),
    [
        ("_lottery_numbers", ["7", 11, "007"], ("7", "11", "007")),
        ("Ticket Numbers", "7, 11;13", ("7", "11", "13")),
        ("ticket_number", "A 12, A 13,", ("A 12", "A 13")),
        ("chosen_numbers", "7 11\t13", ("7", "11", "13")),
        ("raffle_numbers", {"0": "7", "2": "9"}, ("7", "9")),
        ("chosen_number", 7, ("7",)),
        ("chosen_numbers", "7,7,11,7", ("7", "11")),
        ("chosen_numbers", '["7", 11]', ("7", "11")),
        ("chosen_numbers", ' {"0":"7","2":"9"}', ("7", "9")),
        ("chosen_numbers", "[7] [9]", ("[7]", "[9]")),
        ("chosen_numbers", ["7, 9", "A 12"], ("7", "9", "A 12")),
        ("chosen_numbers", "", ()),
        ("chosen_numbers", None, ()),
        ("phone_number", "7", ()),
    ],
)
def test_chosen_numbers_are_a_list_or_a_text(
    key: str, value: object, numbers: tuple[str, ...]
) -> None:
    callback = parse((key, value))
    assert front(callback).lines[0].numbers == numbers
    assert callback.drift == ()


def test_entries_of_one_key_are_one_list_and_another_key_repeats_them() -> None:
    meta = [("Ticket number", "7"), ("Ticket number", "9"), ("chosen_numbers", "1,2")]
    assert line_of(*meta).numbers == line_of(*meta[::-1]).numbers == ("1", "2")
    assert line_of(*meta[:2]).numbers == ("7", "9")


@pytest.mark.parametrize("empty", ["", " ", [], {}, [""], None, ","])
def test_a_key_that_is_empty_hides_no_number_of_another(empty: object) -> None:
    assert line_of(("chosen_numbers", empty), ("ticket_number", "7")).numbers == ("7",)


@pytest.mark.parametrize("bad", ["x" * 65, "7\u202e", "a\u0000", [1], 7.5, True])
def test_a_number_that_cannot_be_printed_is_reported_and_costs_nothing_else(bad: object) -> None:
    callback = parse(("chosen_numbers", ["7", bad, "9"]))
    assert front(callback).lines[0].numbers == ("7", "9")
    (drift_notice,) = callback.drift
    assert (drift_notice.source, drift_notice.kind, drift_notice.cause) == (
        "shop",
        "unusable-number",
        "line_items.meta_data.chosen_numbers",
    )
    assert drift_notice.body


@pytest.mark.parametrize("text", ['a:2:{i:0;i:7;i:1;s:1:"9";}', "<span>7</span>", "[[7]]"])
def test_numbers_that_are_written_for_a_machine_are_reported_and_never_printed(text: str) -> None:
    callback = parse(("chosen_numbers", text))
    assert front(callback).lines[0].numbers == ()
    assert [drift_notice.kind for drift_notice in callback.drift] == ["unusable-number"]


def test_no_line_has_more_numbers_than_can_be_kept() -> None:
    callback = parse(("chosen_numbers", list(range(NUMBERS_MAX + 1))))
    assert len(front(callback).lines[0].numbers) == NUMBERS_MAX
    assert len(callback.drift) == 1


def test_the_display_key_counts_where_the_key_itself_is_unknown() -> None:
    meta = [
        {
            "id": 1,
            "key": "_field_12",
            "value": "Bob",
            "display_key": "Recipient name",
            "display_value": "Bob",
        }
    ]
    item = line(1) | {"meta_data": meta}
    assert front(vendors.parse(record(woo_order(line_items=[item])))).lines[0].recipient == Person(
        name="Bob"
    )


@pytest.mark.parametrize(
    "meta", [None, {}, "x", 7, [None, 7, "x", [], {}], [{"key": {"a": 1}}], [{"key": ["_stripe"]}]]
)
def test_meta_of_any_form_costs_no_order(meta: object) -> None:
    item = line(1) | {"meta_data": meta}
    callback = vendors.parse(record(woo_order(line_items=[item], meta_data=meta)))
    assert (front(callback).lines[0].recipient, front(callback).lines[0].numbers) == (None, ())


people = some.builds(
    lambda key, value: {"key": key, "value": value},
    some.sampled_from([*PEOPLE, *NUMBERS]),
    some.text(max_size=70)
    | some.integers()
    | some.lists(some.text(max_size=70) | some.integers(), max_size=4),
)


@given(
    some.lists(people, max_size=6), some.text(max_size=50), some.datetimes().map(str) | some.none()
)
def test_the_hand_written_storefront_is_what_the_model_serializes(
    meta: list[object], name: str, paid: str | None
) -> None:
    order = woo_order(line_items=[line(1, name=name) | {"meta_data": meta}], date_paid_gmt=paid)
    try:
        callback = vendors.parse(record(order))
    except CallbackUnreadable:
        assert paid  # a time out of bounds
        return
    (content,) = [fact.content for fact in callback.facts if fact.name == STOREFRONT]
    assert structs.encode(structs.decode(Storefront, content)) == content


@given(
    some.from_regex(r"-?[0-9\u0661x]{0,17}(\.[0-9\u0661]{1,5})?", fullmatch=True),
    some.integers(0, 4),
)
def test_an_amount_with_all_its_digits_is_what_it_is_with_a_zero_more(
    text: str, digits: int
) -> None:
    """One more zero takes the longer way to the same number."""

    def parse(amount: str) -> int | None:
        try:
            return minor(amount, digits)
        except AmountUnreadable:
            return None

    assert parse(text) == parse(text + "0" if "." in text[1:] else text + ".0")


@pytest.mark.parametrize("meta", [[], [{"key": "k" * 20_000, "value": None}]])
def test_recipient_and_numbers_of_nothing_are_nothing(meta: list[object]) -> None:
    assert line_meta(meta) == NO_META == LineMeta(None, (), "", "")


def test_every_key_is_on_its_page() -> None:
    """As in the table: whose, and which part."""
    documented_keys = set(re.findall(r"`([a-z_]+)`", PAGE.read_text("utf-8")))
    whose = {key for key, (_, part) in PEOPLE.items() if part == "either"}
    parts = {
        key.removeprefix(person)
        for person in whose
        for key in PEOPLE
        if key.startswith(f"{person}_") and key not in whose
    }
    missing = (
        whose
        | set(NUMBERS)
        | {part for part in parts if part in {"_name", "_email", "_first_name"}}
    ) - documented_keys
    assert not missing


# What a shop sends instead of an order.


@pytest.mark.parametrize("callback_type", ["order.updated", "order.created", "order.deleted", ""])
def test_an_error_of_the_shop_shows_that_the_webhooks_user_lost_its_right(
    callback_type: str,
) -> None:
    body = {
        "code": "woocommerce_rest_cannot_view",
        "message": "Sorry, ada@example.org",
        "data": {"status": 401},
    }
    with pytest.raises(
        WebhookReportsError,
        match=r"user who made the webhook .* 'woocommerce_rest_cannot_view'|may no longer read",
    ) as raised:
        vendors.parse(record(json.dumps(body).encode(), callback_type=callback_type))
    assert "ada@" not in str(raised.value)


@pytest.mark.parametrize(
    "body", [{"code": "x"}, {"code": "x", "message": "y", "data": {}}, {"data": {"status": 401}}]
)
def test_what_only_resembles_an_error_of_the_shop_is_unreadable(body: dict[str, object]) -> None:
    with pytest.raises(CallbackUnreadable):
        vendors.parse(record(json.dumps(body).encode()))


# What must not be kept.


def test_a_body_without_card_data_stays_byte_for_byte() -> None:
    for name, sample in VENDORS["woocommerce"].samples.items():
        assert (without_cards(sample.body) == sample.body) == (name != "with card data")


@pytest.mark.parametrize(
    "entry",
    [
        b'{"id":1,"key":"_card_number","value":"4242"}',
        b'{"value":"4242","key":"X_CARD_DIGITS"}',
        b'{"key":"k","display_key":"Card ending","value":"4242","display_value":"<b>4242</b>"}',
        b'{"key":"_cc_last4","value":{"a":["4242"]}}',
        b'{"key":"_charge","value":{"last4":"4242"}}',
        b'{"key":"expiry","value":[4242]},{"key":"k","value":[1e999,"\\ud83d\\ude00"]}',
    ],
)
def test_card_data_is_removed_wherever_it_is_in_an_entry_and_all_else_stays(entry: bytes) -> None:
    body = b'{"id":727, "x":"caf\xc3\xa9","meta_data": [%b ],"total":1e5}' % entry
    cleaned = without_cards(body)
    assert b"4242" not in cleaned
    assert cleaned.startswith(b'{"id":727, "x":"caf\xc3\xa9","meta_data": [')
    assert cleaned.endswith(b'],"total":1e5}')
    orjson.loads(cleaned)


def test_cleaning_changes_no_fact() -> None:
    order = woo_order(
        meta_data=[*CARD_META, {"id": 2, "key": "_stripe_charge_id", "value": "ch_12345678"}]
    )
    body = json.dumps(order).encode()
    assert vendors.parse(record(without_cards(body))) == vendors.parse(record(body))
