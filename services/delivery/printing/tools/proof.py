"""A proof, as printers say: one design in one size and language for one campaign, printed both ways before any ticket is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.delivery.printing import qr
from services.delivery.printing.compile.compiler import compiled
from services.delivery.printing.compile.layout import LaidOut, Sheet
from services.delivery.printing.compile.whole_page import Trial, set_whole
from services.delivery.printing.design.fitting import Fitted
from services.delivery.printing.design.library import Chosen
from services.delivery.printing.design.page import Facts, Odd
from services.delivery.printing.pdf.metadata import About
from services.delivery.printing.pdf.writer import Page, Writer
from services.delivery.printing.plate_cache import Shelf
from services.delivery.printing.stamping import OddText, Stamp, normal

AT = datetime(2026, 11, 21, tzinfo=UTC)  # of files that nobody keeps


@dataclass(frozen=True, slots=True)
class Whole:
    """A page as WeasyPrint writes it, and what was laid out for it."""

    pdf: bytes
    laid_out: LaidOut


class Proof:
    """Raises DesignUnusable where the campaign's start would."""

    def __init__(self, chosen: Chosen, facts: Facts, shelf: Shelf) -> None:
        self.chosen, self.facts = chosen, facts
        self._shelf, self._stencil = shelf, shelf.stencil()
        self.sheet = Sheet(chosen, facts)
        self.plate = compiled(self.sheet, shelf.kit_of, modules=self._stencil.side)
        self._stamp = Stamp(self.plate, shelf, self._stencil)
        self._writer = Writer(shelf)

    @property
    def fields(self) -> set[str]:
        """Those that this size shows."""
        return {spot.field for spot in self.plate.spots.values()}

    def printed(self, texts: Mapping[str, str], payload: str) -> bytes:
        """As a sender prints it: stamped, and set whole what cannot be."""
        _, odd = self.split(texts)
        if not odd:
            return self.stamped([texts], [payload])
        plate = set_whole(self.sheet, self.plate, odd, self._shelf.kit_of)
        return self._written([Stamp(plate, self._shelf, self._stencil).page(texts, payload)])

    def stamped(self, texts: Sequence[Mapping[str, str]], payloads: Sequence[str]) -> bytes:
        """One document. Raises OddText."""
        return self._written([self._stamp.page(said, code) for said, code in zip(texts, payloads, strict=True)])

    def whole(self, texts: Mapping[str, str], payload: str) -> Whole:
        """WeasyPrint's own file of the same page: its operators, its fonts, nothing of ours."""
        given, square = self.given(texts, payload)
        laid_out = self.sheet.lay(given, square)
        return Whole(laid_out.document.write_pdf(pdf_tags=True, pdf_variant="pdf/ua-1"), laid_out)

    def given(self, texts: Mapping[str, str], payload: str) -> tuple[dict[str, Fitted | Odd], tuple[str, int]]:
        """The lines of each field, and the code as a path of an SVG."""
        fitted, odd = self.split(texts)
        matrix, side = qr.drawn(payload, self._stencil)
        square = (qr.svg_path(matrix, side), side)
        given: dict[str, Fitted | Odd] = {**fitted}
        return given | Trial(self.sheet, self.plate, odd, given, square).fitted(), square

    def split(self, texts: Mapping[str, str]) -> tuple[dict[str, Fitted], dict[str, str]]:
        """What is stamped, and what WeasyPrint has to set, by the names of the plate's spots."""
        fitted, odd = dict[str, Fitted](), dict[str, str]()
        for name, spot in self.plate.spots.items():
            text = normal(texts.get(spot.field, ""))
            try:
                fitted[name] = self._stamp.fitted(name, text)
            except OddText:
                odd[name] = text
        return fitted, odd

    def _written(self, pages: Sequence[Page]) -> bytes:
        count = f"{len(pages)} sample{'' if len(pages) == 1 else 's'}"
        return self._writer.write(pages, About(self.plate.title, count, self.chosen.language, AT))
