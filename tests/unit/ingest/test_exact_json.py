"""What is serialized again on its way in keeps its content, to the last digit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.vendors.adyen import items as adyen_items
from services.ingest.vendors.native import webhook as native
from services.ingest.vendors.paypal import cards as paypal_cards
from services.ingest.vendors.shared import exact_json
from tests.support.callbacks import native_order
from tests.support.vendors.adyen import item, notified
from tests.support.vendors.native import EVENT
from tests.support.vendors.paypal import CAPTURE, event

LONG = 22_345_678_901_234_567_890  # beyond 64 bits


@pytest.mark.parametrize("number", [LONG, -LONG, 2**63, 2**64 - 1, 10**30, 1.5])
def test_a_number_is_the_same_when_it_is_written_again(number: float) -> None:
    assert json.loads(exact_json.dumps(exact_json.loads(b'{"a": %b}' % str(number).encode()))) == {
        "a": number
    }


@pytest.mark.parametrize(
    "text", [b"NaN", b'{"a":Infinity}', b"1e999 9999999999999999999", b"[" * 100_000]
)
def test_what_is_no_json_raises_the_errors_that_are_named(text: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        exact_json.dumps(exact_json.loads(text))


def test_a_storefronts_order_keeps_its_digits_out_of_an_event_and_beside_card_data() -> None:
    order = native_order(strange=LONG, card_number="4111111111111111")
    kept = native.SOURCE.without_cards(native.unwrap(json.dumps(EVENT | {"data": order}).encode()))
    assert json.loads(kept) == order | {"card_number": ""}


def test_a_payments_event_keeps_its_digits_beside_card_data() -> None:
    body = event(CAPTURE, strange=LONG, payment_source={"card": {"last_digits": "1111"}})
    resource: dict[str, Any] = json.loads(paypal_cards.without_cards(body))["resource"]
    assert (resource["strange"], resource["payment_source"]) == (
        LONG,
        {"card": {"last_digits": ""}},
    )


def test_items_keep_their_digits_when_they_are_taken_apart() -> None:
    pieces = adyen_items.split_events(notified(item(strange=LONG), item(strange=-LONG)))
    numbers = [
        json.loads(piece)["notificationItems"][0]["NotificationRequestItem"]["strange"]
        for piece in pieces
    ]
    assert numbers == [LONG, -LONG]
