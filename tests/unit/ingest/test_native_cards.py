"""Card data outside the contract of a storefront's order is in no record of the webhook
endpoint.
"""

from __future__ import annotations

import json

import pytest

from services.ingest.errors import CallbackUnreadable
from services.ingest.vendors.native import webhook as native
from tests.support.callbacks import native_order
from tests.support.vendors.native import EVENT
from tests.support.vendors.vendor import Sample
from tests.unit.ingest.test_every_source_over_http import read, sent

PAN = "4111111111111111"
STRANGE: dict[str, dict[str, object]] = {
    "a card": {"card_number": PAN},
    "a payment": {"payment": {"card": {"number": PAN, "cvc": "737"}, "last4": "1111"}},
    "a note": {"note": f"paid by {PAN}"},
    "a line": {"lines": [{"line_id": "1", "quantity": 1, "pan": int(PAN)}]},
    "a buyer": {"buyer": {"name": "Ada", "cc_number": "4111 1111 1111 1111", "cvv": 737}},
}


@pytest.mark.parametrize("more", STRANGE.values(), ids=STRANGE)
def test_card_data_that_a_storefront_sends_all_the_same_is_in_no_dead_letter(
    more: dict[str, object],
) -> None:
    """Beside the order, where it makes a dead letter of it, and within its parts, where it is
    ignored.
    """
    order = native_order(source="vendor", **more)
    for body in (
        json.dumps(order),
        json.dumps(EVENT | {"data": order}),
        json.dumps(order)[:-1] + ",}",
    ):
        answer, (kept,) = sent("native", Sample(body.encode()))
        assert answer.status_code == 200
        text = (kept.value or b"").replace(b" ", b"")
        assert not [secret for secret in (PAN.encode(), b"737", b'"1111"') if secret in text]
        assert b'"order_id":"727"' in text
        if body.endswith(",}"):
            with pytest.raises(CallbackUnreadable, match="Invalid JSON"):
                read(kept)


def test_what_the_contract_knows_stays_byte_for_byte() -> None:
    number = native_order(
        order_id=PAN,
        number=PAN,
        lines=[{"line_id": PAN, "quantity": 1, "numbers": [PAN], "sku": "card"}],
    )
    for order in (native_order(), number):
        body = json.dumps(order, indent=1).encode()
        assert native.SOURCE.without_cards(body) == body
    for body in (b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"9" * 5_000, b"null"):
        assert native.SOURCE.without_cards(body) == body
