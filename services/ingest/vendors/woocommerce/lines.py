"""What plugins write beside a line of a WooCommerce order: for whom it is, and which numbers were
chosen.

There is no standard. A key is compared in lower case, without leading `_`, its blanks and `-` as
`_`: `Recipient E-mail` is `recipient_e_mail`. One that says nothing here leaves the word to its
`display_key`. The tables are told on the page docs/how-to/connect-a-woocommerce-shop.md.
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
SERIALISED = re.compile(r"[aOs]:[0-9]+:")  # PHP's own form
MAILTO = "mailto:"
NO_NUMBER: tuple[()] = ()  # stands for what is none


class LineMeta(NamedTuple):
    """What a line's meta says. `recipient`: name and address, either may be empty."""

    recipient: tuple[str, str] | None = None
    numbers: tuple[str, ...] = ()
    unusable: str = ""  # the key of which numbers were left out, as it stands in the table
    nobody: str = ""  # the key that was to name somebody, and names nobody
    is_no_list: bool = False  # it is neither a list nor what PHP makes of one


NO_META, MALFORMED_META = LineMeta(), LineMeta(is_no_list=True)


def line_meta(meta: object) -> LineMeta:
    """Of `meta_data`, whatever it is: plugins write it, so nothing in it can cost an order."""
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
    """The first who is somebody; else the first key that was to name one."""
    for rank in sorted(people):
        if (recipient := person(people[rank])) is not None:
            return recipient, ""
    return None, people[min(people)][KEY] if people else ""


def _numbers(chosen: Mapping[int, tuple[str, list[object]]]) -> tuple[tuple[str, ...], str]:
    """Those of the first key that has any, and the first key of which some were left out."""
    numbers, unusable = tuple[str, ...](), ""
    for _, (key, values) in sorted(chosen.items()):
        numbers, is_all = usable_numbers(values)
        unusable = unusable or ("" if is_all else key)
        if numbers:
            break
    return numbers, unusable


def _person_texts(part: str, entry: Mapping[object, object]) -> Mapping[str, str]:
    """What an entry tells of a person, by its parts; an empty text for what is told in no way that
    is known.
    """
    value = entry.get("value")
    if isinstance(value, str):
        return {part: value} if value.strip() else {}
    if isinstance(value, dict) and part == EITHER:
        found = {
            PERSON_PARTS[key]: it
            for key, it in value.items()
            if key in PERSON_PARTS and isinstance(it, str)
        }
        if found:
            return found
    if isinstance(text := entry.get("display_value"), str):
        return {part: text} if text.strip() else {}
    return {part: ""} if value else {}


def _known_key(entry: Mapping[object, object]) -> str:
    """Its key, or the key as it is shown, where it stands in a table."""
    for word in (entry.get("key"), entry.get("display_key")):
        if isinstance(word, str) and len(word) <= KEY_CHARS_MAX and (key := canonical_key(word)):
            return key
    return ""


def person(texts: Mapping[str, str]) -> tuple[str, str] | None:
    """Nobody, when neither a name nor an address is left. A number is no name: some plugins write a
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
    """`Bob <bob@example.org>`, as mail programs write it, or one of the two alone: name and
    address.
    """
    if not text:
        return "", ""
    if "<" in text:
        name, _, remainder = text.partition("<")
        inside, is_closed, _ = remainder.partition(">")
        if is_closed and (address := email(inside.strip().removeprefix(MAILTO))):
            return name.strip(' "'), address
    return "" if "@" in text else text, email(text.strip().removeprefix(MAILTO))


def _number_values(value: object) -> Iterable[object]:
    """PHP writes a list with gaps as an object, and plugins write a list as JSON in a text."""
    if isinstance(value, str):
        text = value.strip()
        if SERIALISED.match(text):
            return (NO_NUMBER,)
        if (found := _parsed_list(text)) is None:
            return (BETWEEN if BETWEEN.search(text) else BLANKS).split(text)
        value = found
    if (values := list_from_php(value)) is None:
        values = [*value.values()] if isinstance(value, dict) else [value]
    return chain.from_iterable(
        BETWEEN.split(value) if isinstance(value, str) else (value,) for value in values
    )


def _parsed_list(text: str) -> object:
    """None, when it is no JSON of several."""
    if text[:1] not in ("[", "{"):
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def usable_numbers(values: Iterable[object]) -> tuple[tuple[str, ...], bool]:
    """Each once, in the order in which they are told; and whether that is all of them."""
    texts = [_number(value) for value in values]
    found = tuple(dict.fromkeys(text for text in texts if text))
    return found[:NUMBERS_MAX], None not in texts and len(found) <= NUMBERS_MAX


def _number(value: object) -> str | None:
    """As it can be printed on a ticket; empty, where nothing is told."""
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
