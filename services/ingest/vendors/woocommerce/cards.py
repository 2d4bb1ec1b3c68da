"""Removes card data that gateways' plugins write into the metadata of a WooCommerce order, and
buyers into their note, before the body is published.

It goes by the names of keys, by texts that hold such names themselves (JSON, PHP's serialised
form), and by what looks like a card's number.
"""

from __future__ import annotations

import json
import math
import re

from services.ingest.vendors.shared.cards import (
    KEY_AND_VALUE,
    SHORTEST,
    VALUE_KEYS,
    has_card_number,
    is_card_key,
    without_card_data,
)

# The trigger sees a body in lower case, without blanks and dashes, with every digit as a zero.
FOLDED = bytes(
    ord("0")
    if chr(code).isdigit() and code < 128
    else ord(chr(code).lower())
    if code < 128
    else code
    for code in range(256)
)
TRIGGERS = re.compile(
    rb"card|cv[cvn]|last_?(?:0|four)|expir|exp_?[mdy]|security_?code|[^a-z]cc[_nel]|[^a-z]pan|pan[^a-z]"
)
WORDS = (b"card", b"cv", b"last", b"exp", b"secur", b"cc", b"pan")
NUMBER = b"0" * SHORTEST
ESCAPED = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|.)", re.DOTALL)
HIDING_ESCAPE = re.compile(rb"\\u00[2-7]")

META = re.compile(r'"meta_data"\s*:\s*(?=[\[{"0-9])')
NOTE = re.compile(rb'("customer_note"\s*:\s*")((?:[^"\\]|\\.){13,}+)(?:"|\\?\Z)', re.DOTALL)
DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)


def without_cards(body: bytes) -> bytes:
    """Return the same bytes if nothing looks like card data, else with such values emptied. Never
    raises.

    Only values named `meta_data` are serialized again, and a note with a card's number is removed;
    all else stays byte for byte. A gift card's message is removed too: no key that is read here
    contains `card`.
    """
    body = NOTE.sub(_without_card_number, body)
    if not is_suspect(body):
        return body
    plain = unescaped(body)
    try:
        text = plain.decode("utf-8")
        clean = _cleaned_meta(text)
        return body if clean == text else clean.encode("utf-8")
    except (ValueError, RecursionError):  # not JSON, so no order: it becomes a dead letter
        return by_pattern(plain)


def _without_card_number(match: re.Match[bytes]) -> bytes:
    return match[1] + b'"' if has_card_number(match[2].decode("utf-8", "replace")) else match[0]


def is_suspect(body: bytes) -> bool:
    """Return cheaply whether the body has to be parsed; nearly every body ends here. What precedes
    the first metadata, such as a payment's title, is the shop's own.
    """
    if b"\\u00" in body and HIDING_ESCAPE.search(body):
        return True
    if (begin := body.find(b'"meta_data"')) < 0:
        return False
    folded = body[begin:].translate(FOLDED, b" -")
    if NUMBER in folded:
        return True
    return any(word in folded for word in WORDS) and TRIGGERS.search(folded) is not None


def unescaped(body: bytes) -> bytes:
    r"""Replace escapes of plain characters, so that `c\u0061rd` is `card`."""

    def plain(match: re.Match[bytes]) -> bytes:
        char = bytes.fromhex(match[1].decode()) if match[1] else b""
        return char if char and char not in b'"\\\x7f' else match[0]

    return ESCAPED.sub(plain, body) if HIDING_ESCAPE.search(body) else body


def by_pattern(body: bytes) -> bytes:
    """Clean what cannot be parsed: texts under card keys, values of entries, and every digit after
    the first metadata are removed.
    """

    def blank(match: re.Match[bytes]) -> bytes:
        is_data = match[2].decode("ascii", "replace") in VALUE_KEYS or is_card_key(
            match[2].decode("utf-8", "replace")
        )
        return match[1] + (b'""' if match[3][:1] == b'"' else b"0") if is_data else match[0]

    begin = max(0, body.find(b'"meta_data"'))
    return body[:begin] + KEY_AND_VALUE.sub(blank, body[begin:]).translate(DIGITS_TO_ZERO)


def _cleaned_meta(text: str) -> str:
    parts, at, repeated = list[str](), 0, list[int]()

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        distinct = dict(items)
        if len(distinct) < len(items):  # a repeated key hides earlier values, which would be kept
            repeated.append(len(items) - len(distinct))
        return distinct

    decoder = json.JSONDecoder(
        parse_float=_finite, parse_int=_bounded, object_pairs_hook=pairs, strict=False
    )
    while (match := META.search(text, at)) is not None:
        meta, end = decoder.raw_decode(text, match.end())
        clean = without_card_data(meta)
        is_same = clean == meta and not repeated
        repeated.clear()
        parts += (text[at : match.end()], text[match.end() : end] if is_same else _written(clean))
        at = end
    return "".join((*parts, text[at:]))


def _written(clean: object) -> str:
    """Serialize, never longer than it was, or a large order would fit into no record. A lone
    surrogate stays an escape.
    """
    text = json.dumps(clean, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(clean, separators=(",", ":"))
    return text


def _finite(text: str) -> float | None:
    """Return the number, or None if it is infinite, which JSON cannot express and no order
    needs.
    """
    return number if math.isfinite(number := float(text)) else None


def _bounded(text: str) -> int | None:
    return int(text) if len(text) < 1_000 else None
