"""What delivery itself writes on a ticket is in the language of its campaign; whatever was said
before there were any stays.
"""

from __future__ import annotations

from datetime import date
from typing import get_args

import msgspec
import pytest

from schemas import structs
from schemas.orders import TicketsChanged, TicketStatus
from services.delivery.documents import document
from services.delivery.printing import wording
from services.delivery.printing.design.library import (
    DesignLibrary,
    best_language,
    builtin,
    builtin_names,
)
from services.delivery.printing.tools import samples
from tests.support.deliveries import DRAW, issued
from tests.support.rendering import VARIANTS, compiled_design

EXPECTED = {  # when, issued, status, position; title and subject of the file
    "en": (("Saturday, 6 March 2027, "
    "19:30"), "21 November 2026", "Active", "1 of 2", ": order 727", "2 tickets, order 727"),
    "de": (("Samstag, 6. März 2027, "
    "19:30"), "21. November 2026", "Gültig", "1 von 2", ": Bestellung 727", "2 Tickets, Bestellung 727"),  # noqa: E501 - a row of a table, or a program
    "fr": ("samedi 6 mars 2027, 19:30", "21 novembre 2026", "Valable", "1 sur 2", "\u00a0: commande 727", "2 billets, commande 727"),  # noqa: E501 - a row of a table, or a program
    "es": (("sábado, 6 de marzo de 2027, "
    "19:30"), "21 de noviembre de 2026", "Vigente", "1 de 2", ": pedido 727", "2 entradas, pedido 727"),  # noqa: E501 - a row of a table, or a program
    "nl": (("zaterdag 6 maart 2027, "
    "19:30"), "21 november 2026", "Geldig", "1 van 2", ": bestelling 727", "2 tickets, bestelling 727"),  # noqa: E501 - a row of a table, or a program
}  # fmt: skip


def snapshot_in(language: str, *statuses: str) -> TicketsChanged:
    campaign = msgspec.structs.replace(DRAW, language=language)
    return msgspec.structs.replace(
        issued("shop:727", 1, *(statuses or ("Active", "Won"))), campaigns=(campaign,)
    )


def as_requested(_design: str, requested: str) -> str:
    return requested or "en"


@pytest.mark.parametrize("language", EXPECTED)
def test_a_document_is_in_its_campaigns_language(language: str) -> None:
    when, day, status, position, title, subject = EXPECTED[language]
    snapshot = snapshot_in(language)
    worded = document(snapshot, snapshot.tickets, as_requested)
    page = worded.pages[0]
    assert page.when == f"{when} (Europe/Dublin)"
    assert (page.issued, page.status, page.position, page.language) == (
        day,
        status,
        position,
        language,
    )
    assert (worded.title, worded.subject) == (f"Spring Draw{title}", subject)


def test_a_language_that_we_have_no_words_of_has_its_own_dates_and_english_words() -> None:
    snapshot = snapshot_in("it")
    page = document(snapshot, snapshot.tickets, as_requested).pages[0]
    assert page.when == "sabato 6 marzo 2027, 19:30 (Europe/Dublin)"
    assert (page.issued, page.status, page.position) == ("21 novembre 2026", "Active", "1 of 2")


@pytest.mark.parametrize(
    ("language", "day", "status"),
    [
        ("en-US", "March 6, 2027", "Active"),
        ("de-AT", "6. März 2027", "Gültig"),
        ("pt-BR", "6 de março de 2027", "Active"),
        ("fr-XX", "6 mars 2027", "Valable"),
        ("xx", "6 March 2027", "Active"),
        ("", "6 March 2027", "Active"),
        ("no-such-thing-at-all", "6. mars 2027", "Active"),
    ],
)
def test_dates_go_by_the_country_and_words_by_the_language(
    language: str, day: str, status: str
) -> None:
    assert wording.day(date(2027, 3, 6), language) == day
    assert wording.words(language).status["Active"] == status


def test_a_time_is_written_as_the_country_writes_it_and_what_is_none_as_it_was_given() -> None:
    assert (
        wording.moment(date(2027, 3, 6), "19:30", "UTC", "fi")
        == "lauantai 6. maaliskuuta 2027 19.30 (UTC)"
    )
    assert (
        wording.moment(date(2027, 3, 6), "at dusk", "UTC", "de")
        == "Samstag, 6. März 2027, at dusk (UTC)"
    )
    assert wording.moment(date(2027, 3, 6), None, "UTC", "de") == "Samstag, 6. März 2027"


