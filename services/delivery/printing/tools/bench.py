"""A design's stamping rate, beside WeasyPrint's on the same pages in the same run. Times are CPU
times of one core, medians of three rounds.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement

from weasyprint import CSS, HTML
from weasyprint.text.fonts import FontConfiguration

from services.delivery.printing.compile.fetching import DesignFetcher
from services.delivery.printing.compile.layout import FIELD_STYLE, QR_ALT
from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.links import BASE
from services.delivery.printing.design.page import (
    UnstampableText,
    draw_code,
    rendered_html,
    write_fitted,
    write_unstampable,
)
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.tools import samples
from services.delivery.printing.tools.comparison import DesignComparison

ROUNDS, SINGLES, REFERENCE_SINGLES, BATCH = 3, 300, 4, 100


@dataclass(frozen=True, slots=True)
class Figure:
    """A measurement. `seconds` are CPU time for one ticket: neither way waits for anything, so
    other programs on the machine do not count.
    """

    what: str
    seconds: float
    bytes: int
    tickets: int  # in one file

    @property
    def rate(self) -> float:
        return 1 / self.seconds


@dataclass
class DesignBench:
    """One size and language for the manifest's campaign. Each ticket has another number, holder and
    code.
    """

    variant: DesignVariant
    plate_cache: PlateCache
    batch: int = BATCH
    singles: int = SINGLES
    reference_singles: int = REFERENCE_SINGLES
    comparison: DesignComparison = field(init=False)

    def __post_init__(self) -> None:
        self.comparison = DesignComparison(
            self.variant,
            samples.facts(self.variant.design, self.variant.language),
            self.plate_cache,
        )
        _, unstampable = self.comparison.split(self.texts(0))
        if unstampable:
            raise DesignUnusable(
                f"{self.variant.design.name}: its sample {next(iter(unstampable.values()))[:40]!r} "
                "cannot be stamped, because its font lacks a character: take a font that has it"
            )

    def figures(self, rounds: int = ROUNDS) -> list[Figure]:
        """Measure all ways alternately, so that a machine that slows down slows all of them."""
        # What is made, how often, and how many tickets are in each.
        jobs: dict[str, tuple[Callable[[int], bytes], int, int]] = {
            "stamped, one order a ticket": (self._stamped_single, self.singles, 1),
            f"stamped, {self.batch} in one document": (self._stamped_batch, 3, self.batch),
            "WeasyPrint, one at a time from its HTML": (self._from_html, self.reference_singles, 1),
            "WeasyPrint, one at a time, parsed once": (
                self._reference_single,
                self.reference_singles,
                1,
            ),
            f"WeasyPrint, {self.batch} in one document": (self._reference_batch, 1, self.batch),
        }
        seconds: dict[str, list[float]] = {what: [] for what in jobs}
        # This fills all caches, too.
        sizes = {what: len(make(0)) for what, (make, _, _) in jobs.items()}
        for round_number in range(rounds):
            for what, (make, times, tickets) in jobs.items():
                begun = time.process_time()
                for number in range(times):
                    make(1 + round_number * times + number)
                seconds[what].append((time.process_time() - begun) / times / tickets)
        return [
            Figure(what, statistics.median(seconds[what]), sizes[what], tickets)
            for what, (_, _, tickets) in jobs.items()
        ]

    def texts(self, number: int) -> dict[str, str]:
        usual = samples.usual(self.variant.design, self.variant.language)
        return usual | {
            name: f"{text} {number:06}"
            for name, text in usual.items()
            if name in {"number", "holder", "order"}
        }

    def _stamped_single(self, number: int) -> bytes:
        return self.comparison.stamped([self.texts(number)], [samples.payload(number)])

    def _stamped_batch(self, index: int) -> bytes:
        numbers = range(index * self.batch, (index + 1) * self.batch)
        return self.comparison.stamped(
            [self.texts(number) for number in numbers],
            [samples.payload(number) for number in numbers],
        )

    def _reference_single(self, number: int) -> bytes:
        return self.comparison.reference(self.texts(number), samples.payload(number)).pdf

    def _from_html(self, number: int) -> bytes:
        """Render as a program does that calls WeasyPrint for each ticket."""
        return self._written([number])

    def _reference_batch(self, number: int) -> bytes:
        return self._written(range(number * self.batch, (number + 1) * self.batch))

    def _written(self, numbers: Sequence[int]) -> bytes:
        """Render WeasyPrint's best case for many tickets: one document, in which each page is one
        box.
        """
        design = self.variant.design
        page = HTML(
            string=rendered_html(self.variant, self.comparison.facts),
            base_url=BASE,
            url_fetcher=DesignFetcher(design),
        )
        root: Element = page.etree_element
        root.set("lang", self.variant.language)
        root.set("class", f"{root.get('class', '')} size-{self.variant.size}".strip())
        width, height = self.variant.page_size.split()
        body = next(root.iter("body"))
        originals = list(body)
        for child in originals:
            body.remove(child)
        for index, number in enumerate(numbers):
            style = f"position:relative;overflow:hidden;width:{width};height:{height}"
            box = SubElement(body, "div", style=f"{style};break-before:page" if index else style)
            box.extend(deepcopy(originals))
            self._fill(box, number)
        fonts = FontConfiguration()
        style = CSS(
            string=f"@page{{size:{self.variant.page_size};margin:0}}{FIELD_STYLE}",
            font_config=fonts,
        )
        document = page.render(stylesheets=[style], font_config=fonts)
        if len(document.pages) != len(numbers):
            raise DesignUnusable(
                f"{design.name}: {len(numbers)} of it in one document fill {len(document.pages)} "
                "pages, so WeasyPrint cannot be measured: place what is on the page in one element"
            )
        pdf: bytes = document.write_pdf(pdf_tags=True, pdf_variant="pdf/ua-1")
        return pdf

    def _fill(self, box: Element, number: int) -> None:
        field_texts, square = self.comparison.field_texts(
            self.texts(number), samples.payload(number)
        )
        times = Counter[str]()
        for element in list(box.iter()):
            if (name := element.get("data-field")) is not None:
                times[name] += 1
                text = field_texts.get(name if times[name] == 1 else f"{name}.{times[name]}")
                if isinstance(text, UnstampableText):
                    write_unstampable(element, text)
                elif text is not None:
                    write_fitted(element, text)
            elif element.get("data-qr") is not None:
                draw_code(element, *square, QR_ALT)
