"""Stripe: data of cards."""

from __future__ import annotations

import json

from services.ingest.vendors.stripe import webhook as stripe
from tests.support.vendors import VENDORS


def test_cards_are_blanked_under_their_keys_and_nothing_else_changes() -> None:
    body = (
        b'{"last4": "42\\"42", "exp_month":11,"a":"last4","b":"\\"last4\\": \\"1\\"", '
        b'"last4":null,"iin" : "4"}'
    )
    cleaned = stripe.without_cards(body)
    assert cleaned == (
        b'{"last4": "", "exp_month":null,"a":"last4","b":"\\"last4\\": \\"1\\"", '
        b'"last4":null,"iin" : ""}'
    )
    assert json.loads(cleaned)["b"] == json.loads(body)["b"]
    charge = json.loads(stripe.without_cards(VENDORS["stripe"].samples["charged"].body))["data"][
        "object"
    ]
    assert charge["payment_method_details"]["card"]["brand"] == "visa"
    assert charge["amount"] == 1500
