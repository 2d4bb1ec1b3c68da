"""Texts of unknown senders, made fit to be stored, mailed and printed on a ticket."""

from __future__ import annotations

import html
import unicodedata

EMAIL_CHARS_MAX = 320
INVISIBLE = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
# They may reverse the direction of a text.
DIRECTION = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


def clean(text: str, chars_max: int) -> str:
    """Return one line without control characters, with single blanks, cut at a limit. Joiners stay,
    because names and emoji need them.
    """
    if len(text) <= chars_max and text.isprintable() and "  " not in text and text.strip() == text:
        return text
    text = text[: 4 * chars_max]
    if not text.isprintable():
        text = "".join(_shown(character) for character in text)
    if "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(text.split())
    return text[:chars_max].rstrip()


def unescaped(text: str, chars_max: int) -> str:
    """Return the clean text of a shop that writes `&ndash;` into names."""
    return clean(html.unescape(text[: 8 * chars_max]) if "&" in text else text, chars_max)


def email(text: str) -> str:
    """Return the address, or nothing if it cannot be one: the order is accepted, and delivery
    reports what it lacks.
    """
    text = text.strip()
    is_one = (
        len(text) <= EMAIL_CHARS_MAX
        and text.isprintable()
        and " " not in text
        and "@" in text[1:-1]
    )
    return text if is_one else ""


def _shown(character: str) -> str:
    if character in DIRECTION:
        return ""
    return " " if unicodedata.category(character) in INVISIBLE or character.isspace() else character
