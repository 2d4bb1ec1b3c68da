"""Removes the data of the card that paid from PayPal's bodies: digits, expiry, issuer's number, and
the name on it.

The card's brand and type stay. From a body that is not JSON, and becomes a dead letter, these
values are removed wherever they are.
"""

from __future__ import annotations

import re

from services.ingest.vendors.shared import exact_json
from services.ingest.vendors.shared.gateway import field_blanker

CARDS = frozenset({"card", "network_token", "apple_pay", "google_pay"})
DIGITS = frozenset(
    {
        "last_digits",
        "last4",
        "last_4",
        "last_n_chars",
        "expiry",
        "security_code",
        "cvv",
        "pan",
        "bin",
        "bin_details",
    }
)
ON_CARD = frozenset({"name", "number"})
# one of these keys, or a key that is written with escapes
HINT = re.compile(rb'"(?:%b)"|\\u00[2-7]' % "|".join(sorted(CARDS | DIGITS)).encode())

by_pattern = field_blanker(*sorted(DIGITS | ON_CARD))


def without_cards(body: bytes) -> bytes:
    """Return the same bytes if nothing names a card, else the document without card data. Never
    raises.
    """
    if HINT.search(body) is None:
        return body
    try:
        return exact_json.dumps(_without(exact_json.loads(body), is_card=False))
    except (ValueError, RecursionError):  # not JSON, or nested too deeply to be serialized
        return by_pattern(body)


def _without(value: object, *, is_card: bool) -> object:
    if isinstance(value, list):
        return [_without(item, is_card=is_card) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _empty(item)
        if name in DIGITS or (is_card and name in ON_CARD)
        else _without(item, is_card=is_card or name in CARDS)
        for name, item in value.items()
    }


def _empty(value: object) -> object:
    return {} if isinstance(value, dict) else ""
