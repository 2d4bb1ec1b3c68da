"""Finds data of payment cards in bodies that should hold none: by the names of keys, in texts that
hold such names themselves (JSON, PHP's serialised form), and by what looks like a card's number.
"""

from __future__ import annotations

import re
from functools import lru_cache

from services.ingest.vendors.shared.ticket_keys import canonical_key

CARD_KEY = re.compile(
    r"card|cvc|cvv|cvn|security_?-?code|last_?-?(?:4|four)|expir|exp_?-?(?:month|year|date|mm|yy)"
    r"|(?<![a-z])cc_|(?<![a-z])cc-?(?:num|no|exp|last)|(?<![a-z])pan(?![a-z])|(?-i:[a-z]Pan(?![a-z]))",
    re.IGNORECASE,
)
LABEL_KEYS = ("key", "display_key", "name", "label", "field")  # they name what an entry's value is
VALUE_KEYS = frozenset({"value", "display_value"})
# References, by which payments join orders.
REFERENCE_KEY = re.compile(r"(?:_id|_reference)$", re.IGNORECASE)
REFERENCE = re.compile(r"[A-Za-z0-9_-]{0,200}", re.ASCII)
# An address such as ricardo@ contains `card`.
ADDRESS = re.compile(r"[^\s@\"]{1,100}@[^\s@\"]{1,200}")
DIGIT = re.compile(r"[0-9]")
DIGIT_GROUPS = re.compile(r"[0-9]{3,}+(?:[ -]{1,3}[0-9]{3,}+)*+")
SHORTEST, LONGEST, TEXT_CHARS_MAX = 13, 19, 10_000
KEY_CHARS_MAX = 200  # of keys that are cached
DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
KEY_AND_VALUE = re.compile(
    rb'("([^"\\]{1,200})"\s*:\s*)("[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|-?[0-9][0-9.eE+-]*+)',
    re.DOTALL,
)
BLANK = ""


def is_card_key(key: str) -> bool:
    return _is_card_key(key) if len(key) <= KEY_CHARS_MAX else CARD_KEY.search(key) is not None


@lru_cache(1_000)
def _is_card_key(key: str) -> bool:
    """Cached, because a shop's orders have the same few keys."""
    return CARD_KEY.search(key) is not None


def without_card_data(value: object, key: str = "") -> object:
    """Return the value without card data. `key` is the key under which it stands, or that its entry
    names.
    """
    if isinstance(value, list):
        return [without_card_data(item, key) for item in value]
    if isinstance(value, dict):
        labels = [label for name in LABEL_KEYS if isinstance(label := value.get(name), str)]
        is_named = any(map(is_card_key, labels))
        return {
            name: BLANK
            if is_card_key(name) or (is_named and name in VALUE_KEYS)
            else without_card_data(
                item, (labels[0] if labels else key) if name in VALUE_KEYS else name
            )
            for name, item in value.items()
        }
    if isinstance(value, str):
        return BLANK if holds_card_data(value, key) else value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return BLANK if is_number and holds_card_data(str(value), key) else value


def holds_card_data(text: str, key: str) -> bool:
    """Return whether a text holds a card's number, or card data under keys of its own."""
    if len(text) < SHORTEST and not _may_name_card_data(text):
        return False
    if REFERENCE_KEY.search(key) and REFERENCE.fullmatch(text):
        return False
    if (
        DIGIT.search(text)
        and key not in LABEL_KEYS
        and CARD_KEY.search(text)
        and not ADDRESS.fullmatch(text)
    ):
        return True
    return not canonical_key(key[:60]) and has_card_number(text)


def _may_name_card_data(text: str) -> bool:
    return len(text) > 3 and DIGIT.search(text) is not None


def has_card_number(text: str) -> bool:
    """Return whether the text holds 13 to 19 digits that pass Luhn's check, in one group or in
    groups of at least three. In a very long text the check is skipped.
    """
    for match in DIGIT_GROUPS.finditer(text):
        groups = re.split("[ -]+", match[0])
        for at, first in enumerate(groups):
            digits = ""
            for group in groups[at : at + 7]:
                digits += group
                if len(digits) > LONGEST or first[0] not in "3456":
                    break
                if len(digits) >= SHORTEST and (len(text) > TEXT_CHARS_MAX or is_luhn(digits)):
                    return True
    return False


def is_luhn(digits: str) -> bool:
    reversed_digits = list(map(int, reversed(digits)))
    return (
        sum(reversed_digits[::2]) + sum(DOUBLED[digit] for digit in reversed_digits[1::2])
    ) % 10 == 0
