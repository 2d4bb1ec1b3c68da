"""A card's number does not leave the webhook endpoint, in whatever form a plugin wrote it into an
order's metadata.
"""

from __future__ import annotations

import json

import pytest

from services.ingest import vendors
from services.ingest.vendors.woocommerce.cards import without_cards
from tests.support.callbacks import record, woo_order

PAN = "4111111111111111"
PLAIN = {"id": 1, "key": "_card_number", "value": PAN}
HOLDERS: dict[str, object] = {
    "cc_number": {"key": "_gw_response", "value": {"cc_number": PAN, "expiry": "12/29"}},
    "cardNumber": {"key": "_gw_response", "value": {"cardNumber": PAN}},
    "pan": {"key": "_gw_response", "value": {"pan": PAN}},
    "JSON text": {
        "key": "_gw_response",
        "value": json.dumps({"card_number": "x", "cvc": PAN[:3]}) + PAN,
    },
    "PHP text": {"key": "_gw_response", "value": f'a:1:{{s:11:"card_number";s:16:"{PAN}";}}'},
    "entries within": {"key": "_x", "value": [{"name": "card_number", "value": PAN}]},
    "a long key": {"key": "_card_number" + "x" * 100, "value": PAN},
    "no name at all": {"key": "_x", "value": "4111 1111-1111 1111 12/29"},
    "a number": {"key": "_x", "value": int(PAN)},
}


def body(meta: object) -> bytes:
    return json.dumps(woo_order(meta_data=meta)).encode()


def is_clean(sent: bytes) -> None:
    cleaned = without_cards(sent)
    assert PAN.encode() not in cleaned
    assert b"4111 1111" not in cleaned
    assert without_cards(cleaned) == cleaned


@pytest.mark.parametrize("entry", HOLDERS.values(), ids=HOLDERS)
def test_card_data_is_removed_wherever_it_is_and_the_facts_stay(entry: object) -> None:
    for meta in ([entry], {"0": entry, "2": {"key": "k", "value": "v"}}):
        is_clean(body(meta))
        assert vendors.parse(record(without_cards(body(meta)))) == vendors.parse(record(body(meta)))


def test_card_data_is_removed_under_a_key_that_is_written_with_escapes() -> None:
    is_clean(body([{"key": "XX", "value": PAN}]).replace(b"XX", b"_c\\u0061rd_number"))
    is_clean(body([PLAIN]).replace(b'"meta_data"', b'"meta\\u005fdata"'))
    is_clean(body([{"key": "k", "value": PAN}]).replace(b'"value":', b'"value": "x", "value":'))


@pytest.mark.parametrize(
    "scrap", [b"\xff", b"7" * 4_400, b"[" * 3_000 + b"]" * 3_000, b"[", b"NaN"]
)
def test_card_data_is_removed_from_bodies_that_cannot_be_read_too(scrap: bytes) -> None:
    is_clean(body([PLAIN, {"key": "n", "value": 777777}]).replace(b"777777", scrap))


def test_what_the_join_needs_and_what_is_no_card_stays() -> None:
    kept = [
        {"key": "_stripe_intent_id", "value": PAN},
        {"key": "_adyen_psp_reference", "value": PAN},
        {"key": "chosen_numbers", "value": "4111 1111 1111 1111"},
        {"key": "recipient_email", "value": "ricardo99@example.org"},
        {"key": "k", "value": "4111111111111112"},
    ]
    assert without_cards(body(kept)) == body(kept)


@pytest.mark.parametrize(
    "note",
    [PAN, 'ring me, or take 4111 1111 1111 1111 12/29 "please"', "\u00e9\n4111-1111-1111-1111"],
)
def test_card_data_is_removed_from_a_buyers_note(note: str) -> None:
    for is_ascii in (True, False):
        body = json.dumps(woo_order(customer_note=note), ensure_ascii=is_ascii).encode()
        is_clean(body)
        assert b"4111-1111" not in without_cards(body)
        cut = body[: body.index(b"1111") + 15]
        assert b"1111" not in without_cards(cut)
        assert json.loads(without_cards(body)) == woo_order(customer_note="")
    kept = json.dumps(
        woo_order(customer_note="ring +353 1 000 0000, code 1234 5678 9012 3456")
    ).encode()
    assert without_cards(kept) == kept


@pytest.mark.parametrize("value", ["\u65e5" * 1_000, [1] * 1_000, "half an emoji: \ud83d"])
def test_an_order_without_its_card_is_no_longer_than_before(value: object) -> None:
    """It has to fit into the record into which it fitted with it."""
    order = woo_order(meta_data=[PLAIN, {"key": "k", "value": value}])
    for is_ascii in (True, "\ud83d" in str(value)):
        body = json.dumps(order, ensure_ascii=is_ascii, separators=(",", ":")).encode()
        assert len(without_cards(body)) <= len(body)
        assert json.loads(without_cards(body))["meta_data"][1]["value"] == value
