"""Card data that gateways' plugins write into the meta of a WooCommerce order: it goes before anybody keeps the body."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache

WORDS = r"card|cvc|cvv|cvn|last_?-?(?:4|four)|expir|exp_(?:month|year|date)|(?<![a-z])cc_|_pan(?![a-z])"
NAMED = re.compile(WORDS, re.IGNORECASE)
KEYS = re.compile(rb'"key"\s*:\s*"([^"\\]{1,100})"')
SHOWN = re.compile(rb'"display_key"\s*:\s*"([^"\\]{1,100})"')
INSIDE = (b'"last4"', b'"exp_month"', b'"card_number"', b'"cvc"')  # of a card that is written whole, as an object
META = re.compile(r'"meta_data"\s*:\s*(?=\[)')
BLANK = ""


def without_cards(body: bytes) -> bytes:
    """The same bytes where no key names card data, else with empty values in their places. Never raises.

    Only lists named `meta_data` are written anew, so all else stays byte for byte. A gift card's message goes too: nothing
    that is read here has `card` in its name.
    """
    if not any(map(_is_card, KEYS.findall(body) + SHOWN.findall(body))) and not any(word in body for word in INSIDE):
        return body
    try:
        return _blanked(body.decode("utf-8")).encode("utf-8")
    except (ValueError, RecursionError):  # no JSON, so no order: it becomes a dead letter as it is
        return body


@lru_cache(1_000)
def _is_card(key: bytes) -> bool:
    """A shop's orders have the same few keys."""
    return NAMED.search(key.decode("utf-8", "replace")) is not None


def _blanked(text: str) -> str:
    parts, at, decoder = list[str](), 0, json.JSONDecoder(parse_float=_finite)
    while (found := META.search(text, at)) is not None:
        meta, end = decoder.raw_decode(text, found.end())
        clean = _without(meta)
        parts += (text[at : found.end()], text[found.end() : end] if clean == meta else json.dumps(clean))
        at = end
    return "".join((*parts, text[at:]))


def _finite(text: str) -> float | None:
    """JSON has no word for what is beyond all numbers, and no order needs one."""
    return number if math.isfinite(number := float(text)) else None


def _without(told: object) -> object:
    if isinstance(told, list):
        return [_without(it) for it in told]
    if not isinstance(told, dict):
        return told
    is_card = any(isinstance(key := told.get(name), str) and NAMED.search(key) for name in ("key", "display_key"))
    return {
        name: BLANK if NAMED.search(name) or (is_card and name in {"value", "display_value"}) else _without(it)
        for name, it in told.items()
    }
