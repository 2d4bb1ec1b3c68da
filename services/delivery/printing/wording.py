"""What delivery itself writes on a ticket, in the ticket's language: dates by Unicode's CLDR
(Babel), and a few words of our own.

Pure: the same words on each machine, for locales are named and never asked for, and Babel's
version, its data's too, is pinned. All of it becomes text of a page, so it is part of the key of a
document like any other text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache

from babel.core import Locale, UnknownLocaleError
from babel.dates import format_date, format_time

from schemas.orders import TicketStatus

Spoken = Callable[[str, str], str]  # a design, the language that is asked for -> that of the page
ENGLISH = "en"
INTERNATIONAL = "en_GB"  # English that names no country: 6 March 2027, 19:30
KEPT = 4_096  # dates of campaigns and days of issue are few, their tickets many


@dataclass(frozen=True, slots=True)
class LanguageWords:
    """Of one language. In braces stands what is filled in."""

    status: Mapping[TicketStatus, str]
    position: str
    more: str
    title: str
    one: str
    many: str


OURS = {
    "en": LanguageWords(
        {"Active": "Active", "Won": "Won", "Cancelled": "Cancelled"},
        position="{at} of {count}",
        more="{campaigns} and more",
        title="{campaigns}: order {order}",
        one="1 ticket, order {order}",
        many="{count} tickets, order {order}",
    ),
    "de": LanguageWords(
        {"Active": "Gültig", "Won": "Gewonnen", "Cancelled": "Storniert"},
        position="{at} von {count}",
        more="{campaigns} und weitere",
        title="{campaigns}: Bestellung {order}",
        one="1 Ticket, Bestellung {order}",
        many="{count} Tickets, Bestellung {order}",
    ),
    "fr": LanguageWords(
        {"Active": "Valable", "Won": "Gagnant", "Cancelled": "Annulé"},
        position="{at} sur {count}",
        more="{campaigns} et autres",
        title="{campaigns}\u00a0: commande {order}",
        one="1 billet, commande {order}",
        many="{count} billets, commande {order}",
    ),
    "es": LanguageWords(
        {
            "Active": "Vigente",
            "Won": "Con premio",
            "Cancelled": "Sin validez",
        },  # for `entrada` and `boleto` alike
        position="{at} de {count}",
        more="{campaigns} y más",
        title="{campaigns}: pedido {order}",
        one="1 entrada, pedido {order}",
        many="{count} entradas, pedido {order}",
    ),
    "nl": LanguageWords(
        {"Active": "Geldig", "Won": "Gewonnen", "Cancelled": "Geannuleerd"},
        position="{at} van {count}",
        more="{campaigns} en meer",
        title="{campaigns}: bestelling {order}",
        one="1 ticket, bestelling {order}",
        many="{count} tickets, bestelling {order}",
    ),
}


def english(_design: str, _asked: str) -> str:
    """For what is in English whatever its tickets are in: mails."""
    return ENGLISH


def words(language: str) -> LanguageWords:
    """English where we have no words of a language."""
    return OURS.get(language.partition("-")[0].lower(), OURS[ENGLISH])


@lru_cache(KEPT)
def locale_of(language: str) -> Locale:
    """Its own, or that of the language without its country; English for one that CLDR does not
    have.
    """
    parts = language.split("-")
    while parts and parts != [ENGLISH]:
        try:
            return Locale.parse("-".join(parts), sep="-")
        except (UnknownLocaleError, ValueError):
            parts.pop()
    return Locale.parse(INTERNATIONAL)


@lru_cache(KEPT)
def day(on: date, language: str) -> str:
    return format_date(on, "long", locale_of(language))


@lru_cache(KEPT)
def moment(on: date, at: str | None, zone: str, language: str) -> str:
    """As the organiser wrote it, with the zone in which it holds. Never moved to another one."""
    locale = locale_of(language)
    long = format_date(on, "full", locale)
    if not at:
        return long
    joined = (
        str(locale.datetime_formats["medium"])
        .replace("'", "")
        .replace("{1}", long)
        .replace("{0}", clock(at, locale))
    )
    return f"{joined} ({zone})"


def clock(at: str, locale: Locale) -> str:
    """What is no time is printed as it was said."""
    try:
        return format_time(time.fromisoformat(at), "short", locale=locale)
    except ValueError:
        return at
