"""Links of a ticket: kept as the design has them, or with the ticket's own texts in their address;
and nobody's text chooses where one leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pikepdf
import pytest

from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.stamping import PageStamp
from tests.support import pdfs
from tests.support.corpus import ODD
from tests.support.rendering import (
    ADA,
    SUBSETS,
    CompiledDesign,
    about,
    compile_design,
    make_design,
    payload,
)

CODE = '<div class="code" data-qr="code"></div>'
STATIC = '<a class="terms" href="https://shop.example/terms?a=1&amp;b=(2)">Terms of sale</a>'
OWN = (
    '<a class="own" data-link="https://shop.example/orders/{order}?for={holder}#top">Your order</a>'
)
AT = ".terms { position: absolute; top: 150mm } .own { position: absolute; top: 160mm }"


def linking(folder: Path, *links: str, style: str = AT) -> CompiledDesign:
    manifest = ("[fields.number]", '[fields.order]\nsample = "7001"\n[fields.number]')
    return compile_design(
        make_design(folder, page=(CODE, CODE + "".join(links)), style=style, manifest=manifest)
    )


def links_of(page: pikepdf.Page) -> Iterator[tuple[str, str]]:
    for annotation in page.obj.get("/Annots", pikepdf.Array()):
        yield str(annotation.Contents), str(annotation.A.URI)


def test_a_link_of_the_design_is_on_each_page_where_weasyprint_has_it(tmp_path: Path) -> None:
    printed = linking(tmp_path / "made", STATIC)
    texts = ADA | {"holder": "Grace"}
    renderings = printed.ours(texts), printed.weasyprints(texts)
    links = []
    for pdf in renderings:
        with pdfs.opened(pdf) as document:
            (annotation,) = document.pages[0].obj.Annots
            links.append((str(annotation.A.URI), [float(side) for side in annotation.Rect]))
    assert links[0][0] == links[1][0] == "https://shop.example/terms?a=1&b=(2)"
    assert links[0][1] == pytest.approx(links[1][1], abs=1e-4)


def test_a_link_leads_each_holder_to_its_own_address(tmp_path: Path) -> None:
    printed = linking(tmp_path / "made", OWN, STATIC)
    crowd = [
        ADA | {"order": "A 1/2", "holder": "Zoë & Co?"},
        ADA | {"order": "A2", "holder": ""},
        ADA,
    ]
    pages = [printed.stamp.page(texts, payload(at)) for at, texts in enumerate(crowd)]
    with pdfs.opened(printed.writer.write(pages, about())) as document:
        links = [list(links_of(page)) for page in document.pages]
        assert not document.check_pdf_syntax()
        with document.open_metadata() as words:
            assert words["dc:title"] == str(document.docinfo.Title) == "Spring Draw: order 7001"
    terms = ("https://shop.example/terms?a=1&b=(2)", "https://shop.example/terms?a=1&b=(2)")
    assert links == [
        [
            ("Your order", "https://shop.example/orders/A%201%2F2?for=Zo%C3%AB%20%26%20Co%3F#top"),
            terms,
        ],
        [("Your order", "https://shop.example/orders/A2?for=#top"), terms],
        [("Your order", "https://shop.example/orders/7001?for=Ada%20Lovelace#top"), terms],
    ]


def test_a_link_is_an_element_of_the_tagged_page_and_each_annotation_has_its_own(
    tmp_path: Path,
) -> None:
    printed = linking(tmp_path / "made", OWN, STATIC)
    pages = [printed.stamp.page(ADA, payload(at)) for at in range(3)]
    with pdfs.opened(printed.writer.write(pages, about())) as document:
        numbers = document.Root.StructTreeRoot.ParentTree.Nums
        owner = {int(numbers[at]): numbers[at + 1] for at in range(0, len(numbers), 2)}
        annotations = [annotation for page in document.pages for annotation in page.obj.Annots]
        assert (
            len({int(annotation.StructParent) for annotation in annotations})
            == len(annotations)
            == 6
        )
        assert {str(owner[int(annotation.StructParent)].S) for annotation in annotations} == {
            "/Link"
        }


@pytest.mark.parametrize("name", ["Chinese", "Arabic", "emoji"])
def test_a_page_that_is_laid_out_has_the_same_links(name: str, tmp_path: Path) -> None:
    printed = linking(tmp_path / "made", OWN)
    texts = ADA | {"holder": ODD[name]}
    with pdfs.opened(printed.ours(texts)) as document:
        ((_, address),) = links_of(document.pages[0])
    assert address.isascii()
    assert address.startswith("https://shop.example/orders/7001?for=%")


@pytest.mark.parametrize(
    "text", ["../../x", "x#y", "a?b=c", "//evil.example/", ")>>/JS(app.alert(1))", "%2e%2e", "\\", "a\nb", "\udc80", "{order}"]  # noqa: E501 - a row of a table, or a program
)  # fmt: skip
def test_a_customers_text_stays_one_part_of_the_address(text: str, tmp_path: Path) -> None:
    printed = linking(
        tmp_path / "made", '<a class="own" data-link="https://shop.example/o/{order}/end">Order</a>'
    )
    stamped = PageStamp(printed.plate, SUBSETS, printed.stamp.qr_template).page(
        ADA | {"order": text.encode("utf-8", "replace").decode()}, payload()
    )
    (address,) = stamped.links
    assert address.startswith(b"https://shop.example/o/")
    assert address.endswith(b"/end")
    inner = address.removeprefix(b"https://shop.example/o/").removesuffix(b"/end")
    assert not set(inner) & set(b"/?#\\() <>{}\n")


REFUSED = {
    "a host from a field": ('<a data-link="https://{holder}/x">x</a>', "page.html:11", "host", "same for all"),  # noqa: E501 - a row of a table, or a program
    "a host that a field ends": ('<a data-link="https://shop.example{order}/x">x</a>', "host"),
    "a name before the host": ('<a data-link="https://a@{holder}/x">x</a>', "host"),
    "a script": ('<a data-link="javascript:alert({order})">x</a>', "page.html:11", "https://"),
    "a field that nobody knows": ('<a data-link="https://shop.example/{seat}">x</a>', "seat", "holder"),  # noqa: E501 - a row of a table, or a program
    ("a field that the manifest "
    "lacks"): ('<a data-link="https://shop.example/{email}">x</a>', "[fields.email]"),
    "braces that do not close": ('<a data-link="https://shop.example/{order">x</a>', "braces"),
    "no link at all": ('<p data-link="https://shop.example/{order}">x</p>', "<p>", "<a>"),
    "a script of the design": ('<a href="javascript:alert(1)">x</a>', "page.html", "javascript", "https://"),
    "a file of the machine": ('<a href="file:///etc/passwd">x</a>', "page.html", "passwd"),
    "a file of the folder": ('<a href="terms.html">x</a>', "page.html", "terms.html", "complete address"),  # noqa: E501 - a row of a table, or a program
    "a place of the page": (('<a href="#top">x</a><p '
    'id="top">y</p>'), "page.html", "#top", "one page"),
    "a file that it carries": (('<a rel="attachment" '
    'href="https://example.org/x">x</a>'), "page.html", "attaches"),
    "a link around a field": (('<a href="https://shop.example/"><span '
    'style="display:block;width:9mm;height:9mm" '
    'data-field="order">1</span></a>'), "page.html:11", "order", "empty <a>"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_link_that_leads_astray_is_refused_with_its_remedy(name: str, tmp_path: Path) -> None:
    link, *words = REFUSED[name]
    with pytest.raises(DesignUnusable) as refused:
        linking(tmp_path / "made", link, style="")
    assert [word for word in words if word not in refused.value.cause] == [], refused.value.cause
