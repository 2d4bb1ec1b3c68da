"""Keys under which shops' plugins write, beside a line of an order, who its recipient is and which
numbers were chosen.

There is no standard. A key is compared in lower case, without leading `_`, with blanks and `-` as
`_`: `Recipient E-mail` is `recipient_e_mail`. The page docs/how-to/connect-a-woocommerce-shop.md
lists them.
"""

from __future__ import annotations

from functools import lru_cache

# If a line names several, the first of these wins.
RECIPIENT_KEYS = (
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
PERSON_PARTS = {
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
EITHER = "either"  # a name or an address
KEY = "key"  # the key that named the recipient
PEOPLE = {recipient_key: (rank, EITHER) for rank, recipient_key in enumerate(RECIPIENT_KEYS)} | {
    f"{recipient_key}_{word}": (rank, part)
    for rank, recipient_key in enumerate(RECIPIENT_KEYS)
    for word, part in PERSON_PARTS.items()
}
NUMBERS = {
    f"{word_before}_{word}": rank
    for rank, word_before in enumerate(
        (
            "chosen",
            "selected",
            "picked",
            "lottery",
            "lottery_ticket",
            "raffle",
            "raffle_ticket",
            "lucky",
            "ticket",
        )
    )
    for word in ("number", "numbers")
} | {"lty_lottery_tickets": 50, "lottery_tickets": 51, "raffle_tickets": 52, "chosen_tickets": 53}
TO_UNDERSCORE = str.maketrans(" -", "__")


@lru_cache(1_000)
def canonical_key(word: str) -> str:
    """Return the key as it stands in a table; empty if it does not. Cached, because a shop's orders
    have the same few keys.
    """
    key = word.strip().lstrip("_").translate(TO_UNDERSCORE).lower().rstrip("_:")
    return key if key in PEOPLE or key in NUMBERS else ""
