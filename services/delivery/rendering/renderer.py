"""An order's tickets as one PDF: stamped where that can be, set whole where it must be, the same bytes for the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Protocol

from services.delivery.documents import Document
from services.delivery.documents import Page as TicketPage
from services.delivery.errors import PlateUnreadable
from services.delivery.rendering import qr
from services.delivery.rendering.ceiling import Task, compile_apart
from services.delivery.rendering.designs import Chosen, Library
from services.delivery.rendering.kept import Kept
from services.delivery.rendering.layout import Sheet
from services.delivery.rendering.pages import Facts
from services.delivery.rendering.pdf import Page, Writer
from services.delivery.rendering.pdf_about import About
from services.delivery.rendering.plates import Plate
from services.delivery.rendering.shelf import Shelf, plate_key, versions
from services.delivery.rendering.stamping import OddText, Stamp, normal
from services.delivery.rendering.tints import tint
from services.delivery.rendering.whole import set_whole

STAMPS_MAX, SHEETS_MAX, CHOICES_MAX = 256, 8, 1_024


class Narrator(Protocol):
    """Hears how pages were made; for metrics."""

    def stamped(self, pages: int) -> None: ...
    def whole(self, pages: int, why: str) -> None: ...
    def compiled(self, seconds: float) -> None: ...


class Silent:
    def stamped(self, pages: int) -> None: ...
    def whole(self, pages: int, why: str) -> None: ...
    def compiled(self, seconds: float) -> None: ...


@dataclass
class Renderer:
    """One process's. Not shared between threads. Raises DesignUnusable and DesignUnknown."""

    library: Library
    shelf: Shelf
    narrator: Narrator = field(default_factory=Silent)
    _choices: dict[str, Chosen] = field(init=False, default_factory=dict)
    _stamps: Kept[object, Stamp] = field(init=False, default_factory=lambda: Kept(most=STAMPS_MAX))
    _sheets: Kept[str, Sheet] = field(init=False, default_factory=lambda: Kept(most=SHEETS_MAX))
    _stencil: qr.Stencil | None = field(init=False, default=None)
    _writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        self._writer = Writer(self.shelf)

    def key(self, document: Document) -> bytes:
        """32 bytes that name everything the file depends on. Lays nothing out, and reads designs from disk only once."""
        told = hashlib.sha256(f"{versions()}\0{document.title}\0{document.issued_at.isoformat()}".encode())
        for page in document.pages:
            chosen = self._chosen(page)
            said = [plate_key(chosen, facts_of(page)), *texts_of(document, page).values(), page.payload]
            told.update("\0".join(said).encode())
            told.update(b"\1")
        return told.digest()

    def render(self, document: Document) -> bytes:
        pages = [self._page(document, page) for page in document.pages]
        count = len(document.pages)
        language = pages[0].plate.language if pages else "en"
        about = About(
            document.title,
            f"{count} ticket{'' if count == 1 else 's'}, order {document.order}",
            language,
            document.issued_at.astimezone(UTC),
        )
        return self._writer.write(pages, about)

    def check(self, page: TicketPage) -> Plate:
        """The plate for a campaign, compiled if it is not there yet: what a campaign's start asks."""
        return self._stamp(page).plate

    def _page(self, document: Document, page: TicketPage) -> Page:
        stamp, texts = self._stamp(page), texts_of(document, page)
        try:
            stamped = stamp.page(texts, page.payload)
        except OddText as odd:
            whole = self._whole(page, stamp, texts).page(texts, page.payload)
            self.narrator.whole(1, odd.why)
            return whole
        self.narrator.stamped(1)
        return stamped

    def _stamp(self, page: TicketPage) -> Stamp:
        chosen, facts = self._chosen(page), facts_of(page)
        key = plate_key(chosen, facts)

        def make() -> Stamp:
            plate = self.shelf.plate(key)
            if plate is None or any(self.shelf.kit(face) is None for face in plate.faces):
                self.narrator.compiled(compile_apart(Task(chosen, facts, self.shelf, key)))
                plate = self.shelf.plate(key)
            if plate is None:
                raise PlateUnreadable(f"{key[:12]} is gone as soon as it was compiled")
            return Stamp(plate, self.shelf, self._own_stencil())

        return self._stamps.get_or(key, make)

    def _whole(self, page: TicketPage, stamp: Stamp, texts: Mapping[str, str]) -> Stamp:
        """A plate with the odd texts set in it; the order's other tickets use it too."""
        odd = {}
        for name, spot in stamp.plate.spots.items():
            try:
                stamp.fitted(name, normal(texts[spot.field]))
            except OddText:
                odd[name] = normal(texts[spot.field])
        chosen, facts = self._chosen(page), facts_of(page)
        key = plate_key(chosen, facts)

        def make() -> Stamp:
            sheet = self._sheets.get_or(key, lambda: Sheet(chosen, facts))
            return Stamp(set_whole(sheet, stamp.plate, odd, self.shelf.kit_of), self.shelf, self._own_stencil())

        return self._stamps.get_or((key, *sorted(odd.items())), make)

    def _chosen(self, page: TicketPage) -> Chosen:
        """Read once a process: an edit of a design is for senders that start after it, so that one order has one look."""
        if page.design not in self._choices:
            if len(self._choices) >= CHOICES_MAX:
                self._choices.clear()
            self._choices[page.design] = self.library.choose(page.design)
        return self._choices[page.design]

    def _own_stencil(self) -> qr.Stencil:
        if self._stencil is None:
            self._stencil = self.shelf.stencil()
        return self._stencil


def facts_of(page: TicketPage) -> Facts:
    return Facts(page.campaign_id, page.campaign, page.when, page.venue, tint(page.campaign_id))


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
