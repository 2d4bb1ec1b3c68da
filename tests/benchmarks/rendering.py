"""Benchmark of rendering: stamped tickets a second on one core, beside WeasyPrint on the same page
in the same run.

WeasyPrint's side is what its documentation shows: HTML in, PDF out, tagged, with segno's code as
SVG; once with one ticket a document, once with a hundred. Ours is what a sender calls: an order in,
its file out, from texts that were never seen before.
"""

from __future__ import annotations

import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import Element

import psutil
import segno
from weasyprint import HTML

from services.delivery.printing import qr
from services.delivery.printing.compile.fetching import DesignFetcher
from services.delivery.printing.compile.layout import PageTemplate
from services.delivery.printing.compile.unstampable import plate_with_texts
from services.delivery.printing.design.fitting import FittedText
from services.delivery.printing.design.library import DesignLibrary, DesignVariant
from services.delivery.printing.design.links import BASE
from services.delivery.printing.design.page import draw_code, rendered_html, write_fitted
from services.delivery.printing.documents import SCHEME, Document, TicketPage
from services.delivery.printing.fonts import faces, packaged
from services.delivery.printing.fonts.programs import CffProgram
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.renderer import Renderer, facts_of, texts_of
from services.delivery.printing.sandbox.layout_worker import LayoutWorker
from tests.benchmarks.report import MeasuredFigure, median

DESIGN = "event-ticket"
TIMES_ONE, TIMES_HUNDRED, LEAST_PER_SECOND, ORDER_MS_MAX, FILE_KB_MAX, GROWTH_MAX = (
    150,
    8,
    500,
    60,
    40,
    0.05,
)
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
MEASURED_TICKETS = 2_000  # stamped tickets in one measurement
ODD_GROWTH_MAX, HERE = 0.1, 100
SCRIPTS = (
    (0x4E00, 0x9FA5),
    (0x621, 0x63A),
    (0x905, 0x939),
    (0x5D0, 0x5EA),
    (0x410, 0x44F),
    (0x1F600, 0x1F64F),
)
UNSTAMPED_FILES = 8  # WeasyPrint's, one at a time
TOGETHER = 100


class OrderGenerator:
    """Orders that were never rendered before, the same in each run."""

    def __init__(self) -> None:
        self._draw, self._number = random.Random(11), 0

    def order(self, tickets: int, name: str = "") -> Document:
        self._number += 1
        name = name or f"{self._word().title()} {self._word().title()}"
        pages = tuple(self._page(name, f"{at} of {tickets}") for at in range(1, tickets + 1))
        email = f"{self._word()}@{self._word()}.example"
        return Document(
            f"{self._number:06d}", name, email, pages, datetime(2026, 11, 21, tzinfo=UTC)
        )

    def _page(self, name: str, position: str) -> TicketPage:
        code = "".join(self._draw.choices(BASE32, k=26))
        return TicketPage(
            number=f"R-{self._draw.randrange(10**6):06d}",
            campaign_id="spring",
            campaign="Spring Draw",
            when="Saturday, 6 March 2027, 19:30 (Europe/Dublin)",
            venue="Example Hall, Dublin",
            holder=name,
            status="Active",
            issued="21 November 2026",
            payload=SCHEME + code,
            design=DESIGN,
            position=position,
        )

    def odd_name(self) -> str:
        """Return a name that cannot be stamped: in one script, sometimes with a Latin word."""
        first, last = self._draw.choice(SCRIPTS)
        lengths = [self._draw.randint(2, 9) for _ in range(self._draw.randint(1, 3))]
        words = [
            "".join(chr(self._draw.randint(first, last)) for _ in range(length))
            for length in lengths
        ]
        return " ".join(words + ["Ada"] * (self._draw.random() < 0.2))

    def _word(self) -> str:
        return "".join(self._draw.choices("abcdefghijklmnoprstuvwyz", k=self._draw.randint(4, 9)))


def by_weasyprint(chosen: DesignVariant, order: Document) -> bytes:
    """Lay out all pages of an order in one document, from nothing."""
    page = HTML(
        string=rendered_html(chosen, facts_of(order.pages[0])),
        base_url=BASE,
        url_fetcher=DesignFetcher(chosen.design),
    )
    root = page.etree_element
    root.set("class", f"size-{chosen.size}")
    root.set("lang", chosen.language)
    style = Element("style")
    style.text = f"@page{{size:{chosen.page_size};margin:0}} section+section{{break-before:page}}"
    next(root.iter("head")).append(style)
    body = next(root.iter("body"))
    section = body[0]
    body.remove(section)
    for ticket in order.pages:
        own = deepcopy(section)
        fill(own, texts_of(order, ticket), ticket.payload)
        body.append(own)
    pdf: bytes = page.write_pdf(pdf_tags=True, pdf_variant="pdf/ua-1")
    return pdf


