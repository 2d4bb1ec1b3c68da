"""An order's tickets as one file: one page a ticket, all details as text, a code that a scanner
reads, nothing fetched.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pypdfium2
import pytest

from schemas.orders import CampaignSnapshot, Person, TicketsChanged
from services.delivery.documents import document, split_document
from services.delivery.printing import renderer as module
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.documents import Document
from services.delivery.printing.errors import DesignUnknown, DesignUnusable
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.sandbox import child as apart
from services.delivery.printing.sandbox.layout_worker import LayoutWorker
from services.delivery.printing.sandbox.limits import CompileTask
from tests.support.corpus import ODD
from tests.support.deliveries import DRAW, issued
from tests.support.rendering import (
    DESIGNS,
    document_of,
    make_design,
    payload,
    picture,
    picture_wide,
    renderer,
    scanned,
    text_of,
    ticket,
)

A5_ACROSS, A5, A4, PHONE = (595.3, 419.5), (419.5, 595.3), (595.3, 841.9), (255.1, 552.8)  # points
DETAILS = (
    "RFL-0001",
    "Spring Draw",
    "Grace Hopper",
    "Ada Lovelace",
    "ada@example.org",
    "727",
    "Saturday, 6 March 2027",
    "19:30 (Europe/Dublin)",
    "Example Hall, Dublin",
    "21 November 2026",
    "Active",
)


@dataclass
class Counts:
    """Counts what is reported, as the metrics do."""

    pages: int = 0
    laid_out_pages: dict[str, int] = field(default_factory=dict)
    plates: int = 0
    missing: dict[tuple[str, str], int] = field(default_factory=dict)

    def stamped(self, pages: int) -> None:
        self.pages += pages

    def laid_out(self, pages: int, reason: str) -> None:
        self.laid_out_pages[reason] = self.laid_out_pages.get(reason, 0) + pages

    def characters_missing(self, design: str, field: str, characters: int) -> None:
        self.missing[design, field] = self.missing.get((design, field), 0) + characters

    def compiled(self, seconds: float) -> None:
        assert seconds > 0
        self.plates += 1

    def plate_loaded(self, seconds: float) -> None:
        raise AssertionError(f"there is no shared store, and one responded in {seconds} s")


def designed(snapshot: TicketsChanged, design: str) -> TicketsChanged:
    campaigns = tuple(
        msgspec.structs.replace(campaign, design=design) for campaign in snapshot.campaigns
    )
    return msgspec.structs.replace(snapshot, campaigns=campaigns)


def papers(snapshot: TicketsChanged) -> Document:
    return document(snapshot, snapshot.tickets)


def words(pdf: bytes) -> list[str]:
    return [" ".join(text_of(pdf, at).split()) for at in range(len(pypdfium2.PdfDocument(pdf)))]


@pytest.fixture
def plates(plates_folder: Path) -> Path:
    return plates_folder


def rendered(plates: Path, printed_document: Document) -> bytes:
    return renderer(plates, *printed_document.pages).render(printed_document)


@pytest.mark.feature("SF-053", "SF-055")
@pytest.mark.parametrize("dpi", [72, 150])
def test_each_page_has_one_code_that_a_scanner_reads(dpi: int, plates: Path) -> None:
    """At 72 dpi too, which is less than any screen and any printer shows."""
    snapshot = issued("shop:727", 1, "Active", "Active", "Won")
    pdf = rendered(plates, papers(snapshot))
    assert [scanned(picture(pdf, dpi, at)) for at in range(3)] == [
        [f"STUBLINE:{ticket.code}"] for ticket in snapshot.tickets
    ]


@pytest.mark.feature("SF-054")
@pytest.mark.parametrize("design", [*DESIGNS, *(f"{design}-phone" for design in DESIGNS)])
def test_the_page_shows_all_that_is_known_of_its_ticket(design: str, plates: Path) -> None:
    buyer, holder = (
        Person(name="Ada Lovelace", email="ada@example.org"),
        Person(name="Grace Hopper"),
    )
    snapshot = designed(issued("shop:727", 1, "Active", "Won", buyer=buyer, holder=holder), design)
    first, second = words(rendered(plates, papers(snapshot)))
    assert [detail for detail in DETAILS if detail not in first] == []
    assert "RFL-0002" in second
    assert "Won" in second
    assert "1 of 2" in first
    assert "2 of 2" in second


@pytest.mark.parametrize(
    ("design", "size"),
    [
        ("raffle-entry", A5_ACROSS),
        ("event-ticket-a4", A4),
        ("e-ticket", A5),
        ("e-ticket-phone", PHONE),
        ("plain", A5_ACROSS),
    ],
)
def test_one_page_a_ticket_of_the_right_size_whatever_stands_on_it(
    design: str, size: tuple[float, float], plates: Path
) -> None:
    """`plain` is the design of campaigns of the first release."""
    long = Person(
        name="Wolfeschlegelsteinhausenbergerdorff " * 5, email=f"{'a' * 60}@{'b' * 60}.example.org"
    )
    campaign = CampaignSnapshot(
        campaign_id="spring",
        version=1,
        name="A very long name of a draw " * 10,
        venue="Hall " * 60,
        design=design,
    )
    snapshot = issued("shop:727", 1, *["Active"] * 7, buyer=long)
    snapshot = msgspec.structs.replace(snapshot, campaigns=(campaign,), number="N" * 64)
    pdf = rendered(plates, papers(snapshot))
    opened = pypdfium2.PdfDocument(pdf)
    assert len(opened) == 7
    assert {tuple(round(side, 1) for side in page.get_size()) for page in opened} == {size}
    assert [scanned(picture(pdf, 150, at)) for at in (0, 6)] == [
        [f"STUBLINE:{snapshot.tickets[at].code}"] for at in (0, 6)
    ]


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
def test_a_customers_name_is_only_a_name(name: str, plates: Path) -> None:
    pdf = rendered(
        plates,
        papers(issued("shop:727", 1, "Active", buyer=Person(name=name, email="eve@example.org"))),
    )
    [text] = words(pdf)
    assert "RFL-0001" in text
    assert "49" not in text
    assert "Order".upper() in text.upper()
    assert "\u202e" not in text
    if name.startswith(("<script>", "{{", "&")):
        assert name in text
    if name.startswith("name"):
        assert "name [31m" in text


def test_the_same_order_is_the_same_bytes_and_the_same_key(plates: Path) -> None:
    printed_document = papers(issued("shop:727", 1, "Active", "Active"))
    assert rendered(plates, printed_document) == rendered(plates, printed_document)
    assert rendered(plates, replace(printed_document, purchaser="Grace")) != rendered(
        plates, printed_document
    )
    at_work = renderer(plates)
    assert at_work.key(printed_document) == at_work.key(replace(printed_document))
    assert len(at_work.key(printed_document)) == 32


def test_rendering_complains_of_nothing(plates: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not of a customer's letters either: no font may have them, and that is no mistake
    here.
    """
    with caplog.at_level(logging.WARNING):
        rendered(plates, document_of(ticket(), ticket(1, holder=ODD["Chinese"])))
    assert caplog.messages == []


