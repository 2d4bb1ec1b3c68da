"""The input of printing: an order's tickets as plain texts. No markup, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.delivery.printing import wording
from services.delivery.printing.wording import ENGLISH

SCHEME = "STUBLINE:"  # in capitals, so that the payload fits the compact alphabet of QR codes


@dataclass(frozen=True, slots=True)
class TicketPage:
    """One ticket as its holder reads it."""

    number: str
    campaign_id: str
    campaign: str
    when: str
    venue: str
    holder: str
    status: str
    issued: str
    payload: str  # of the QR code
    design: str
    position: str  # which of the order's tickets, as `2 of 5`
    language: str = ""  # in which it is written; empty: the first of its design


@dataclass(frozen=True, slots=True)
class Document:
    """One order's tickets. The same document renders to the same bytes."""

    order: str
    purchaser: str
    email: str
    pages: tuple[TicketPage, ...]
    issued_at: datetime  # the first ticket's: the document's date, so that rendering needs no clock

    @property
    def campaigns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(page.campaign for page in self.pages))

    @property
    def language(self) -> str:
        """The first page's language, in which title and subject are written."""
        return self.pages[0].language if self.pages else ENGLISH

    @property
    def title(self) -> str:
        return document_title(self.campaigns, self.order, self.language)

    @property
    def subject(self) -> str:
        words, count = wording.words(self.language), len(self.pages)
        return (words.one if count == 1 else words.many).format(count=count, order=self.order)


def document_title(campaigns: Sequence[str], order: str, language: str) -> str:
    words, named = wording.words(language), ", ".join(campaigns[:3])
    if len(campaigns) > 3:
        named = words.more.format(campaigns=named)
    return words.title.format(campaigns=named, order=order)
