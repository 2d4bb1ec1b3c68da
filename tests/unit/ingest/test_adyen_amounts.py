"""Adyen: amounts, malformed items, and data of cards."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from services.ingest import vendors
from services.ingest.errors import CallbackUnreadable
from services.ingest.vendors.adyen import webhook as adyen
from tests.support.vendors.adyen import item, sample
from tests.unit.ingest.test_adyen import ADYEN, is_let_in, only, read


@pytest.mark.parametrize(
    ("currency", "value", "minor"),
    [
        ("EUR", 1500, 1500),
        ("JPY", 1500, 1500),
        ("ISK", 1500, 15),
        ("CLP", 1500, 15),
        ("IDR", 15, 1500),
        ("CVE", 15, 1500),
    ],
)
def test_amounts_are_in_isos_minor_units(currency: str, value: int, minor: int) -> None:
    assert only(read(item(amount={"currency": currency, "value": value}))).amount_minor == minor


@pytest.mark.parametrize(
    ("currency", "value", "kind"),
    [
        ("ISK", 1501, "unreadable-amount"),
        ("CNH", 1500, "unknown-currency"),
        ("EUR", 10**17, "unreadable-amount"),
    ],
)
def test_an_amount_that_cannot_be_counted_is_kept_as_a_text(
    currency: str, value: int, kind: str
) -> None:
    callback = read(item(amount={"currency": currency, "value": value}))
    movement = only(callback)
    assert (movement.amount_minor, movement.currency, movement.amount_text) == (
        None,
        currency,
        f"{value} {currency}",
    )
    assert [drift_notice.kind for drift_notice in callback.drift] == [kind]


@pytest.mark.parametrize(
    "changes",
    [
        {"eventDate": "yesterday"},
        {"eventDate": "2026-11-20T16:30:00"},
        {"eventDate": "2999-11-20T16:30:00Z"},
        {"pspReference": "A B"},
        {"success": "perhaps"},
    ],
)
def test_what_is_malformed_is_accepted_and_becomes_a_dead_letter(changes: dict[str, Any]) -> None:
    """A refusal would stop the queue of notifications at Adyen."""
    poison = sample(item(**changes))
    assert is_let_in(poison.body)
    with pytest.raises(CallbackUnreadable) as caught:
        vendors.parse(ADYEN.record(poison))
    assert not re.search(r"150|10000|yesterday|perhaps|A B", str(caught.value))


def test_cards_are_blanked_and_the_signature_still_fits() -> None:
    for known_sample in ADYEN.samples.values():
        assert is_let_in(adyen.without_cards(known_sample.body))
    cleaned = json.loads(adyen.without_cards(ADYEN.samples["authorised"].body))[
        "notificationItems"
    ][0]
    more = cleaned["NotificationRequestItem"]["additionalData"]
    assert (more["cardSummary"], more["cardPaymentMethod"], more["totalFraudScore"]) == (
        "",
        "visa",
        "10",
    )
    assert cleaned["NotificationRequestItem"]["reason"] == ""
    refused = json.loads(adyen.without_cards(ADYEN.samples["refused"].body))["notificationItems"][0]
    assert refused["NotificationRequestItem"]["reason"] == "Refused"
