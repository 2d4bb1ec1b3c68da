"""The mail: text and HTML beside each other, the tickets attached, and the headers that a ticket's mail should have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from uuid import UUID

from services.delivery import templates
from services.delivery.documents import Document, plain
from services.delivery.sender import headers

TICKETS_SHOWN_MAX = 20
NAME_CHARS_MAX = 100
BODY_HEADERS = ("Content-Type", "MIME-Version")  # as the standard library writes them above a body
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
    """As bytes for the wire, whose headers were read back. `recipient` has been checked. Raises MailUnsound."""
    mailboxes = {
        "From": named(letterhead.sender),
        "To": (plain(document.purchaser, NAME_CHARS_MAX), recipient),
        **({"Reply-To": named(letterhead.reply_to)} if letterhead.reply_to else {}),
    }
    about = subject(document)
    set_headers = [
        *((name, headers.mailbox(*it)) for name, it in mailboxes.items()),
        ("Subject", headers.text(about)),
        ("Date", format_datetime(now)),
        ("Message-ID", message_id(job_id, letterhead.domain)),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834: no out-of-office note comes back
        ("X-Auto-Response-Suppress", "All"),
        ("Content-Language", "en"),
    ]
    content = body(document, pdfs)
    mail = headers.written(set_headers) + content.as_bytes()
    headers.check(mail, [*(name for name, _ in set_headers), *BODY_HEADERS], mailboxes, about)
    return mail


def body(document: Document, pdfs: Sequence[bytes]) -> EmailMessage:
    """Text and HTML beside each other, and the files. It has no header of its own but those of its form."""
    mail = EmailMessage(policy=WIRE)
    shown = document.pages[:TICKETS_SHOWN_MAX]
    what = {"document": document, "shown": shown, "more": len(document.pages) - len(shown), "files": len(pdfs)}
    mail.set_content(templates.fill("mail.txt", **what))
    mail.add_alternative(templates.fill("mail.html", **what), subtype="html")
    for number, pdf in enumerate(pdfs, 1):
        name = file_name(document.order, number if len(pdfs) > 1 else None)
        mail.add_attachment(pdf, maintype="application", subtype="pdf", filename=name)
    if not pdfs:
        mail.make_mixed()  # one form for all mails
    return mail


def named(mailbox: str) -> tuple[str, str]:
    """Name and address of a mailbox as a setting writes it."""
    name, address = parseaddr(mailbox)
    return plain(name, NAME_CHARS_MAX), address


def subject(document: Document) -> str:
    count = len(document.pages)
    about = plain(document.campaigns[0], 80) if len(document.campaigns) == 1 else f"{len(document.campaigns)} campaigns"
    return f"Your {'ticket' if count == 1 else f'{count} tickets'}: {about} (order {document.order})"


def file_name(order: str, number: int | None) -> str:
    """With a number where there are several."""
    called = re.sub(r"[^A-Za-z0-9-]+", "-", order).strip("-")[:40] or "order"
    return f"tickets-{called}.pdf" if number is None else f"tickets-{called}-{number}.pdf"
