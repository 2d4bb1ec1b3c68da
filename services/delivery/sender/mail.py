"""The mail: text and HTML as alternatives, the tickets attached, and the headers of a transactional
mail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from uuid import UUID

from services.delivery import templates
from services.delivery.addresses import parse_mailbox
from services.delivery.documents import OrderSummary, plain
from services.delivery.sender import headers, mime, verification

TICKETS_SHOWN_MAX = 20
NAME_CHARS_MAX = 100


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """The sender of mails and where replies go: each a name, which may be empty, and an address."""

    sender: tuple[str, str]
    reply_to: tuple[str, str] | None = None

    @property
    def address(self) -> str:
        return self.sender[1]

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def sender_identity(sender: str, reply_to: str) -> SenderIdentity:
    """Return the identity for two mailboxes as the settings write them. Raises ValueError."""
    return SenderIdentity(_mailbox(sender), _mailbox(reply_to) if reply_to else None)


def _mailbox(text: str) -> tuple[str, str]:
    name, address = parse_mailbox(text)
    return plain(name, NAME_CHARS_MAX), address


def message_id(job_id: UUID, domain: str) -> str:
    """Return the Message-ID of a job, which is the same for each attempt, so that a mailbox can
    drop a repeat.
    """
    return f"<{job_id}@{domain}>"


def compose(
    order: OrderSummary,
    pdfs: Sequence[bytes],
    *,
    job_id: UUID,
    recipient: str,
    identity: SenderIdentity,
    now: datetime,
) -> bytes:
    """Return the mail as bytes for the wire, after reading them back. `recipient` was checked.
    Raises MailUnsound.
    """
    mailboxes = {
        "From": identity.sender,
        "To": (plain(order.purchaser, NAME_CHARS_MAX), recipient),
        **({"Reply-To": identity.reply_to} if identity.reply_to else {}),
    }
    subject_text = subject(order)
    head = [
        *((name, headers.mailbox(*mailbox)) for name, mailbox in mailboxes.items()),
        ("Subject", headers.unstructured(subject_text)),
        ("Date", format_datetime(now)),
        ("Message-ID", message_id(job_id, identity.domain)),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834: no out-of-office note comes back
        ("X-Auto-Response-Suppress", "All"),
        ("Content-Language", "en"),
    ]
    texts, files = bodies(order, len(pdfs)), named_files(order.order, pdfs)
    mail = headers.block(head) + mime.body(texts, files, boundary=mime.boundary_of(texts))
    verification.verify_mail(
        mail,
        verification.ExpectedMail(
            [name for name, _ in head], mailboxes, subject_text, texts, files
        ),
    )
    return mail


def bodies(order: OrderSummary, files: int) -> tuple[str, str]:
    """Return the text and the HTML of a mail."""
    shown = order.tickets[:TICKETS_SHOWN_MAX]
    values = {
        "order": order,
        "shown": shown,
        "more": len(order.tickets) - len(shown),
        "files": files,
    }
    return templates.render("mail.txt", **values), templates.render("mail.html", **values)


def named_files(order: str, pdfs: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [
        (attachment_name(order, number if len(pdfs) > 1 else None), pdf)
        for number, pdf in enumerate(pdfs, 1)
    ]


def subject(order: OrderSummary) -> str:
    count = len(order.tickets)
    named = (
        plain(order.campaigns[0], 80)
        if len(order.campaigns) == 1
        else f"{len(order.campaigns)} campaigns"
    )
    return f"Your {'ticket' if count == 1 else f'{count} tickets'}: {named} (order {order.order})"


def attachment_name(order: str, number: int | None) -> str:
    """Return the name of an attachment, with a number if there are several."""
    slug = re.sub(r"[^A-Za-z0-9-]+", "-", order).strip("-")[:40] or "order"
    return f"tickets-{slug}.pdf" if number is None else f"tickets-{slug}-{number}.pdf"
