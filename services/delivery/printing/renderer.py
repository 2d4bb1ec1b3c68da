"""An order's tickets as one PDF: stamped where that can be, set whole where it must be, the same
bytes for the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Protocol

from services.delivery.printing import qr
from services.delivery.printing.design.colours import tint
from services.delivery.printing.design.library import DesignLibrary, DesignVariant, best_language
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.documents import Document, TicketPage
from services.delivery.printing.errors import DesignUnknown, DesignUnusable, PlateUnreadable
from services.delivery.printing.lru_cache import LruCache
from services.delivery.printing.pdf.metadata import DocumentMetadata
from services.delivery.printing.pdf.writer import PdfWriter, StampedPage
from services.delivery.printing.plate_cache import PlateCache, plate_key, versions
from services.delivery.printing.plates import Plate
from services.delivery.printing.sandbox.layout_worker import LayoutWorker
from services.delivery.printing.sandbox.limits import CompileTask, compile_in_sandbox
from services.delivery.printing.stamping import NotStampable, PageStamp, normalized

STAMPS_CACHED_MAX, VARIANTS_CACHED_MAX = 256, 1_024


class RenderTelemetry(Protocol):
    """Hears how pages were made; for metrics."""

    def stamped(self, pages: int) -> None: ...
    def whole(self, pages: int, why: str) -> None: ...
    def missing(self, design: str, field: str, letters: int) -> None: ...
    def compiled(self, seconds: float) -> None: ...


class NoRenderTelemetry:
    def stamped(self, pages: int) -> None: ...
    def whole(self, pages: int, why: str) -> None: ...
    def missing(self, design: str, field: str, letters: int) -> None: ...
    def compiled(self, seconds: float) -> None: ...


@dataclass
class Renderer:
    """One process's. Not shared between threads. Raises DesignUnusable, DesignUnknown, and
    TextUnprintable for one order.
    """

    library: DesignLibrary
    plate_cache: PlateCache
    narrator: RenderTelemetry = field(default_factory=NoRenderTelemetry)
    press: LayoutWorker = field(default_factory=LayoutWorker)
    _choices: dict[tuple[str, str], DesignVariant] = field(init=False, default_factory=dict)
    _stamps: LruCache[object, PageStamp] = field(
        init=False, default_factory=lambda: LruCache(entries_max=STAMPS_CACHED_MAX)
    )
    _stencil: qr.QrStencil | None = field(init=False, default=None)
    _writer: PdfWriter = field(init=False)

    def __post_init__(self) -> None:
        self._writer = PdfWriter(self.plate_cache)

    def key(self, document: Document) -> bytes:
        """32 bytes that name everything the file depends on. Lays nothing out, and reads designs
        from disk only once.
        """
        about = f"{document.title}\0{document.subject}\0{document.issued_at.isoformat()}"
        told = hashlib.sha256(f"{versions()}\0{about}".encode())
        for page in document.pages:
            variant = self._chosen(page)
            said = [
                plate_key(variant, facts_of(page)),
                *texts_of(document, page).values(),
                page.payload,
            ]
            told.update("\0".join(said).encode())
            told.update(b"\1")
        return told.digest()

    def render(self, document: Document) -> bytes:
        pages = [self._page(document, page) for page in document.pages]
        language = pages[0].plate.language if pages else "en"
        about = DocumentMetadata(
            document.title, document.subject, language, document.issued_at.astimezone(UTC)
        )
        return self._writer.write(pages, about)

    def language(self, design: str, asked: str) -> str:
        """In which a page is written: what its campaign asks for, if the design has it; else the
        design's first.
        """
        variant = self._choose(design, asked)
        return (
            asked if best_language(asked, variant.design.manifest.languages) else variant.language
        )

    def check_language(self, design: str, asked: str) -> None:
        """Raises DesignUnknown for one that the design lacks. A ticket is printed all the same:
        this is for its campaign's start.
        """
        variant = self._choose(design, asked)
        languages = variant.design.manifest.languages
        if asked and best_language(asked, languages) is None:
            raise DesignUnknown(
                f"{variant.design.name} has no language `{asked[:80]}`; it has "
                f"{', '.join(languages)}"
            )

    def asked(self, page: TicketPage) -> tuple[DesignVariant, CampaignFacts]:
        """What a page is compiled from."""
        return self._chosen(page), facts_of(page)

    def _page(self, document: Document, page: TicketPage) -> StampedPage:
        stamp, texts = self._stamp(page), texts_of(document, page)
        try:
            stamped = stamp.page(texts, page.payload)
        except NotStampable as odd:
            whole = self._whole(page, stamp, texts).page(texts, page.payload)
            self.narrator.whole(1, odd.why)
            return whole
        self.narrator.stamped(1)
        return stamped

    def _stamp(self, page: TicketPage) -> PageStamp:
        variant, facts = self._chosen(page), facts_of(page)
        key = plate_key(variant, facts)

        def make() -> PageStamp:
            plate = self._on_shelf(key)
            if plate is None:
                self.narrator.compiled(
                    self._compiled(CompileTask(variant, facts, self.plate_cache, key), page)
                )
                plate = self._on_shelf(key)
            if plate is None:
                raise PlateUnreadable(f"{key[:12]} is gone as soon as it was compiled")
            return PageStamp(plate, self.plate_cache, self._own_stencil())

        return self._stamps.get_or(key, make)

    def _compiled(self, task: CompileTask, page: TicketPage) -> float:
        try:
            return compile_in_sandbox(task)
        except DesignUnusable:
            self._choices.pop(
                (page.design, page.language), None
            )  # nothing was printed of it: mended, it is read anew
            raise

    def _on_shelf(self, key: str) -> Plate | None:
        """With all its faces, which the shelf then remembers: a plate in use needs the disk no
        more.
        """
        plate = self.plate_cache.plate(key)
        return (
            None
            if plate is None or any(self.plate_cache.kit(face) is None for face in plate.faces)
            else plate
        )

    def _whole(self, page: TicketPage, stamp: PageStamp, texts: Mapping[str, str]) -> PageStamp:
        """A plate with the odd texts set in it; the order's other tickets use it too."""
        odd = {}
        for name, spot in stamp.plate.spots.items():
            try:
                stamp.fitted(name, normalized(texts[spot.field]))
            except NotStampable:
                odd[name] = normalized(texts[spot.field])
        variant, facts = self._chosen(page), facts_of(page)
        key = plate_key(variant, facts)

        def make() -> PageStamp:
            plate = self.press.whole(
                CompileTask(variant, facts, self.plate_cache, key), stamp.plate, odd
            )
            for name, text in odd.items():
                if letters := count_missing(text, plate):
                    self.narrator.missing(
                        variant.design.name, stamp.plate.spots[name].field, letters
                    )
            return PageStamp(plate, self.plate_cache, self._own_stencil())

        return self._stamps.get_or((key, *sorted(odd.items())), make)

    def _chosen(self, page: TicketPage) -> DesignVariant:
        return self._choose(page.design, page.language)

    def _choose(self, design: str, language: str) -> DesignVariant:
        """Read once a process: an edit of a design is for senders that start after it, so that one
        order has one look.
        """
        if (design, language) not in self._choices:
            if len(self._choices) >= VARIANTS_CACHED_MAX:
                self._choices.clear()
            self._choices[design, language] = self.library.choose(design, language)
        return self._choices[design, language]

    def _own_stencil(self) -> qr.QrStencil:
        if self._stencil is None:
            self._stencil = self.plate_cache.stencil()
        return self._stencil


def count_missing(text: str, plate: Plate) -> int:
    """How many of its letters no font has, as the field says them or in capitals."""
    return (
        sum(letter in plate.missing or letter.upper() in plate.missing for letter in text)
        if plate.missing
        else 0
    )


def facts_of(page: TicketPage) -> CampaignFacts:
    return CampaignFacts(
        page.campaign_id, page.campaign, page.when, page.venue, tint(page.campaign_id)
    )


def texts_of(document: Document, page: TicketPage) -> dict[str, str]:
    """By the names of fields (designs.FieldName)."""
    return {
        "number": page.number,
        "holder": page.holder,
        "purchaser": document.purchaser,
        "email": document.email,
        "order": document.order,
        "status": page.status,
        "issued": page.issued,
        "position": page.position,
    }
