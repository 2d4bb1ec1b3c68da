"""An order's snapshot as the plain texts that are printed and mailed. No markup, no I/O."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.orders import CampaignSnapshot, Person, Ticket, TicketsChanged
from services.delivery.printing import wording
from services.delivery.printing.documents import SCHEME, Document, TicketPage, document_title
from services.delivery.printing.wording import ENGLISH, PageLanguage, english

DESIGN_DEFAULT = "plain"
INVISIBLE_BUT_NEEDED = "\u200c\u200d"  # joiners, which some scripts and emoji need
ATTACHMENTS_MAX = 100
DocumentScope = Literal["order", "ticket"]  # what one PDF holds


@dataclass(frozen=True, slots=True)
class MailedTicket:
    """One ticket as a mail lists it."""

    number: str
    campaign_id: str
    campaign: str
    when: str
    venue: str


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """An order as its mail lists it, which is in English, also if its tickets are in another
    language.
    """

    order: str
    purchaser: str
    title: str
    tickets: tuple[MailedTicket, ...]

    @property
    def campaigns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(ticket.campaign for ticket in self.tickets))


def document(
    snapshot: TicketsChanged, tickets: Sequence[Ticket], language_of: PageLanguage = english
) -> Document:
    """Return the tickets in the order of the snapshot. A ticket whose campaign the snapshot lacks
    is printed with the campaign's id; it is never left out.
    """
    known = {campaign.campaign_id: campaign for campaign in snapshot.campaigns}
    languages = {
        name: language_of(known[name].design, known[name].language)
        if name in known
        else language_of(DESIGN_DEFAULT, "")
        for name in {ticket.campaign_id for ticket in tickets}
    }
    buyer, count = snapshot.buyer, len(tickets)
    pages = tuple(
        page(
            ticket, known.get(ticket.campaign_id), buyer, (at, count), languages[ticket.campaign_id]
        )
        for at, ticket in enumerate(tickets, 1)
    )
    return Document(
        order=plain(snapshot.number or snapshot.external_id, 64),
        purchaser=plain(snapshot.buyer.name, 200),
        email=plain(snapshot.buyer.email, 320),
        pages=pages,
        issued_at=min(
            (ticket.issued_at for ticket in tickets), default=datetime(1970, 1, 1, tzinfo=UTC)
        ),
    )


def split_document(document: Document, scope: DocumentScope) -> list[Document]:
    """Return one document of all tickets, or one for each ticket. An order of more than
    ATTACHMENTS_MAX tickets gets one document in either case, because no mail server takes a
    thousand attachments.
    """
    if scope == "ticket" and len(document.pages) <= ATTACHMENTS_MAX:
        return [replace(document, pages=(page,)) for page in document.pages]
    return [document]


def summary(document: Document, campaigns: Sequence[CampaignSnapshot]) -> OrderSummary:
    """Return what the mail lists of a document whose pages may be in any language."""
    dates = {campaign.campaign_id: when(campaign, ENGLISH) for campaign in campaigns}
    return OrderSummary(
        order=document.order,
        purchaser=document.purchaser,
        title=document_title(document.campaigns, document.order, ENGLISH),
        tickets=tuple(
            MailedTicket(
                page.number,
                page.campaign_id,
                page.campaign,
                dates.get(page.campaign_id, ""),
                page.venue,
            )
            for page in document.pages
        ),
    )


def page(
    ticket: Ticket,
    campaign: CampaignSnapshot | None,
    buyer: Person,
    position: tuple[int, int],
    language: str,
) -> TicketPage:
    """Return one ticket's page. `position` is its place among the order's tickets, and their
    number.
    """
    words, (at, count) = wording.words(language), position
    zone = zone_of(campaign.zone if campaign else "UTC")
    return TicketPage(
        number=plain(ticket.number, 64),
        campaign_id=ticket.campaign_id,
        campaign=plain(campaign.name, 200) if campaign else plain(ticket.campaign_id, 64),
        when=when(campaign, language) if campaign else "",
        venue=plain(campaign.venue, 200) if campaign else "",
        holder=plain(holder_name(ticket.holder, buyer), 200),
        status=words.status[ticket.status],
        issued=plain(wording.day(ticket.issued_at.astimezone(zone).date(), language), 60),
        payload=SCHEME + ticket.code,
        design=campaign.design if campaign else DESIGN_DEFAULT,
        position=words.position.format(at=at, count=count),
        language=language,
    )


def holder_name(holder: Person, buyer: Person) -> str:
    """Return the name to print. If the recipient of a gift left no name, it is the recipient's
    address, unless that is the buyer's.
    """
    return holder.name or (holder.email if holder.email != buyer.email else "") or buyer.name


def when(campaign: CampaignSnapshot, language: str) -> str:
    if campaign.starts_on is None:
        return ""
    return plain(
        wording.moment(campaign.starts_on, campaign.starts_at, campaign.zone, language), 200
    )


def zone_of(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def printable_character(character: str) -> str:
    """Return a space for a control character, which separates words, and nothing for a format
    character such as a soft hyphen, which belongs to a word.
    """
    category = unicodedata.category(character)
    if not category.startswith("C") or character in INVISIBLE_BUT_NEEDED:
        return character
    return "" if category == "Cf" else " "


def plain(text: str, chars_max: int) -> str:
    """Return one line without control, format and direction characters, so that a name cannot
    reverse the text around it.
    """
    characters = text[: 4 * chars_max]
    if not characters.isprintable():  # nearly all are: then nothing is to be replaced
        characters = "".join(map(printable_character, characters))
    line = " ".join(characters.split())
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"
