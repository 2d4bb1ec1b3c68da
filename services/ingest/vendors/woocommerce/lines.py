"""What plugins write beside a line of a WooCommerce order: its recipient and its chosen numbers.

There is no standard; `shared.ticket_keys` has the tables of keys. If a key is in none of them, its
`display_key` is tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

import orjson

from services.ingest.vendors.shared.php_lists import list_from_php
from services.ingest.vendors.shared.text import clean, email, unescaped
from services.ingest.vendors.shared.ticket_keys import (
    EITHER,
    KEY,
    NUMBERS,
    PEOPLE,
    PERSON_PARTS,
    canonical_key,
)

KEY_CHARS_MAX, NUMBER_CHARS_MAX, NUMBERS_MAX = 60, 64, 2_000
BETWEEN, BLANKS = re.compile(r"[,;|\n]"), re.compile(r"\s+")
SERIALISED = re.compile(r"[aOs]:[0-9]+:")  # PHP's serialised form
MAILTO = "mailto:"
NO_NUMBER: tuple[()] = ()  # stands for what cannot be a number


class LineMeta(NamedTuple):
    """What a line's metadata means. `recipient` is name and address; either may be empty."""

    recipient: tuple[str, str] | None = None
    numbers: tuple[str, ...] = ()
    unusable: str = ""  # the table's key of which numbers were left out
    nobody: str = ""  # the key that should have named somebody
    is_no_list: bool = False  # it is neither a list nor PHP's form of one


NO_META, MALFORMED_META = LineMeta(), LineMeta(is_no_list=True)


def line_meta(meta: object) -> LineMeta:
    """Read `meta_data`, whatever it is: plugins write it, so nothing in it can cost an order."""
    if not isinstance(meta, list) and (meta := list_from_php(meta)) is None:
        return MALFORMED_META
    people, chosen = dict[int, dict[str, str]](), dict[int, tuple[str, list[object]]]()
    for entry in meta:
        if isinstance(entry, dict) and (key := _known_key(entry)):
            if (of := PEOPLE.get(key)) is None:
                value = entry.get("value")
                value = entry.get("display_value") if value is None else value
                chosen.setdefault(NUMBERS[key], (key, []))[1].extend(_number_values(value))
            elif texts := _person_texts(of[1], entry):
                person_texts = people.setdefault(of[0], {KEY: key})
                for part, text in texts.items():
                    person_texts[part] = person_texts.get(part) or text
    if not people and not chosen:
        return NO_META
    recipient, nobody = _recipient(people)
    numbers, unusable = _numbers(chosen)
    return LineMeta(recipient, numbers, unusable, nobody)


def _recipient(people: Mapping[int, Mapping[str, str]]) -> tuple[tuple[str, str] | None, str]:
    """Return the first recipient that names somebody, or the first key that should have
    named one.
    """
    for rank in sorted(people):
        if (recipient := person(people[rank])) is not None:
            return recipient, ""
    return None, people[min(people)][KEY] if people else ""


def _numbers(chosen: Mapping[int, tuple[str, list[object]]]) -> tuple[tuple[str, ...], str]:
    """Return the numbers of the first key that has any, and the first key of which some were left
    out.
    """
    numbers, unusable = tuple[str, ...](), ""
    for _, (key, values) in sorted(chosen.items()):
        numbers, is_all = usable_numbers(values)
        unusable = unusable or ("" if is_all else key)
        if numbers:
            break
    return numbers, unusable


def _person_texts(part: str, entry: Mapping[object, object]) -> Mapping[str, str]:
    """Return an entry's texts by the parts of a person; an empty text for a form that is
    unknown.
    """
    value = entry.get("value")
    if isinstance(value, str):
        return {part: value} if value.strip() else {}
    if isinstance(value, dict) and part == EITHER:
        parts = {
            PERSON_PARTS[key]: text
            for key, text in value.items()
            if key in PERSON_PARTS and isinstance(text, str)
        }
        if parts:
            return parts
    if isinstance(text := entry.get("display_value"), str):
        return {part: text} if text.strip() else {}
    return {part: ""} if value else {}


def _known_key(entry: Mapping[object, object]) -> str:
    """Return the entry's key, or its display key, if it stands in a table."""
    for word in (entry.get("key"), entry.get("display_key")):
        if isinstance(word, str) and len(word) <= KEY_CHARS_MAX and (key := canonical_key(word)):
            return key
    return ""


def person(texts: Mapping[str, str]) -> tuple[str, str] | None:
    """Return name and address; None if both are empty. A number is no name: some plugins write a
    user's id.
    """
    written, either = texts.get("name", ""), _name_and_address(texts.get(EITHER, ""))
    name, beside = _name_and_address(written) if "<" in written else (written, "")
    address = _name_and_address(texts.get("email", ""))[1] or either[1] or beside
    name = unescaped(
        name or " ".join(filter(None, (texts.get("first"), texts.get("last")))) or either[0], 200
    )
    if name.isdecimal():
        name = ""
    return (name, address) if name or address else None


def _name_and_address(text: str) -> tuple[str, str]:
    """Split `Bob <bob@example.org>`, or return the one of the two that it is."""
    if not text:
        return "", ""
    if "<" in text:
        name, _, remainder = text.partition("<")
        inside, is_closed, _ = remainder.partition(">")
        if is_closed and (address := email(inside.strip().removeprefix(MAILTO))):
            return name.strip(' "'), address
    return "" if "@" in text else text, email(text.strip().removeprefix(MAILTO))


def _number_values(value: object) -> Iterable[object]:
    """Return the values. PHP writes a list with gaps as an object, and plugins write a list as JSON
    in a text.
    """
    if isinstance(value, str):
        text = value.strip()
        if SERIALISED.match(text):
            return (NO_NUMBER,)
        if (parsed := _parsed_list(text)) is None:
            return (BETWEEN if BETWEEN.search(text) else BLANKS).split(text)
        value = parsed
    if (values := list_from_php(value)) is None:
        values = [*value.values()] if isinstance(value, dict) else [value]
    return chain.from_iterable(
        BETWEEN.split(value) if isinstance(value, str) else (value,) for value in values
    )


def _parsed_list(text: str) -> object:
    """Return the parsed list or object; None if the text is neither."""
    if text[:1] not in ("[", "{"):
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def usable_numbers(values: Iterable[object]) -> tuple[tuple[str, ...], bool]:
    """Return each number once, in order, and whether that is all of them."""
    texts = [_number(value) for value in values]
    numbers = tuple(dict.fromkeys(text for text in texts if text))
    return numbers[:NUMBERS_MAX], None not in texts and len(numbers) <= NUMBERS_MAX


def _number(value: object) -> str | None:
    """Return the number as a ticket can print it; empty for nothing, None if it cannot be
    printed.
    """
    if value is None or value is False:
        return ""
    text = (
        str(value)
        if isinstance(value, int) and value is not True and abs(value) < 10**19
        else value
    )
    if (
        not isinstance(text, str)
        or len(text := text.strip()) > NUMBER_CHARS_MAX
        or not text.isprintable()
        or "<" in text
    ):
        return None
    return clean(text, NUMBER_CHARS_MAX)