def fill(section: Element, texts: dict[str, str], payload: str) -> None:
    for element in list(section.iter()):
        if (name := element.get("data-field")) is not None:
            write_fitted(element, FittedText((texts[name],), 1.0, 0.0, 0.0))
        if element.get("data-qr") is not None:
            code = segno.make(payload, error="m", micro=False)
            matrix = int(
                "".join("".join("1" if dark else "0" for dark in row) for row in code.matrix), 2
            )
            draw_code(element, qr.svg_path(matrix, len(code.matrix)), len(code.matrix), "QR code")


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def rate(renderer: Renderer, shop: OrderGenerator) -> float:
    orders = [shop.order(1) for _ in range(MEASURED_TICKETS)]
    return MEASURED_TICKETS / seconds(lambda: [renderer.render(order) for order in orders])


def growth(renderer: Renderer, shop: OrderGenerator, tickets: int) -> tuple[float, float]:
    """Return the resident MB at the end, and the growth since a third of the way."""
    process, at = psutil.Process(), list[float]()
    for third in range(3):
        for _ in range(tickets // 3):
            renderer.render(shop.order(1))
        gc.collect()
        at.append(process.memory_info().rss / 2**20)
        assert third < 3
    return at[-1], at[-1] / at[0] - 1


def odd(shop: OrderGenerator, names: int) -> Iterator[MeasuredFigure]:
    """Measure the layout worker, which is replaced four times, and the same layouts in this
    process.
    """
    with tempfile.TemporaryDirectory() as folder:
        layout_worker, plate_cache = (
            LayoutWorker(requests_max=max(1, names // 4 - 1)),
            PlateCache(Path(folder)),
        )
        renderer = Renderer(DesignLibrary(), plate_cache, layout_worker=layout_worker)
        renderer.render(shop.order(1, shop.odd_name()))
        own, at, largest, begun = psutil.Process(), list[float](), 0, time.perf_counter()
        for number in range(1, names + 1):
            renderer.render(shop.order(1, shop.odd_name()))
            if layout_worker.pid is not None and number % 10 == 0:
                largest = max(largest, psutil.Process(layout_worker.pid).memory_info().rss)
            if number % (names // 3) == 0:
                at.append(own.memory_info().rss / 2**20)
        each_s = (time.perf_counter() - begun) / names
        layout_worker.close()
        order = shop.order(1).pages[0]
        chosen, facts = DesignLibrary().choose(DESIGN), facts_of(order)
        sheet, plate = PageTemplate(chosen, facts), plate_cache.plate(plate_key(chosen, facts))
        assert plate is not None
        texts = [shop.odd_name() for _ in range(HERE)]
        fields = ("holder", "purchaser")
        here_s = seconds(
            lambda: [
                plate_with_texts(sheet, plate, dict.fromkeys(fields, text), plate_cache.subset_of)
                for text in texts
            ]
        )
    grown = at[-1] / at[0] - 1
    beside = f"{HERE / here_s:,.1f}/s in the same process"
    yield MeasuredFigure("names in other scripts", f"{1 / each_s:,.1f}/s", beside, "printed")
    yield MeasuredFigure(
        f"memory over {names:,} of them",
        f"{grown:+.1%}",
        f"press at most {largest / 2**20:,.0f} MB",
        "flat",
        grown < ODD_GROWTH_MAX,
    )


def codes(shop: OrderGenerator) -> Iterator[tuple[str, float]]:
    """Yield microseconds a code: by a template, by segno with a fixed mask, by segno alone."""
    payloads = [shop.order(1).pages[0].payload for _ in range(300)]
    qr_template = qr.build_qr_template(len(payloads[0]))

    def each(work: Callable[[str], object]) -> float:
        return seconds(lambda: [work(payload) for payload in payloads]) / len(payloads) * 1e6

    yield (
        "template",
        each(lambda payload: qr.pdf_path(qr_template.matrix(payload), qr_template.side)),
    )
    yield (
        "segno, fixed mask",
        each(lambda payload: segno.make(payload, error="m", micro=False, mask=qr.MASK)),
    )
    yield "segno", each(lambda payload: segno.make(payload, error="m", micro=False))


def font_programs() -> tuple[float, float]:
    """Microseconds for a font program with three glyphs that are not common: ours, and HarfBuzz's
    subset of the same file.
    """
    content, draw = packaged.font("SourceSansPro-Regular.ttf"), random.Random(12)
    subset = faces.compile_subset(content, 0, "Source Sans Pro", "", frozenset())
    rare = sorted(subset.glyphs.keys() - subset.common)
    wanted = [draw.sample(rare, 3) for _ in range(200)]
    ours, theirs = (
        seconds(lambda: [outlines.program(glyphs) for glyphs in wanted])  # noqa: B023 - called at once
        for outlines in (subset.outlines, CffProgram(subset.common, content))
    )
    return ours / len(wanted) * 1e6, theirs / len(wanted) * 1e6


def figures(*, runs: int, tickets: int, odd_names: int) -> list[MeasuredFigure]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    shop, chosen = OrderGenerator(), DesignLibrary().choose(DESIGN)
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(DesignLibrary(), PlateCache(Path(folder)))
        compiled_s = seconds(lambda: renderer.render(shop.order(1)))
        again_ms = (
            seconds(
                lambda: Renderer(DesignLibrary(), PlateCache(Path(folder))).render(shop.order(1))
            )
            * 1e3
        )
        rates, ones, hundreds, orders_ms = [], [], [], []
        by_weasyprint(chosen, shop.order(1))
        for _ in range(runs):
            rates.append(rate(renderer, shop))
            ones.append(
                seconds(
                    lambda: [by_weasyprint(chosen, shop.order(1)) for _ in range(UNSTAMPED_FILES)]
                )
                / UNSTAMPED_FILES
            )
            hundreds.append(seconds(lambda: by_weasyprint(chosen, shop.order(TOGETHER))) / TOGETHER)
            large = shop.order(TOGETHER)
            orders_ms.append(seconds(lambda: renderer.render(large)) * 1e3)  # noqa: B023 - called at once
        size_kb = len(renderer.render(shop.order(1))) / 1_000
        large_kb = len(renderer.render(shop.order(TOGETHER))) / 1_000
        resident, grown = growth(renderer, shop, tickets)
    stamped, one_s, hundred_s, order_ms = (
        median(values) for values in (rates, ones, hundreds, orders_ms)
    )
    us, odd_ones = dict(codes(shop)), list(odd(shop, odd_names))
    program_us, subset_us = font_programs()
    peers = (
        f"segno {us['segno, fixed mask']:,.0f} us with a fixed mask, {us['segno']:,.0f} us "
        "choosing it"
    )
    return [
        MeasuredFigure(
            "tickets a second, one a file",
            f"{stamped:,.0f}/s",
            f"{1e6 / stamped:,.0f} us each",
            f"{LEAST_PER_SECOND}/s",
            stamped >= LEAST_PER_SECOND,
        ),
        MeasuredFigure(
            "beside WeasyPrint, one at a time",
            f"{one_s * stamped:,.0f} times",
            f"{one_s * 1e3:,.1f} ms",
            f"{TIMES_ONE} times",
            one_s * stamped >= TIMES_ONE,
        ),
        MeasuredFigure(
            "beside WeasyPrint, 100 in a document",
            f"{hundred_s * stamped:,.1f} times",
            f"{hundred_s * 1e3:,.1f} ms a page",
            f"{TIMES_HUNDRED} times",
            hundred_s * stamped >= TIMES_HUNDRED,
        ),
        MeasuredFigure(
            "an order of 100 as one document",
            f"{order_ms:,.1f} ms",
            f"{hundred_s * 100:,.2f} s by WeasyPrint",
            f"{ORDER_MS_MAX} ms",
            order_ms < ORDER_MS_MAX,
        ),
        MeasuredFigure(
            "a file of one ticket",
            f"{size_kb:,.1f} kB",
            f"{large_kb:,.0f} kB with 100",
            f"{FILE_KB_MAX} kB",
            size_kb < FILE_KB_MAX,
        ),
        MeasuredFigure(
            f"memory over {tickets:,} tickets",
            f"{grown:+.1%}",
            f"{resident:,.0f} MB resident",
            "flat",
            grown < GROWTH_MAX,
        ),
        MeasuredFigure("a code, encoded and drawn", f"{us['template']:,.1f} us", peers, "printed"),
        MeasuredFigure(
            "a font program with rare letters",
            f"{program_us:,.0f} us",
            f"HarfBuzz's subset {subset_us:,.0f} us",
            "printed",
        ),
        MeasuredFigure(
            "a design compiled; loaded again",
            f"{compiled_s:,.2f} s",
            (f"{again_ms:,.0f} ms with the first ticket"),
            "printed",
        ),
        MeasuredFigure(
            "a design compiled; loaded again",
            f"{compiled_s:,.2f} s",
            f"{again_ms:,.0f} ms with the first ticket",
            "printed",
        ),
        *odd_ones,
    ]