def test_a_snapshot_of_the_last_release_reads_and_prints_as_it_did() -> None:
    """The very texts, and so the very file: an order that was paid before its campaign said a
    language keeps it.
    """
    old = msgspec.to_builtins(issued("shop:727", 1, "Active"))
    assert "language" not in old["campaigns"][0]
    read = structs.convert(TicketsChanged, old)
    page = document(read, read.tickets).pages[0]
    assert (page.when, page.issued) == (
        "Saturday, 6 March 2027, 19:30 (Europe/Dublin)",
        "21 November 2026",
    )
    assert page.status == "Active"


def test_each_campaign_of_an_order_has_its_own_language_and_the_file_the_firsts() -> None:
    snapshot = snapshot_in("fr")
    autumn = msgspec.structs.replace(DRAW, campaign_id="autumn", name="Herbst", language="de")
    tickets = [
        msgspec.structs.replace(ticket, campaign_id=name)
        for ticket, name in zip(snapshot.tickets, ("autumn", "spring"), strict=True)
    ]
    worded = document(
        msgspec.structs.replace(snapshot, campaigns=(*snapshot.campaigns, autumn)),
        tickets,
        as_requested,
    )
    assert [(page.language, page.position) for page in worded.pages] == [
        ("de", "1 von 2"),
        ("fr", "2 sur 2"),
    ]
    assert worded.title == "Herbst, Spring Draw: Bestellung 727"


def test_the_built_in_designs_and_our_words_have_the_same_languages() -> None:
    for name in builtin_names():
        assert set(builtin(name).manifest.languages) == wording.WORDS_BY_LANGUAGE.keys()
    assert all(
        words.status.keys() == set(get_args(TicketStatus))
        for words in wording.WORDS_BY_LANGUAGE.values()
    )


@pytest.mark.parametrize("name", builtin_names())
def test_samples_have_the_texts_of_tickets(name: str) -> None:
    design = builtin(name)
    assert {key: samples.usual(design)[key] for key in samples.written("en")} == samples.written(
        "en"
    )
    french = samples.usual(design, "fr")
    assert (french["status"], french["issued"], french["position"]) == (
        "Valable",
        "21 novembre 2026",
        "2 sur 5",
    )
    assert french["holder"] == samples.usual(design)["holder"]
    assert samples.facts(design, "fr").when == "samedi 12 décembre 2026, 19:30 (Europe/Vienna)"
    assert samples.facts(design, "en") == samples.facts(design)


@pytest.mark.parametrize("sheet", VARIANTS)
def test_words_of_every_language_fit_into_the_built_in_designs(sheet: str) -> None:
    """The longest month, and an order of as many tickets as one may have."""
    stamp = compiled_design(sheet).stamp
    for language, words in wording.WORDS_BY_LANGUAGE.items():
        longest = max(
            (wording.day(date(2026, month, 30), language) for month in (9, 11, 12)), key=len
        )
        for field, texts in {
            "issued": [longest],
            "status": [*words.status.values()],
            "position": [words.position.format(at=1_999, count=2_000)],
        }.items():
            for plate_field in (
                name for name, spot in stamp.plate.fields.items() if spot.field == field
            ):
                assert [text for text in texts if stamp.fitted(plate_field, text).is_cut] == [], (
                    f"{language} {field}"
                )


@pytest.mark.parametrize(
    ("requested", "has", "expected"),
    [
        ("de", ["en", "de"], "de"),
        ("DE", ["en", "de"], "de"),
        ("pt-BR", ["en", "pt"], "pt"),
        ("pt-br", ["pt", "pt-BR"], "pt-BR"),
        ("pt", ["en", "pt-BR"], None),
        ("zh-Hant-TW", ["zh", "zh-Hant"], "zh-Hant"),
        ("it", ["en"], None),
        ("", ["en"], None),
    ],
)
def test_a_language_is_looked_up_from_its_country_to_its_own(
    requested: str, has: list[str], expected: str | None
) -> None:
    assert best_language(requested, has) == expected


def test_a_language_that_a_design_lacks_is_its_first() -> None:
    assert DesignLibrary().choose("event-ticket", "it").language == "en"
    assert DesignLibrary().choose("event-ticket", "fr-CA").language == "fr"


def test_quotes_of_a_pattern_are_not_printed() -> None:
    """Corsican joins date and time by a quoted word."""
    assert "'" not in wording.moment(date(2026, 9, 30), "19:30", "Europe/Paris", "co")
