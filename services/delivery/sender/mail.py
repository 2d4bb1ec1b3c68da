"""The mail: text and HTML beside each other, the tickets attached, and the headers that a ticket's mail should have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from uuid import UUID

from services.delivery import templates
from services.delivery.documents import Document, plain

TICKETS_SHOWN_MAX = 20
WIRE = policy.SMTP.clone(cte_type="7bit")  # every server takes it, with or without 8BITMIME


@dataclass(frozen=True, slots=True)
class Letterhead:
    """From whom mails come."""

    sender: str
    reply_to: str

    @property
    def address(self) -> str:
        return parseaddr(self.sender)[1]

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def message_id(job_id: UUID, domain: str) -> str:
    """One a deliberate sending: the same however often it is tried, so that a mailbox can know a repeat."""
    return f"<{job_id}@{domain}>"


def compose(
    document: Document, pdfs: Sequence[bytes], *, job_id: UUID, recipient: str, letterhead: Letterhead, now: datetime
) -> bytes:
    """As bytes for the wire. `recipient` has been checked; names are plain text already, and nothing can end a header."""
    mail = EmailMessage(policy=WIRE)
    mail["From"] = mailbox(*parseaddr(letterhead.sender))
    mail["To"] = mailbox(document.purchaser, recipient)
    mail["Subject"] = subject(document)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = message_id(job_id, letterhead.domain)
    if letterhead.reply_to:
        mail["Reply-To"] = mailbox(*parseaddr(letterhead.reply_to))
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office note comes back
    mail["X-Auto-Response-Suppress"] = "All"
    shown = document.pages[:TICKETS_SHOWN_MAX]
    what = {"document": document, "shown": shown, "more": len(document.pages) - len(shown), "files": len(pdfs)}
    mail.set_content(templates.fill("mail.txt", **what))
    mail.add_alternative(templates.fill("mail.html", **what), subtype="html")
    for number, pdf in enumerate(pdfs, 1):
        name = file_name(document.order, number if len(pdfs) > 1 else None)
        mail.add_attachment(pdf, maintype="application", subtype="pdf", filename=name)
    mail["Content-Language"] = "en"  # last: set_content and attachments take such a header away from the whole
    return mail.as_bytes()


def mailbox(name: str, address: str) -> Address:
    local, _, domain = address.rpartition("@")
    return Address(plain(name, 100), local, domain)


def subject(document: Document) -> str:
    count = len(document.pages)
    about = plain(document.campaigns[0], 80) if len(document.campaigns) == 1 else f"{len(document.campaigns)} campaigns"
    return f"Your {'ticket' if count == 1 else f'{count} tickets'}: {about} (order {document.order})"


def file_name(order: str, number: int | None) -> str:
    """With a number where there are several."""
    called = re.sub(r"[^A-Za-z0-9-]+", "-", order).strip("-")[:40] or "order"
    return f"tickets-{called}.pdf" if number is None else f"tickets-{called}-{number}.pdf"