def test_a_ticket_whose_campaign_is_missing_is_printed_by_its_id(plates: Path) -> None:
    snapshot = msgspec.structs.replace(issued("shop:727", 1, "Active"), campaigns=())
    [text] = words(rendered(plates, papers(snapshot)))
    assert "spring" in text


@pytest.mark.parametrize(
    ("change", "absent"), [({"starts_on": None}, "March"), ({"venue": ""}, "Example Hall")]
)
def test_what_is_not_known_of_a_campaign_is_left_out(
    change: dict[str, None], absent: str, plates: Path
) -> None:
    snapshot = msgspec.structs.replace(
        issued("shop:727", 1, "Active"), campaigns=(msgspec.structs.replace(DRAW, **change),)
    )
    [text] = words(rendered(plates, papers(snapshot)))
    assert absent not in text
    assert "None" not in text


@pytest.mark.feature("SF-211")
def test_a_marketplace_has_each_item_as_a_page_of_its_own_in_base64(plates: Path) -> None:
    """Print at home: A4, one file an item. A marketplace takes it as text."""
    snapshot = designed(issued("shop:727", 1, "Active", "Active", "Active"), "e-ticket-a4")
    for at, item in enumerate(split_document(document(snapshot, snapshot.tickets), "ticket")):
        encoded = base64.b64encode(rendered(plates, item)).decode("ascii")
        pdf = base64.b64decode(encoded, validate=True)
        assert pypdfium2.PdfDocument(pdf)[0].get_size() == pytest.approx(A4, abs=0.1)
        assert scanned(picture(pdf, 150)) == [f"STUBLINE:{snapshot.tickets[at].code}"]
        [text] = words(pdf)
        assert f"RFL-000{at + 1}" in text
        assert len(encoded) < 60_000


@pytest.mark.feature("SF-211")
def test_an_e_ticket_is_shown_on_a_phone(plates: Path) -> None:
    pdf = rendered(plates, document_of(ticket(design="e-ticket-phone")))
    assert scanned(picture_wide(pdf, 360)) == [payload(0)]


def test_metrics_count_of_each_page_how_it_was_made(plates: Path) -> None:
    counts = Counts()
    at_work = renderer(plates, ticket())
    at_work.telemetry = counts
    at_work.render(
        document_of(
            ticket(0),
            ticket(1, holder=ODD["Arabic"]),
            ticket(2, holder="Zoë"),
            ticket(3, holder=ODD["Arabic"]),
        )
    )
    assert (counts.pages, sum(counts.laid_out_pages.values()), counts.plates) == (2, 2, 0)
    assert set(counts.laid_out_pages) == {"characters"}


