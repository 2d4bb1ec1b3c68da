"""The texts that Stubline itself writes on a ticket, in the ticket's language: dates by Unicode's
CLDR (Babel), and a few words of its own.

Pure: the words are the same on each machine, because locales are named and never read from the
environment, and Babel's version, with its data, is pinned. All of it becomes text of a page, so it
is part of a document's key like any other text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache

from babel.core import Locale, UnknownLocaleError
from babel.dates import format_date, format_time

from schemas.orders import TicketStatus

PageLanguage = Callable[[str, str], str]  # design, requested language -> language of the page
ENGLISH = "en"
INTERNATIONAL = "en_GB"  # English that names no country: 6 March 2027, 19:30
CACHED_MAX = 4_096  # dates of campaigns and days of issue are few, their tickets many


@dataclass(frozen=True, slots=True)
class LanguageTexts:
    """The words of one language. Braces mark what is filled in."""

    status: Mapping[TicketStatus, str]
    position: str
    more: str
    title: str
    one: str
    many: str


WORDS_BY_LANGUAGE = {
    "en": LanguageTexts(
        {"Active": "Active", "Won": "Won", "Cancelled": "Cancelled"},
        position="{at} of {count}",
        more="{campaigns} and more",
        title="{campaigns}: order {order}",
        one="1 ticket, order {order}",
        many="{count} tickets, order {order}",
    ),
    "de": LanguageTexts(
        {"Active": "Gültig", "Won": "Gewonnen", "Cancelled": "Storniert"},
        position="{at} von {count}",
        more="{campaigns} und weitere",
        title="{campaigns}: Bestellung {order}",
        one="1 Ticket, Bestellung {order}",
        many="{count} Tickets, Bestellung {order}",
    ),
    "fr": LanguageTexts(
        {"Active": "Valable", "Won": "Gagnant", "Cancelled": "Annulé"},
        position="{at} sur {count}",
        more="{campaigns} et autres",
        title="{campaigns}\u00a0: commande {order}",
        one="1 billet, commande {order}",
        many="{count} billets, commande {order}",
    ),
    "es": LanguageTexts(
        # They agree with `entrada` and with `boleto`.
        {
            "Active": "Vigente",
            "Won": "Con premio",
            "Cancelled": "Sin validez",
        },
        position="{at} de {count}",
        more="{campaigns} y más",
        title="{campaigns}: pedido {order}",
        one="1 entrada, pedido {order}",
        many="{count} entradas, pedido {order}",
    ),
    "nl": LanguageTexts(
        {"Active": "Geldig", "Won": "Gewonnen", "Cancelled": "Geannuleerd"},
        position="{at} van {count}",
        more="{campaigns} en meer",
        title="{campaigns}: bestelling {order}",
        one="1 ticket, bestelling {order}",
        many="{count} tickets, bestelling {order}",
    ),
}


def english(_design: str, _requested: str) -> str:
    """Return English for every design and every requested language."""
    return ENGLISH


def words(language: str) -> LanguageTexts:
    """Return a language's words, or the English ones if it has none."""
    return WORDS_BY_LANGUAGE.get(language.partition("-")[0].lower(), WORDS_BY_LANGUAGE[ENGLISH])


@lru_cache(CACHED_MAX)
def locale_of(language: str) -> Locale:
    """Return the language's locale, that of the language without its country, or English for a
    language that CLDR lacks.
    """
    parts = language.split("-")
    while parts and parts != [ENGLISH]:
        try:
            return Locale.parse("-".join(parts), sep="-")
        except (UnknownLocaleError, ValueError):
            parts.pop()
    return Locale.parse(INTERNATIONAL)


@lru_cache(CACHED_MAX)
def day(on: date, language: str) -> str:
    return format_date(on, "long", locale_of(language))


@lru_cache(CACHED_MAX)
def moment(on: date, at: str | None, zone: str, language: str) -> str:
    """Return a campaign's date as the organiser wrote it, with the zone in which it holds. It is
    never converted to another zone.
    """
    locale = locale_of(language)
    date_text = format_date(on, "full", locale)
    if not at:
        return date_text
    joined = (
        str(locale.datetime_formats["medium"])
        .replace("'", "")
        .replace("{1}", date_text)
        .replace("{0}", clock(at, locale))
    )
    return f"{joined} ({zone})"


def clock(text: str, locale: Locale) -> str:
    """Return a time as the locale writes it. A text that is no time is printed unchanged."""
    try:
        return format_time(time.fromisoformat(text), "short", locale=locale)
    except ValueError:
        return text
