"""Prints one design in one size and language for one campaign both ways, before any ticket is
printed: as a sender does, and by WeasyPrint alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.delivery.printing import qr
from services.delivery.printing.compile.compiler import compile_plate
from services.delivery.printing.compile.layout import LaidOutPage, PageTemplate
from services.delivery.printing.compile.unstampable import UnstampableFitter, plate_with_texts
from services.delivery.printing.design.fitting import FittedText
from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.page import CampaignFacts, UnstampableText
from services.delivery.printing.pdf.metadata import DocumentMetadata
from services.delivery.printing.pdf.writer import PdfWriter, StampedPage
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.stamping import NotStampable, PageStamp, normalized

AT = datetime(2026, 11, 21, tzinfo=UTC)  # of files that are not stored


@dataclass(frozen=True, slots=True)
class ReferencePage:
    """A page as WeasyPrint writes it, and its layout."""

    pdf: bytes
    laid_out: LaidOutPage


class DesignComparison:
    """Both ways of printing a design for one campaign. Raises DesignUnusable as the start of the
    campaign would.
    """

    def __init__(
        self, variant: DesignVariant, facts: CampaignFacts, plate_cache: PlateCache
    ) -> None:
        self.variant, self.facts = variant, facts
        self._plate_cache, self._qr_template = plate_cache, plate_cache.qr_template()
        self.template = PageTemplate(variant, facts)
        self.plate = compile_plate(
            self.template, plate_cache.subset_of, modules=self._qr_template.side
        )
        self._stamp = PageStamp(self.plate, plate_cache, self._qr_template)
        self._writer = PdfWriter(plate_cache)

    @property
    def fields(self) -> set[str]:
        """The fields that this size shows."""
        return {plate_field.field for plate_field in self.plate.fields.values()}

    def printed(self, texts: Mapping[str, str], payload: str) -> bytes:
        """Print as a sender does: what cannot be stamped is laid out."""
        _, unstampable = self.split(texts)
        if not unstampable:
            return self.stamped([texts], [payload])
        plate = plate_with_texts(
            self.template, self.plate, unstampable, self._plate_cache.subset_of
        )
        stamp = PageStamp(plate, self._plate_cache, self._qr_template)
        return self._written([stamp.page(texts, payload)])

    def stamped(self, texts: Sequence[Mapping[str, str]], payloads: Sequence[str]) -> bytes:
        """Return one document. Raises NotStampable."""
        return self._written(
            [self._stamp.page(values, code) for values, code in zip(texts, payloads, strict=True)]
        )

    def reference(self, texts: Mapping[str, str], payload: str) -> ReferencePage:
        """Return WeasyPrint's own file of the same page, with its operators and its fonts."""
        field_texts, square = self.field_texts(texts, payload)
        laid_out = self.template.lay_out(field_texts, square)
        return ReferencePage(
            laid_out.document.write_pdf(pdf_tags=True, pdf_variant="pdf/ua-1"), laid_out
        )

    def field_texts(
        self, texts: Mapping[str, str], payload: str
    ) -> tuple[dict[str, FittedText | UnstampableText], tuple[str, int]]:
        """Return the lines of each field, and the code as a path of an SVG."""
        fitted, unstampable = self.split(texts)
        matrix, side = qr.draw_matrix(payload, self._qr_template)
        square = (qr.svg_path(matrix, side), side)
        field_texts: dict[str, FittedText | UnstampableText] = {**fitted}
        return field_texts | UnstampableFitter(
            self.template, self.plate, unstampable, field_texts, square
        ).fitted(), square

    def split(self, texts: Mapping[str, str]) -> tuple[dict[str, FittedText], dict[str, str]]:
        """Return what is stamped, and what WeasyPrint has to set, by the names of the plate's
        fields.
        """
        fitted, unstampable = dict[str, FittedText](), dict[str, str]()
        for name, plate_field in self.plate.fields.items():
            text = normalized(texts.get(plate_field.field, ""))
            try:
                fitted[name] = self._stamp.fitted(name, text)
            except NotStampable:
                unstampable[name] = text
        return fitted, unstampable

    def _written(self, pages: Sequence[StampedPage]) -> bytes:
        count = f"{len(pages)} sample{'' if len(pages) == 1 else 's'}"
        return self._writer.write(
            pages, DocumentMetadata(self.plate.title, count, self.variant.language, AT)
        )