def test_a_character_that_no_font_has_is_reported_and_its_ticket_is_printed(plates: Path) -> None:
    """Through the helper process."""
    counts = Counts()
    at_work = renderer(plates, ticket())
    at_work.telemetry = counts
    pdf = at_work.render(
        document_of(ticket(0, holder="Ada \U00013000\U00013001"), ticket(1, holder=ODD["Hebrew"]))
    )
    assert counts.missing == {("event-ticket", "holder"): 4}, "two, at two places of the design"
    assert "Ada" in words(pdf)[0]


def test_a_name_in_another_script_is_laid_out_once_for_all_tickets_of_an_order(
    plates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[object] = []
    at_work = renderer(plates, ticket())
    set_texts = LayoutWorker.set_texts

    def counted(*arguments: object) -> object:
        requests.append(arguments)
        return set_texts(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(LayoutWorker, "set_texts", counted)
    pdf = at_work.render(document_of(*(ticket(at, holder=ODD["Japanese"]) for at in range(5))))
    assert len(requests) == 1
    assert [scanned(picture(pdf, 150, at)) for at in range(5)] == [[payload(at)] for at in range(5)]


@pytest.mark.feature("SF-054")
def test_each_page_shows_its_own_holder_in_whatever_script(plates: Path) -> None:
    """Stamped and set whole in turns, in one order."""
    names = (ODD["Thai"], "Ada Lovelace", ODD["Japanese"], "Zoë", ODD["Thai"])
    pages = words(
        rendered(plates, document_of(*(ticket(at, holder=name) for at, name in enumerate(names))))
    )
    for page, own in zip(pages, names, strict=True):
        assert [name for name in dict.fromkeys(names) if name in page] == [own]


def test_a_campaign_is_compiled_once_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first who prints of it; the others find the plate."""

    def here(task: CompileTask) -> float:
        apart.compile_and_store(task.variant, task.facts, task.plate_cache, task.key)
        return 0.5

    monkeypatch.setattr(module, "compile_in_sandbox", here)
    counts = Counts()
    at_work = Renderer(DesignLibrary(), PlateCache(tmp_path), counts)
    at_work.render(document_of(ticket(3)))
    assert counts.plates == 1
    at_work.render(document_of(ticket()))
    Renderer(DesignLibrary(), PlateCache(tmp_path), counts).render(document_of(ticket(5)))
    assert counts.plates == 1


def test_a_bad_design_is_refused_at_the_campaigns_start(tmp_path: Path) -> None:
    make_design(tmp_path / "bad", page=("{{ campaign.name }}</h1>", "{{ nope }}</h1>"))
    at_work = Renderer(DesignLibrary((tmp_path,)), PlateCache(tmp_path / "shelf"))
    with pytest.raises(DesignUnusable, match=r"bad/page\.html:8: 'nope' is undefined"):
        at_work.render(document_of(ticket(design="bad")))
    with pytest.raises(DesignUnknown, match="nowhere"):
        at_work.render(document_of(ticket(design="nowhere")))


def test_a_document_that_cannot_be_printed_harms_no_other(plates: Path) -> None:
    at_work = renderer(plates, ticket())
    good = at_work.render(document_of(ticket()))
    with pytest.raises(DesignUnknown):
        at_work.render(document_of(ticket(), ticket(1, design="nowhere")))
    with pytest.raises(ValueError, match=r"fit|long|large|Data"):
        at_work.render(document_of(ticket(payload="x" * 5_000)))
    assert at_work.render(document_of(ticket())) == good


def test_an_edited_design_is_another_plate_and_another_key(tmp_path: Path, plates: Path) -> None:
    own = make_design(tmp_path / "own")
    page = ticket(design="own")
    before = renderer(plates, page, library=DesignLibrary((tmp_path,)))
    key, file = before.key(document_of(page)), before.render(document_of(page))
    make_design(tmp_path / "own", style="h1 { color: red }")
    assert before.render(document_of(page)) == file, "an order that is being printed keeps its look"
    after = renderer(plates, page, library=DesignLibrary((tmp_path,)))
    assert after.key(document_of(page)) != key
    assert after.render(document_of(page)) != file
    assert own.digest != after.library.choose("own").design.digest


def test_a_design_that_was_fixed_is_printed_without_a_new_process(tmp_path: Path) -> None:
    make_design(tmp_path / "designs" / "door", page=("{{ campaign.name }}</h1>", "{{ nope }}</h1>"))
    at_work = Renderer(DesignLibrary((tmp_path / "designs",)), PlateCache(tmp_path / "shelf"))
    with pytest.raises(DesignUnusable, match="nope"):
        at_work.render(document_of(ticket(design="door")))
    make_design(tmp_path / "designs" / "door")
    assert text_of(at_work.render(document_of(ticket(design="door")))).startswith("Spring Draw")
