"""Removes card data that a storefront sends outside its contract, which nobody reads and no dead
letter may show.

Fields of the contract stay byte for byte.
"""

from __future__ import annotations

import re

from schemas.callbacks import NativeLine, NativeOrder, NativePerson
from services.ingest.vendors.shared import exact_json
from services.ingest.vendors.shared.cards import (
    KEY_AND_VALUE,
    has_card_number,
    is_card_key,
    without_card_data,
)

FIELDS = frozenset(
    [*NativeOrder.model_fields, *NativeLine.model_fields, *NativePerson.model_fields]
)


def without_cards(body: bytes) -> bytes:
    """Return the same bytes if nothing looks like card data, else with such values emptied. Never
    raises.
    """
    try:
        value = exact_json.loads(body)
        clean = _cleaned(value)
        return body if clean == value else exact_json.dumps(clean)
    except (ValueError, TypeError, RecursionError):  # not JSON, or nested too deeply to be an order
        return KEY_AND_VALUE.sub(_blanked_pair, body)


def _cleaned(value: object) -> object:
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _cleaned(item) if name in FIELDS else _unknown_field(name, item)
        for name, item in value.items()
    }


def _unknown_field(name: str, value: object) -> object:
    return "" if is_card_key(name) else without_card_data(value, name)


def _blanked_pair(pair: re.Match[bytes]) -> bytes:
    name, value = pair[2].decode("utf-8", "replace"), pair[3].decode("utf-8", "replace")
    if not (is_card_key(name) or has_card_number(value)):
        return pair[0]
    return pair[1] + (b'""' if value[0] == '"' else b"0")
