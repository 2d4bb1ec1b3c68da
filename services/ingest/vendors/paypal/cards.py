"""PayPal's bodies without the data of the card that paid: digits, expiry, issuer's number, and the
name on it.

The card's brand and type stay. A body that is no JSON becomes a dead letter: in it these texts go
wherever they stand.
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
HINT = re.compile(
    rb'"(?:%b)"|\\u00[2-7]' % "|".join(sorted(CARDS | DIGITS)).encode()
)  # or a key that is written otherwise

by_pattern = field_blanker(*sorted(DIGITS | ON_CARD))


def without_cards(body: bytes) -> bytes:
    """The same bytes where nothing names a card, else the same document, written anew. Never
    raises.
    """
    if HINT.search(body) is None:
        return body
    try:
        return exact_json.dumps(_without(exact_json.loads(body), is_card=False))
    except (ValueError, RecursionError):  # no JSON, or deeper than it can be written
        return by_pattern(body)


def _without(told: object, *, is_card: bool) -> object:
    if isinstance(told, list):
        return [_without(it, is_card=is_card) for it in told]
    if not isinstance(told, dict):
        return told
    return {
        name: _empty(it)
        if name in DIGITS or (is_card and name in ON_CARD)
        else _without(it, is_card=is_card or name in CARDS)
        for name, it in told.items()
    }


def _empty(told: object) -> object:
    return {} if isinstance(told, dict) else ""
