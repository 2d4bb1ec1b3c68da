"""The file: nothing for qpdf to complain of, tagged, titled, its fonts in it, the same bytes for
the same document.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pikepdf
import pytest
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from fontTools.ttLib.sfnt import calcChecksum

from services.delivery.printing.documents import Document
from services.delivery.printing.fonts import packaged
from services.delivery.printing.pdf.metadata import DocumentMetadata
from services.delivery.printing.pdf.writer import PdfWriter
from services.delivery.printing.renderer import Renderer
from tests.support import pdfs
from tests.support.corpus import LATIN, ODD
from tests.support.rendering import (
    ADA,
    AT,
    SAMPLES,
    SUBSETS,
    VARIANTS,
    about,
    compiled_design,
    document_of,
    payload,
    picture,
    renderer,
    scanned,
    squeezed,
    text_of,
    ticket,
)

ROOT = Path(__file__).resolve().parents[4]
FILE_BYTES_MAX = 40_000
ACCENTED = (
    "Zażółć gęślą jaźń",
    "Žluťoučký kůň Řehoř Ďáblice",
    "Şükrü İnanç Çağlayan Iğdır",  # noqa: RUF001 - Turkish
    "Nguyễn Thị Hưởng Mai Đặng",
    "Þórður Ðagsson Ævar Öxará",
    "Ștefan Țurcanu Ăâî „Ion”",
    "Ēriks Ģirts Ķēniņš Šūpulis Žydrūnė Ąžuolaitė",
    "Őszi Tükörfúrógép Łódź",
    "Åse Søren Bjørg Ñuñez Ção Où Œuvre",
    "Ẁẃ Ŵyn Ŷ Ġorġ Ħal ĉapelo Sŭa",
    "€ £ © ® ™ № ½ ² § † • … – — ‘’ “” «» ¿¡",  # noqa: RUF001 - signs, and meant so
)
MIXED = (
    ticket(0, design="raffle-entry"),
    ticket(1, design="event-ticket-phone", holder=LATIN["accents"]),
    ticket(
        2, design="e-ticket-a4", campaign_id="autumn", campaign="Autumn Fair", when="", venue=""
    ),
    ticket(3, design="raffle-entry", holder=ODD["Chinese"]),
    ticket(
        4,
        design="e-ticket-a4",
        campaign_id="autumn",
        campaign="Autumn Fair",
        when="",
        venue="",
        holder=ODD["Arabic"],
    ),
    ticket(5, design="raffle-entry", holder="Grace Hopper"),
)
DOCUMENTS = {
    **SAMPLES,
    "one with accents": document_of(ticket(holder=LATIN["accents"])),
    "three": document_of(*map(ticket, range(3))),
    "a hundred and twenty": document_of(*(ticket(at, holder=f"Guest {at}") for at in range(120))),
    "mixed": document_of(*MIXED),
    "hostile": document_of(
        *(
            ticket(at, holder=text[:200], number=text[:64])
            for at, text in enumerate(LATIN.values())
        ),
        order=r") Tj (\ ]]> </rdf:li>",
        purchaser=LATIN["string of a PDF"],
    ),
}


@pytest.fixture(scope="session")
def at_work(plates_folder: Path) -> Renderer:
    pages = {
        (page.design, page.campaign_id): page
        for document in DOCUMENTS.values()
        for page in document.pages
    }
    return renderer(plates_folder, *pages.values())


@pytest.fixture(scope="session", params=DOCUMENTS)
def name(request: pytest.FixtureRequest) -> str:
    values: str = request.param
    return values


@pytest.fixture(scope="session")
def file(name: str, at_work: Renderer) -> bytes:
    return at_work.render(DOCUMENTS[name])


def test_qpdf_finds_nothing_to_complain_of(file: bytes) -> None:
    with pdfs.opened(file) as document:
        assert document.check_pdf_syntax() == []
        assert document.get_warnings() == []


def test_every_stream_unpacks(file: bytes) -> None:
    with pdfs.opened(file) as document:
        streams = [
            pdf_object for pdf_object in document.objects if isinstance(pdf_object, pikepdf.Stream)
        ]
        assert streams
        for stream in streams:
            assert stream.read_bytes() is not None


@pytest.mark.feature("SF-053")
def test_one_page_a_ticket_with_its_code(name: str, file: bytes) -> None:
    pages = DOCUMENTS[name].pages
    with pdfs.opened(file) as document:
        assert len(document.pages) == len(pages)
    for at in range(0, len(pages), 1 + len(pages) // 8):
        assert scanned(picture(file, 150, at)) == [pages[at].payload]


def test_every_mark_of_every_page_has_its_element_and_the_parent_tree_agrees(
    name: str, file: bytes
) -> None:
    with pdfs.opened(file) as document:
        root = document.Root.StructTreeRoot
        tree = list(root.ParentTree.Nums)
        parents = dict(zip(map(int, tree[::2]), tree[1::2], strict=True))
        owners = {
            mark: pdfs.id_of(element)
            for element in pdfs.elements(root)
            for mark in pdfs.content_ids(element)
        }
        for page in document.pages:
            marks = pdfs.marks_of(page)
            assert sorted(marks) == list(range(len(marks))), "each once"
            by_tree = [pdfs.id_of(element) for element in parents[int(page.StructParents)]]
            assert by_tree == [owners[pdfs.id_of(page), mark] for mark in range(len(marks))]
        assert len({int(page.StructParents) for page in document.pages}) == len(
            DOCUMENTS[name].pages
        )
        assert sum(map(len, map(pdfs.marks_of, document.pages))) == len(owners), (
            "no element of content that is nowhere"
        )


def test_all_that_is_painted_is_tagged_or_an_artifact(file: bytes) -> None:
    with pdfs.opened(file) as document:
        assert [pdfs.unmarked(page) for page in document.pages[:4]] == [[]] * len(
            document.pages[:4]
        )


def test_each_pages_elements_hang_in_the_order_of_the_pages(file: bytes) -> None:
    with pdfs.opened(file) as document:
        [root] = document.Root.StructTreeRoot.K
        assert root.S == "/Document"
        order = [pdfs.id_of(page) for page in document.pages]
        values = [pdfs.id_of(kid.Pg) for kid in pdfs.kids(root)]
        assert list(dict.fromkeys(values)) == order


def test_each_code_is_a_figure_with_a_description(name: str, file: bytes) -> None:
    with pdfs.opened(file) as document:
        figures = [
            element
            for element in pdfs.elements(document.Root.StructTreeRoot)
            if element.S == "/Figure"
        ]
        assert len(figures) == len(DOCUMENTS[name].pages)
        assert all(str(figure.Alt) for figure in figures)


def test_a_file_has_title_language_and_standard(name: str, file: bytes) -> None:
    title = DOCUMENTS[name].title
    with pdfs.opened(file) as document:
        assert bool(document.Root.MarkInfo.Marked)
        assert document.Root.Lang == "en"
        assert bool(document.Root.ViewerPreferences.DisplayDocTitle)
        assert str(document.docinfo["/Title"]) == title
        assert set(document.docinfo.keys()) == {
            "/Title",
            "/Subject",
            "/Producer",
            "/CreationDate",
            "/ModDate",
        }
        assert str(document.docinfo["/CreationDate"]) == "D:20261121233000Z"
        assert pdfs.metadata_text(document, "dc:title") == title
        assert pdfs.metadata_text(document, "pdfuaid:part") == "1"
        assert set(document.Root.keys()) == {
            "/Type",
            "/Pages",
            "/Lang",
            "/StructTreeRoot",
            "/MarkInfo",
            "/ViewerPreferences",
            "/Metadata",
        }  # fmt: skip - nothing that runs, opens or asks


@pytest.mark.parametrize(
    "title", ["Žluťoučký 王 ) (\\", "a" * 400, "🎟️ draw", "<b>&amp;</b> ]]>", "\\(", "тест"]
)
def test_a_title_of_any_script_is_written_as_it_is(title: str) -> None:
    at_work = compiled_design("raffle-entry-a5")
    pdf = at_work.writer.write(
        [at_work.stamp.page(ADA, payload())], DocumentMetadata(title, title, "en", AT)
    )
    with pdfs.opened(pdf) as document:
        assert str(document.docinfo["/Title"]) == str(document.docinfo["/Subject"]) == title
        assert pdfs.metadata_text(document, "dc:title") == title


def test_every_glyph_on_a_page_is_in_its_font_with_its_width_and_its_text(file: bytes) -> None:
    with pdfs.opened(file) as document:
        for page in document.pages[:6]:
            fonts = pdfs.fonts_of(page)
            for name, glyph in pdfs.glyphs_of(page):
                font = fonts[name]
                if not font.is_plain:
                    continue
                assert font.widths[glyph] == pytest.approx(font.advance(glyph), abs=0.51)
                assert glyph in font.texts, f"{name} {glyph:04x} cannot be copied"
                assert font.has_outline(glyph) or not font.texts[glyph].strip(), (
                    f"{name} {glyph:04x} is empty"
                )


def test_a_page_without_accents_carries_only_plain_glyphs(at_work: Renderer) -> None:
    """Fonts come in parts; the parts with other letters are left out."""
    plain, accented = (
        at_work.render(document_of(ticket(holder=name)))
        for name in ("Ada Lovelace", LATIN["accents"])
    )
    with pdfs.opened(plain) as document:
        texts = {
            text
            for font in pdfs.fonts_of(document.pages[0]).values()
            for text in font.texts.values()
        }
        assert "ž" not in texts
    assert len(plain) < len(accented)


@pytest.mark.parametrize("sheet", VARIANTS)
def test_a_file_of_one_ticket_is_smaller_than_40_kb(sheet: str) -> None:
    """Whatever Latin name it has in each of its fields, and with names of half of Europe at
    once.
    """
    at_work = compiled_design(sheet)
    names = {"holder": " ".join(ACCENTED[::2]), "purchaser": " ".join(ACCENTED[1::2])}
    for texts in (ADA, {**ADA, **names}, *(dict.fromkeys(ADA, name) for name in ACCENTED)):
        assert at_work.split(texts)[1] == {}, "all of it is stamped"
        assert len(at_work.ours(texts)) < FILE_BYTES_MAX


def outline(font: TTFont, name: str) -> list[object]:
    shapes = font.getGlyphSet()
    pen = DecomposingRecordingPen(shapes)
    shapes[name].draw(pen)
    return [shapes[name].width, *pen.value]


def test_a_font_program_is_a_sound_font(at_work: Renderer) -> None:
    """Its tables have their checksums, and each glyph is the one of the font file, point by
    point.
    """
    with pdfs.opened(at_work.render(DOCUMENTS["one with accents"])) as document:
        fonts = {
            name: font for name, font in pdfs.fonts_of(document.pages[0]).items() if font.numbers
        }
    names = (f"SourceSansPro-{weight}.ttf" for weight in ("Regular", "Semibold", "Black"))
    files = [TTFont(io.BytesIO(packaged.font(name))) for name in names]
    assert len(fonts) == 3
    for name, font in fonts.items():
        reader = font.program.reader
        assert calcChecksum(reader.file.getvalue()) == 0xB1B0AFBA, "of the whole file"
        for tag, table in reader.tables.items():
            values = reader[tag] if tag != "head" else reader[tag][:8] + bytes(4) + reader[tag][12:]
            assert table.checkSum == calcChecksum(values), f"{name} {tag}"
        glyphs = {glyph: outline(font.program, font.name_of(glyph)) for glyph in font.texts}
        assert any(
            all(
                outline(file, file.getGlyphOrder()[glyph]) == shape
                for glyph, shape in glyphs.items()
            )
            for file in files
        ), f"{name} is none of the files"


def test_a_hundred_tickets_are_a_few_kb_each(at_work: Renderer) -> None:
    one, many = (len(at_work.render(DOCUMENTS[name])) for name in ("one", "a hundred and twenty"))
    assert (many - one) / 119 < 6_000


@pytest.mark.parametrize("text", LATIN.values(), ids=LATIN)
def test_a_customers_text_is_no_operator(text: str) -> None:
    """Whatever it is, its page has the operators of a page with a harmless text, and
    shows the text.
    """
    at_work = compiled_design("raffle-entry-a5")
    texts = dict.fromkeys(ADA, text[:300])
    ours = at_work.ours(texts)
    with pdfs.opened(ours) as document:
        our_operators = {operator for operator, _ in pdfs.operators(document.pages[0])}
    with pdfs.opened(at_work.ours(ADA)) as document:
        harmless = {operator for operator, _ in pdfs.operators(document.pages[0])}
    assert our_operators == harmless
    first = at_work.split(texts)[0]["holder"].lines
    assert squeezed("".join(first)) in squeezed(text_of(ours))


@pytest.mark.parametrize(
    "text", ["<script>", ") Tj ET", "{{ 7 }} 王", "</div> محمد <img src=x>", "]]> ab"]
)
def test_a_customers_laid_out_text_is_no_markup(text: str) -> None:
    at_work = compiled_design("raffle-entry-a5")
    texts = squeezed(text_of(at_work.ours({**ADA, "holder": text + " Я"})))
    assert squeezed(text.split(maxsplit=1)[0]) in texts
    assert "49" not in texts


SCRIPT = """
import hashlib, json, pathlib, sys
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.plate_cache import PlateCache
from tests.support.rendering import SAMPLES
at_work = Renderer(DesignLibrary(), PlateCache(pathlib.Path(sys.argv[1])))
said = [SAMPLES[name] for name in sys.argv[2:]]
print(json.dumps([[hashlib.sha256(at_work.render(it)).hexdigest(), at_work.key(it).hex()] for it in said]))
"""  # noqa: E501 - a row of a table, or a program


def in_another_process(folder: Path, seed: str, *names: str) -> list[list[str]]:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(folder), *names]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    )
    values: list[list[str]] = json.loads(done.stdout)
    return values


@pytest.mark.slow
def test_the_same_document_is_the_same_bytes_in_another_process_and_with_another_plate_cache(
    at_work: Renderer, tmp_path: Path
) -> None:
    """Another hash seed; a shelf that is empty, then one that is filled; and another order of
    work.
    """
    names = ("all set whole", "one")
    here = [
        [
            hashlib.sha256(at_work.render(SAMPLES[name])).hexdigest(),
            at_work.key(SAMPLES[name]).hex(),
        ]
        for name in names
    ]
    assert in_another_process(tmp_path, "1", *names) == here
    assert in_another_process(tmp_path, "2", *reversed(names)) == here[::-1]


def test_the_same_document_is_the_same_bytes_whatever_was_printed_before(
    at_work: Renderer, plates_folder: Path
) -> None:
    fresh = renderer(plates_folder)
    for name in reversed(DOCUMENTS):
        assert fresh.render(DOCUMENTS[name]) == at_work.render(DOCUMENTS[name])


def changed() -> dict[str, Document]:
    one = DOCUMENTS["one"]
    [page] = one.pages
    texts = {
        name: replace(one, pages=(replace(page, **{name: "other"}),))
        for name in (
            "number",
            "campaign",
            "when",
            "venue",
            "holder",
            "status",
            "issued",
            "position",
        )
    }
    texts["payload"] = replace(one, pages=(replace(page, payload=payload(1)),))
    texts["purchaser"], texts["email"] = (
        replace(one, purchaser="Eve"),
        replace(one, email="e@example.org"),
    )
    texts["order"], texts["issued_at"] = (
        replace(one, order="7002"),
        replace(one, issued_at=AT.replace(year=2027)),
    )
    texts["twice"] = replace(one, pages=(page, page))
    return texts


@pytest.mark.parametrize("what", changed())
def test_another_text_is_another_key_and_other_bytes(what: str, plates_folder: Path) -> None:
    other = changed()[what]
    fresh = renderer(plates_folder, *other.pages)
    assert fresh.key(other) != fresh.key(DOCUMENTS["one"])
    assert fresh.render(other) != fresh.render(DOCUMENTS["one"])


def test_pages_may_change_places_only_with_the_bytes(at_work: Renderer) -> None:
    there = DOCUMENTS["three"]
    back = replace(there, pages=there.pages[::-1])
    assert at_work.key(there) != at_work.key(back)
    assert at_work.render(there) != at_work.render(back)


def test_two_files_have_two_identifiers_and_one_file_has_one(at_work: Renderer) -> None:
    with (
        pdfs.opened(at_work.render(DOCUMENTS["one"])) as one,
        pdfs.opened(at_work.render(DOCUMENTS["three"])) as other,
    ):
        assert one.trailer.ID[0] == one.trailer.ID[1]
        assert bytes(one.trailer.ID[0]) != bytes(other.trailer.ID[0])


def test_nothing_of_one_order_is_in_anothers_file(at_work: Renderer) -> None:
    """The holder of one order is in no other's file."""
    first = at_work.render(document_of(ticket(holder="Zebedee Quux"), order="1"))
    second = at_work.render(document_of(ticket(holder="Ada Lovelace"), order="2"))
    assert "Zebedee" in text_of(first)
    assert "Zebedee" not in text_of(second)


def test_a_document_without_a_page_is_no_file() -> None:
    with pytest.raises(ValueError, match="one page at least"):
        PdfWriter(SUBSETS).write([], about())
