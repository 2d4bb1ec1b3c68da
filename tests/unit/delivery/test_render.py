"""The PDF: one page a ticket, all details as text, a code that a scanner reads, the same bytes for the same order, nothing fetched."""

from __future__ import annotations

import logging
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import pypdfium2
import pytest
import zxingcpp

from schemas.orders import CampaignSaid, Person, TicketsChanged
from services.delivery.documents import Document, document
from services.delivery.render import FetchRefusedError, Nothing, render
from tests.support.deliveries import DRAW, issued

A5_ACROSS = (595.3, 419.5)  # points


def papers(snapshot: TicketsChanged) -> Document:
    return document(snapshot, snapshot.tickets)


def texts(pdf: bytes) -> list[str]:
    opened = pypdfium2.PdfDocument(pdf)
    return [" ".join(page.get_textpage().get_text_range().split()) for page in opened]


def scanned(pdf: bytes, page: int, scale: float = 2.0) -> list[str]:
    picture = pypdfium2.PdfDocument(pdf)[page].render(scale=scale).to_pil()
    return [found.text for found in zxingcpp.read_barcodes(picture)]


@pytest.mark.feature("SF-053")
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_each_page_has_one_code_that_a_scanner_reads(scale: float) -> None:
    """At 72 dpi too, which is less than any screen and any printer shows."""
    snapshot = issued("shop:727", 1, "Active", "Active", "Won")
    pdf = render(papers(snapshot))
    assert [scanned(pdf, page, scale) for page in range(3)] == [[f"STUBLINE:{it.code}"] for it in snapshot.tickets]


@pytest.mark.feature("SF-054")
def test_the_page_says_all_that_is_known_of_its_ticket() -> None:
    buyer, holder = Person(name="Ada Lovelace", email="ada@example.org"), Person(name="Grace Hopper")
    snapshot = issued("shop:727", 1, "Active", "Won", buyer=buyer, holder=holder)
    first, second = texts(render(papers(snapshot)))
    for detail in (
        "RFL-0001",
        "Spring Draw",
        "Grace Hopper",
        "Ada Lovelace",
        "ada@example.org",
        "727",
        "Saturday, 6 March 2027, 19:30 (Europe/Dublin)",
        "Example Hall, Dublin",
        "21 November 2026",
        "Active",
    ):
        assert detail in first, detail
    assert "RFL-0002" in second
    assert "Won" in second


def test_one_page_a_ticket_of_the_right_size_whatever_stands_on_it() -> None:
    long = Person(name="Wolfeschlegelsteinhausenbergerdorff " * 5, email=f"{'a' * 60}@{'b' * 60}.example.org")
    campaign = CampaignSaid(
        campaign_id="spring", version=1, name="A very long name of a draw " * 10, venue="Hall " * 60
    )
    snapshot = issued("shop:727", 1, *["Active"] * 7, buyer=long)
    snapshot = snapshot.model_copy(update={"campaigns": (campaign,), "number": "N" * 64})
    opened = pypdfium2.PdfDocument(render(papers(snapshot)))
    assert len(opened) == 7
    assert {tuple(round(side, 1) for side in page.get_size()) for page in opened} == {A5_ACROSS}
    assert [len(scanned(render(papers(snapshot)), page)) for page in (0, 6)] == [1, 1]


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}{% for x in y %}",
        '"><img src="file:///etc/passwd">',
        "&amp; & </section></body>",
        "\u202eevE",
        "name\x0c\x1b[31m",
        "王小明 محمد Ωλ 🎟️",
    ],
)
def test_a_strangers_name_is_only_a_name(name: str) -> None:
    pdf = render(papers(issued("shop:727", 1, "Active", buyer=Person(name=name, email="eve@example.org"))))
    [text] = texts(pdf)
    assert "RFL-0001" in text
    assert "49" not in text
    assert "Order".upper() in text.upper()
    if name.startswith("<script>"):
        assert "<script>alert(1)</script>" in text
    assert "\u202e" not in text


def test_nothing_is_fetched() -> None:
    with pytest.raises(FetchRefusedError):
        Nothing().fetch("https://example.org/logo.png")


def test_the_same_order_is_the_same_bytes() -> None:
    paper = papers(issued("shop:727", 1, "Active", "Active"))
    assert render(paper) == render(paper)
    assert render(replace(paper, purchaser="Grace")) != render(paper)


def test_a_reader_is_told_title_language_and_structure() -> None:
    pdf = render(papers(issued("shop:727", 1, "Active")))
    assert pypdfium2.PdfDocument(pdf).get_metadata_dict()["Title"] == "Spring Draw: order 727"
    plain = b"".join(map(inflated, re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)))
    for said in (b"/Lang", b"/MarkInfo", b"/StructTreeRoot", b"pdfuaid:part"):
        assert said in plain + pdf, said


def inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream


def test_rendering_complains_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A property that the engine does not know would be a design that nobody sees."""
    with caplog.at_level(logging.WARNING, logger="weasyprint"):
        render(papers(issued("shop:727", 1, "Active", buyer=Person(name="other", email="o@example.org"))))
    assert caplog.messages == []


def test_a_ticket_whose_campaign_is_not_said_is_printed_by_its_id() -> None:
    snapshot = issued("shop:727", 1, "Active").model_copy(update={"campaigns": ()})
    [text] = texts(render(papers(snapshot)))
    assert "spring" in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "Saturday, 6 March 2027, 19:30 (Europe/Dublin)"),
        ({"starts_at": None}, "Saturday, 6 March 2027"),
        ({"starts_on": None}, ""),
    ],
)
def test_a_date_is_told_as_the_organiser_wrote_it(change: dict[str, None], told: str) -> None:
    snapshot = issued("shop:727", 1, "Active").model_copy(update={"campaigns": (DRAW.model_copy(update=change),)})
    assert papers(snapshot).pages[0].when == told


def test_the_day_of_issue_is_the_campaigns_not_the_servers() -> None:
    late = datetime(2026, 6, 30, 23, 30, tzinfo=UTC)  # in Dublin, half past midnight
    snapshot = issued("shop:727", 1, "Active")
    ticket = snapshot.tickets[0].model_copy(update={"issued_at": late})
    assert document(snapshot, [ticket]).pages[0].issued == "1 July 2026"
    nowhere = snapshot.model_copy(update={"campaigns": (DRAW.model_copy(update={"zone": "Nowhere/Land"}),)})
    assert document(nowhere, [ticket]).pages[0].issued == "30 June 2026"
