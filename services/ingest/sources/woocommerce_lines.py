"""What plugins write beside a line of a WooCommerce order: for whom it is, and which numbers were chosen.

There is no standard. A key is compared in lower case, without leading `_`, its blanks and `-` as `_`: `Recipient E-mail` is
`recipient_e_mail`. One that says nothing here leaves the word to its `display_key`. The tables are told on the page
docs/how-to/connect-a-woocommerce-shop.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from services.ingest.sources.text import clean, email, unescaped

WHO = (  # of several that a line names, the first one here
    "gift_recipient",
    "giftee",
    "gift_to",
    "recipient",
    "ticket_holder",
    "holder",
    "ticket_attendee",
    "attendee",
    "participant",
    "beneficiary",
)
PARTS = {
    "email": "email",
    "e_mail": "email",
    "email_address": "email",
    "name": "name",
    "full_name": "name",
    "first_name": "first",
    "firstname": "first",
    "last_name": "last",
    "lastname": "last",
    "surname": "last",
}
PEOPLE = {who: (rank, "either") for rank, who in enumerate(WHO)} | {
    f"{who}_{word}": (rank, part) for rank, who in enumerate(WHO) for word, part in PARTS.items()
}
NUMBERS = {
    f"{what}_{word}": rank
    for rank, what in enumerate(
        ("chosen", "selected", "picked", "lottery", "lottery_ticket", "raffle", "raffle_ticket", "lucky", "ticket")
    )
    for word in ("number", "numbers")
} | {"lty_lottery_tickets": 50, "lottery_tickets": 51, "raffle_tickets": 52, "chosen_tickets": 53}
KEY_CHARS_MAX, NUMBER_CHARS_MAX, NUMBERS_MAX = 60, 64, 2_000
BETWEEN, BLANKS = re.compile(r"[,;|\n]"), re.compile(r"\s+")
TO_UNDERSCORE = str.maketrans(" -", "__")


class Extra(NamedTuple):
    """What a line's meta says. `recipient`: name and address, either may be empty."""

    recipient: tuple[str, str] | None = None
    numbers: tuple[str, ...] = ()
    unusable: str = ""  # the key of which numbers were left out, as it stands in the table


NOTHING = Extra()


def extra(meta: object) -> Extra:
    """Of `meta_data`, whatever it is: plugins write it, so nothing in it can cost an order."""
    if not isinstance(meta, list):
        return NOTHING
    said, chosen = dict[int, dict[str, str]](), dict[int, tuple[str, list[object]]]()
    for entry in meta:
        if isinstance(entry, dict) and (key := _known(entry)):
            value = entry.get("value")
            if (of := PEOPLE.get(key)) is None:
                told = entry.get("display_value") if value is None else value
                chosen.setdefault(NUMBERS[key], (key, []))[1].extend(_told(told))
            else:
                rank, part = of
                if isinstance(text := value if isinstance(value, str) else entry.get("display_value"), str):
                    said.setdefault(rank, {}).setdefault(part, text)
    recipient = None
    for rank in sorted(said):
        if (recipient := person(said[rank])) is not None:
            break
    if not chosen:
        return Extra(recipient) if said else NOTHING
    name, told = next((it for _, it in sorted(chosen.items()) if it[1]), ("", []))
    numbers, is_all = usable(told)
    return Extra(recipient, numbers, "" if is_all else name)


def _known(entry: Mapping[object, object]) -> str:
    """Its key, or the key as it is shown, where it stands in a table."""
    for word in (entry.get("key"), entry.get("display_key")):
        if isinstance(word, str) and len(word) <= KEY_CHARS_MAX and (key := known(word)):
            return key
    return ""


@lru_cache(1_000)
def known(word: str) -> str:
    """As it stands in a table; empty, when it does not. A shop's orders have the same few keys."""
    key = word.strip().lstrip("_").translate(TO_UNDERSCORE).lower().rstrip("_:")
    return key if key in PEOPLE or key in NUMBERS else ""


def person(said: Mapping[str, str]) -> tuple[str, str] | None:
    """Nobody, when neither a name nor an address is left. A number is no name: some plugins write a user's id."""
    either = said.get("either", "")
    address = email(said.get("email") or either) or email(either)
    name = said.get("name") or " ".join(filter(None, (said.get("first"), said.get("last"))))
    name = unescaped(name or ("" if "@" in either else either), 200)
    if name.isdecimal():
        name = ""
    return (name, address) if name or address else None


def _told(value: object) -> Iterable[object]:
    """PHP writes a list with gaps as an object."""
    if isinstance(value, str):
        return (BETWEEN if BETWEEN.search(value) else BLANKS).split(value)
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else (value,)


def usable(told: Iterable[object]) -> tuple[tuple[str, ...], bool]:
    """Each once, in the order in which they are told; and whether that is all of them."""
    texts = [_number(it) for it in told]
    found = tuple(dict.fromkeys(text for text in texts if text))
    return found[:NUMBERS_MAX], None not in texts and len(found) <= NUMBERS_MAX


def _number(told: object) -> str | None:
    """As it can be printed on a ticket; empty, where nothing is told."""
    if told is None or told is False:
        return ""
    text = str(told) if isinstance(told, int) and told is not True and abs(told) < 10**19 else told
    if not isinstance(text, str) or len(text := text.strip()) > NUMBER_CHARS_MAX or not text.isprintable():
        return None
    return clean(text, NUMBER_CHARS_MAX)
