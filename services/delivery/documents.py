"""What is printed and written of an order: plain texts, made from its snapshot. No markup, no
I/O.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.orders import CampaignSnapshot, Person, Ticket, TicketsChanged
from services.delivery.printing import wording
from services.delivery.printing.wording import ENGLISH, Spoken, english

SCHEME = "STUBLINE:"  # upper case: with it the whole payload fits a QR code's compact alphabet
DESIGN_DEFAULT = "plain"
INVISIBLE_BUT_NEEDED = "\u200c\u200d"  # joiners: scripts and emoji are spelled with them
ATTACHMENTS_MAX = 100
Per = Literal["order", "ticket"]


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
    language: str = ""  # in which it is written; empty: in its design's first


@dataclass(frozen=True, slots=True)
class Document:
    """One order's tickets. The same document renders to the same bytes."""

    order: str
    purchaser: str
    email: str
    pages: tuple[TicketPage, ...]
    issued_at: datetime  # the first ticket's: the document's date, so that rendering asks no clock

    @property
    def campaigns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(page.campaign for page in self.pages))

    @property
    def language(self) -> str:
        """The first page's; what is said of the whole is said in it."""
        return self.pages[0].language if self.pages else ENGLISH

    @property
    def title(self) -> str:
        words, campaigns = wording.words(self.language), ", ".join(self.campaigns[:3])
        named = words.more.format(campaigns=campaigns) if len(self.campaigns) > 3 else campaigns
        return words.title.format(campaigns=named, order=self.order)

    @property
    def subject(self) -> str:
        words, count = wording.words(self.language), len(self.pages)
        return (words.one if count == 1 else words.many).format(count=count, order=self.order)


def document(
    snapshot: TicketsChanged, tickets: Sequence[Ticket], spoken: Spoken = english
) -> Document:
    """In the sequence of the snapshot. A campaign that is not said is printed by its id: a ticket
    is never left out.
    """
    known = {campaign.campaign_id: campaign for campaign in snapshot.campaigns}
    languages = {
        name: spoken(known[name].design, known[name].language)
        if name in known
        else spoken(DESIGN_DEFAULT, "")
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


def documents(
    snapshot: TicketsChanged, tickets: Sequence[Ticket], per: Per, spoken: Spoken = english
) -> list[Document]:
    """One of all, or one each. A crowd is one document all the same: no mail server takes a
    thousand attachments.
    """
    whole = document(snapshot, tickets, spoken)
    is_each = per == "ticket" and len(tickets) <= ATTACHMENTS_MAX
    return [replace(whole, pages=(page,)) for page in whole.pages] if is_each else [whole]


def page(
    ticket: Ticket,
    campaign: CampaignSnapshot | None,
    buyer: Person,
    place: tuple[int, int],
    language: str,
) -> TicketPage:
    """`place`: which of how many."""
    words, (at, count) = wording.words(language), place
    zone = zone_of(campaign.zone if campaign else "UTC")
    return TicketPage(
        number=plain(ticket.number, 64),
        campaign_id=ticket.campaign_id,
        campaign=plain(campaign.name, 200) if campaign else plain(ticket.campaign_id, 64),
        when=when(campaign, language) if campaign else "",
        venue=plain(campaign.venue, 200) if campaign else "",
        holder=plain(held_by(ticket.holder, buyer), 200),
        status=words.status[ticket.status],
        issued=plain(wording.day(ticket.issued_at.astimezone(zone).date(), language), 60),
        payload=SCHEME + ticket.code,
        design=campaign.design if campaign else DESIGN_DEFAULT,
        position=words.position.format(at=at, count=count),
        language=language,
    )


def held_by(holder: Person, buyer: Person) -> str:
    """Of a gift whose recipient left no name, the address: it is not the buyer's."""
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


def shown(character: str) -> str:
    """Controls part words; what only formats, such as a soft hyphen, stands in the midst of one."""
    category = unicodedata.category(character)
    if not category.startswith("C") or character in INVISIBLE_BUT_NEEDED:
        return character
    return "" if category == "Cf" else " "


def plain(text: str, chars_max: int) -> str:
    """One line without control, format and direction characters: a name cannot turn the rest of the
    page around.
    """
    kept = "".join(map(shown, text[: 4 * chars_max]))
    line = " ".join(kept.split())
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"
