"""Renders an order's tickets as one PDF. Texts that cannot be stamped are laid out. The same order
gives the same bytes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
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
    """Receives how pages were made, for metrics."""

    def stamped(self, pages: int) -> None: ...
    def laid_out(self, pages: int, reason: str) -> None: ...
    def characters_missing(self, design: str, field: str, characters: int) -> None: ...
    def compiled(self, seconds: float) -> None: ...
    def plate_loaded(self, seconds: float) -> None: ...


class NoRenderTelemetry:
    """Ignores how pages were made."""

    def stamped(self, pages: int) -> None: ...
    def laid_out(self, pages: int, reason: str) -> None: ...
    def characters_missing(self, design: str, field: str, characters: int) -> None: ...
    def compiled(self, seconds: float) -> None: ...
    def plate_loaded(self, seconds: float) -> None: ...


@dataclass
class Renderer:
    """One process's renderer. Not shared between threads. Raises DesignUnusable, DesignUnknown, and
    TextUnprintable for one order.
    """

    library: DesignLibrary
    plate_cache: PlateCache
    telemetry: RenderTelemetry = field(default_factory=NoRenderTelemetry)
    layout_worker: LayoutWorker = field(default_factory=LayoutWorker)
    _variants: dict[tuple[str, str], DesignVariant] = field(init=False, default_factory=dict)
    _stamps: LruCache[object, PageStamp] = field(
        init=False, default_factory=lambda: LruCache(entries_max=STAMPS_CACHED_MAX)
    )
    _qr_template: qr.QrTemplate | None = field(init=False, default=None)
    _writer: PdfWriter = field(init=False)

    def __post_init__(self) -> None:
        self._writer = PdfWriter(self.plate_cache)

    def key(self, document: Document) -> bytes:
        """Return 32 bytes that name everything the file depends on. Nothing is laid out, and
        designs are read from disk only once.
        """
        metadata = f"{document.title}\0{document.subject}\0{document.issued_at.isoformat()}"
        digest = hashlib.sha256(f"{versions()}\0{metadata}".encode())
        for page in document.pages:
            parts = [
                plate_key(self._variant(page), facts_of(page)),
                *texts_of(document, page).values(),
                page.payload,
            ]
            digest.update("\0".join(parts).encode())
            digest.update(b"\1")
        return digest.digest()

    def stamp(self, document: Document) -> bytes | None:
        """Return the file, or None if a plate would have to be compiled or a text laid out."""
        pages = []
        for page in document.pages:
            if (stamp := self._known_stamp(page)) is None:
                return None
            try:
                pages.append(stamp.page(texts_of(document, page), page.payload))
            except NotStampable:
                return None
        self.telemetry.stamped(len(pages))
        return self._written(document, pages)

    def compile(self, document: Document) -> None:
        """Load or compile the plates of a document that are not in the plate cache."""
        for page in document.pages:
            self._stamp(page)

    def render(self, document: Document) -> bytes:
        """Return the file. What it takes is compiled and laid out."""
        return self._written(document, [self._page(document, page) for page in document.pages])

    def _written(self, document: Document, pages: Sequence[StampedPage]) -> bytes:
        language = pages[0].plate.language if pages else "en"
        metadata = DocumentMetadata(
            document.title, document.subject, language, document.issued_at.astimezone(UTC)
        )
        return self._writer.write(pages, metadata)

    def language(self, design: str, requested: str) -> str:
        """Return the language of a page: the one that its campaign requests, if the design has it,
        else the design's first.
        """
        variant = self._variant_named(design, requested)
        return (
            requested
            if best_language(requested, variant.design.manifest.languages)
            else variant.language
        )

    def check_language(self, design: str, requested: str) -> None:
        """Raise DesignUnknown for a language that the design lacks. This is for the start of a
        campaign: tickets are printed in spite of it.
        """
        variant = self._variant_named(design, requested)
        languages = variant.design.manifest.languages
        if requested and best_language(requested, languages) is None:
            raise DesignUnknown(
                f"{variant.design.name} has no language `{requested[:80]}`; it has "
                f"{', '.join(languages)}"
            )

    def compile_input(self, page: TicketPage) -> tuple[DesignVariant, CampaignFacts]:
        """Return what a page is compiled from."""
        return self._variant(page), facts_of(page)

    def _page(self, document: Document, page: TicketPage) -> StampedPage:
        stamp, texts = self._stamp(page), texts_of(document, page)
        try:
            stamped = stamp.page(texts, page.payload)
        except NotStampable as error:
            laid_out = self._stamp_with_texts(page, stamp, texts).page(texts, page.payload)
            self.telemetry.laid_out(1, error.reason)
            return laid_out
        self.telemetry.stamped(1)
        return stamped

    def _known_stamp(self, page: TicketPage) -> PageStamp | None:
        """Return the stamp of a page whose plate has been compiled, or None."""
        key = plate_key(*self.compile_input(page))
        if key in self._stamps:
            self._stamps.move_to_end(key)
            return self._stamps[key]
        plate = self._cached_plate(key)
        return None if plate is None else self._stamps.get_or(key, lambda: self._stamp_with(plate))

    def _stamp(self, page: TicketPage) -> PageStamp:
        """Return the stamp of a page. A plate that this machine lacks is loaded from the shared
        store, or else compiled.
        """
        if (known := self._known_stamp(page)) is not None:
            return known
        variant, facts = self.compile_input(page)
        key = plate_key(variant, facts)
        begun = time.monotonic()
        if self.plate_cache.load_shared(key):
            self.telemetry.plate_loaded(time.monotonic() - begun)
        else:
            task = CompileTask(variant, facts, self.plate_cache, key)
            self.telemetry.compiled(self._compile(task, page))
            self.plate_cache.publish_in_background(key)
        plate = self._cached_plate(key)
        if plate is None:
            raise PlateUnreadable(f"{key[:12]} was removed as soon as it was compiled")
        return self._stamps.get_or(key, lambda: self._stamp_with(plate))

    def _stamp_with(self, plate: Plate) -> PageStamp:
        return PageStamp(plate, self.plate_cache, self._code_template())

    def _compile(self, task: CompileTask, page: TicketPage) -> float:
        try:
            return compile_in_sandbox(task)
        except DesignUnusable:
            # Nothing was printed with it yet, so it is read again, in case that it is fixed.
            self._variants.pop((page.design, page.language), None)
            raise

    def _cached_plate(self, key: str) -> Plate | None:
        """Return the plate if all its faces are cached too. They then stay in memory, so that a
        plate in use does not need the disk any more.
        """
        plate = self.plate_cache.plate(key)
        if plate is None or any(self.plate_cache.subset(face) is None for face in plate.faces):
            return None
        return plate

    def _stamp_with_texts(
        self, page: TicketPage, stamp: PageStamp, texts: Mapping[str, str]
    ) -> PageStamp:
        """Return a stamp whose plate has the unstampable texts in it. The order's other tickets use
        it too.
        """
        unstampable = {}
        for name, plate_field in stamp.plate.fields.items():
            try:
                stamp.fitted(name, normalized(texts[plate_field.field]))
            except NotStampable:
                unstampable[name] = normalized(texts[plate_field.field])
        variant, facts = self.compile_input(page)
        key = plate_key(variant, facts)

        def make() -> PageStamp:
            task = CompileTask(variant, facts, self.plate_cache, key)
            plate = self.layout_worker.set_texts(task, stamp.plate, unstampable)
            for name, text in unstampable.items():
                if missing := count_missing(text, plate):
                    field = stamp.plate.fields[name].field
                    self.telemetry.characters_missing(variant.design.name, field, missing)
            return self._stamp_with(plate)

        return self._stamps.get_or((key, *sorted(unstampable.items())), make)

    def _variant(self, page: TicketPage) -> DesignVariant:
        return self._variant_named(page.design, page.language)

    def _variant_named(self, design: str, language: str) -> DesignVariant:
        """Return the variant, which is read once per process: a design that is edited takes effect
        in senders that start later, so that one order has one appearance.
        """
        if (design, language) not in self._variants:
            if len(self._variants) >= VARIANTS_CACHED_MAX:
                self._variants.clear()
            self._variants[design, language] = self.library.choose(design, language)
        return self._variants[design, language]

    def _code_template(self) -> qr.QrTemplate:
        if self._qr_template is None:
            self._qr_template = self.plate_cache.qr_template()
        return self._qr_template


def count_missing(text: str, plate: Plate) -> int:
    """Return how many of a text's characters no font has, in the given case or in capitals."""
    return (
        sum(character in plate.missing or character.upper() in plate.missing for character in text)
        if plate.missing
        else 0
    )


def facts_of(page: TicketPage) -> CampaignFacts:
    return CampaignFacts(
        page.campaign_id, page.campaign, page.when, page.venue, tint(page.campaign_id)
    )


def texts_of(document: Document, page: TicketPage) -> dict[str, str]:
    """Return the texts by the names of fields (`library.FieldName`)."""
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
