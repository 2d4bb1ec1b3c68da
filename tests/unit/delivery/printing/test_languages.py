"""A file names its language, and so does each page that is in another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from services.delivery.documents import document
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.documents import Document
from services.delivery.printing.renderer import Renderer
from tests.support import pdfs
from tests.support.deliveries import DRAW, issued
from tests.support.rendering import document_of, make_design, renderer, text_of, ticket


def french(at: Renderer, language: str = "fr") -> Document:
    campaign = msgspec.structs.replace(DRAW, language=language)
    snapshot = msgspec.structs.replace(
        issued("shop:727", 1, "Active", "Won"), campaigns=(campaign,)
    )
    return document(snapshot, snapshot.tickets, at.language)


def test_a_french_campaign_gives_a_french_file(plates_folder: Path) -> None:
    order = french(renderer(plates_folder))
    pdf = renderer(plates_folder, *order.pages).render(order)
    shown = " ".join(text_of(pdf).split())
    for words in ("Titulaire", "samedi 6 mars 2027", "21 novembre 2026", "Valable", "1 sur 2"):
        assert words.casefold() in shown.casefold()
    with pdfs.opened(pdf) as opened:
        assert opened.Root.Lang == "fr"
        assert str(opened.docinfo["/Title"]) == "Spring Draw\u00a0: commande 727"
        assert str(opened.docinfo["/Subject"]) == "2 billets, commande 727"
        assert b"<rdf:li>fr</rdf:li>" in opened.Root.Metadata.read_bytes()


def test_pages_of_another_language_than_the_files_name_it_and_the_others_do_not(
    plates_folder: Path,
) -> None:
    pages = tuple(
        ticket(at, language=language) for at, language in enumerate(("fr", "de", "fr", ""))
    )
    pdf = renderer(plates_folder, *pages).render(document_of(*pages))
    with pdfs.opened(pdf) as opened:
        assert opened.Root.Lang == "fr"
        [root] = opened.Root.StructTreeRoot.K
        languages = dict[object, set[str]]()
        for kid in pdfs.kids(root):
            languages.setdefault(pdfs.id_of(kid.Pg), set()).add(str(kid.get("/Lang", "")))
        assert [languages[pdfs.id_of(page)] for page in opened.pages] == [
            {""},
            {"de"},
            {""},
            {"en"},
        ]
        assert opened.check_pdf_syntax() == []


def test_another_language_is_another_file(plates_folder: Path) -> None:
    """Each alone, with the very same texts on the page."""
    one = document_of(ticket(language="en"))
    other = replace(one, pages=(ticket(language="nl"),))
    at = renderer(plates_folder, *one.pages, *other.pages)
    assert at.key(one) != at.key(other)
    assert at.render(one) != at.render(other)


def test_no_language_is_the_designs_first_and_the_same_file(plates_folder: Path) -> None:
    at = renderer(plates_folder, *french(renderer(plates_folder), "").pages)
    assert at.key(french(at, "")) == at.key(french(at, "en"))
    assert at.render(french(at, "")) == at.render(french(at, "en"))


@pytest.mark.parametrize(("requested", "printed"), [("fr-CA", "fr-CA"), ("it", "en"), ("", "en")])
def test_words_are_in_the_language_in_which_the_design_is_printed(
    requested: str, printed: str, plates_folder: Path
) -> None:
    """Never a page of two languages: what the design lacks, delivery does not write either."""
    assert renderer(plates_folder).language("event-ticket", requested) == printed


def test_a_design_in_german_alone_has_german_dates_whatever_its_campaign_requests(
    tmp_path: Path, plates_folder: Path
) -> None:
    make_design(tmp_path / "tor", manifest=('languages = ["en"]', 'languages = ["de"]'))
    at = renderer(plates_folder, library=DesignLibrary((tmp_path,)))
    for requested in ("", "de", "fr"):
        assert at.language("tor", requested) == "de"
