"""PayPal's bodies without the data of the card that paid: digits, expiry, issuer's number, and the name on it.

Worked on bytes, for the door has no time to read and write JSON, and nothing else in a body may change. The card's brand and
type stay.
"""

from __future__ import annotations

import re

HINT = re.compile(rb'"(?:card|last_digits|last_?4|last_n_chars|expiry|bin_details|security_code|cvv|pan)"')
STRING = rb'"(?:[^"\\]|\\.)*+"'
FLAT = rb"\{(?:[^{}\"]|" + STRING + rb")*+\}"
NESTED = rb"\{(?:[^{}\"]|" + STRING + rb"|" + FLAT + rb")*+\}"
OBJECT = rb"\{(?:[^{}\"]|" + STRING + rb"|" + NESTED + rb")*+\}"
KEYS = rb'("(?:last_digits|last_?4|last_n_chars|expiry|security_code|cvv|pan|bin)"\s*:\s*)(?:' + STRING + rb"|[0-9]++)"
TEXTS = re.compile(KEYS, re.DOTALL)
BIN = re.compile(rb'("bin_details"\s*:\s*)' + OBJECT, re.DOTALL)
CARD = re.compile(rb'"(?:card|network_token|apple_pay|google_pay)"\s*:\s*' + OBJECT, re.DOTALL)
ON_CARD = re.compile(rb'("(?:name|number)"\s*:\s*)' + STRING, re.DOTALL)


def without_cards(body: bytes) -> bytes:
    if HINT.search(body) is None:
        return body
    body = TEXTS.sub(rb'\1""', BIN.sub(rb"\1{}", body))
    return CARD.sub(lambda found: ON_CARD.sub(rb'\1""', found[0]), body)
