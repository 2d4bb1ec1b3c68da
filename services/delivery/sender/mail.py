"""The mail: text and HTML beside each other, the tickets attached, and the headers that a ticket's
mail should have.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256
from uuid import UUID

from services.delivery import templates
from services.delivery.addresses import parse_mailbox
from services.delivery.printing.documents import Document
from services.delivery.documents import plain
from services.delivery.sender import headers, readback

TICKETS_SHOWN_MAX = 20
NAME_CHARS_MAX = 100
BASE64_LINE_CHARS = 76  # RFC 2045
WIRE = policy.SMTP.clone(cte_type="7bit")  # every server takes it, with or without 8BITMIME


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """From whom mails come, and where answers go. Each is a name, which may be empty, and an
    address.
    """

    sender: tuple[str, str]
    reply_to: tuple[str, str] | None = None

    @property
    def address(self) -> str:
        return self.sender[1]

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def letterhead(sender: str, reply_to: str) -> SenderIdentity:
    """Of mailboxes as the settings write them. Raises ValueError."""
    return SenderIdentity(_mailbox(sender), _mailbox(reply_to) if reply_to else None)


def _mailbox(text: str) -> tuple[str, str]:
    name, address = parse_mailbox(text)
    return plain(name, NAME_CHARS_MAX), address


def message_id(job_id: UUID, domain: str) -> str:
    """One a deliberate sending: the same however often it is tried, so that a mailbox can know a
    repeat.
    """
    return f"<{job_id}@{domain}>"


def compose(
    document: Document,
    pdfs: Sequence[bytes],
    *,
    job_id: UUID,
    recipient: str,
    letterhead: SenderIdentity,
    now: datetime,
) -> bytes:
    """Return the mail as bytes for the wire, after they were read back. `recipient` has been
    checked. Raises MailUnsound.
    """
    mailboxes = {
        "From": letterhead.sender,
        "To": (plain(document.purchaser, NAME_CHARS_MAX), recipient),
        **({"Reply-To": letterhead.reply_to} if letterhead.reply_to else {}),
    }
    about = subject(document)
    head = [
        *((name, headers.mailbox(*it)) for name, it in mailboxes.items()),
        ("Subject", headers.unstructured(about)),
        ("Date", format_datetime(now)),
        ("Message-ID", message_id(job_id, letterhead.domain)),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834: no out-of-office note comes back
        ("X-Auto-Response-Suppress", "All"),
        ("Content-Language", "en"),
    ]
    texts, files = bodies(document, len(pdfs)), named_files(document.order, pdfs)
    mail = headers.block(head) + body(texts, files, boundary=boundary_of(texts))
    readback.check(
        mail, readback.ExpectedMail([name for name, _ in head], mailboxes, about, texts, files)
    )
    return mail


def bodies(document: Document, files: int) -> tuple[str, str]:
    """The text and the HTML of a mail."""
    shown = document.pages[:TICKETS_SHOWN_MAX]
    what = {
        "document": document,
        "shown": shown,
        "more": len(document.pages) - len(shown),
        "files": files,
    }
    return templates.fill("mail.txt", **what), templates.fill("mail.html", **what)


def named_files(order: str, pdfs: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [
        (file_name(order, number if len(pdfs) > 1 else None), pdf)
        for number, pdf in enumerate(pdfs, 1)
    ]


def body(texts: tuple[str, str], files: Sequence[tuple[str, bytes]], *, boundary: str) -> bytes:
    """Text and HTML beside each other, and the files. Of headers it has only those that describe
    it.

    The library writes the texts. The files are written here: it would take twice the time of all
    the rest for them.
    """
    beside = EmailMessage(policy=WIRE)
    beside.set_content(texts[0])
    beside.add_alternative(texts[1], subtype="html")
    parts = [
        beside.as_bytes().removesuffix(b"\r\n"),
        *(attachment(name, content) for name, content in files),
    ]
    mark = b"--" + boundary.encode("ascii")
    return b"".join(
        [
            (
                f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
            ).encode("ascii"),
            *(mark + b"\r\n" + part + b"\r\n" for part in parts),
            mark + b"--\r\n",
        ]
    )


def boundary_of(texts: tuple[str, str]) -> str:
    """A boundary that no text of the mail can hold: it would have to hold its own hash. Base64 has
    no underscore.
    """
    return "=_" + sha256("\0".join(texts).encode()).hexdigest()[:32]


def attachment(name: str, content: bytes) -> bytes:
    encoded = b2a_base64(content, newline=False)
    lines = b"\r\n".join(
        encoded[at : at + BASE64_LINE_CHARS] for at in range(0, len(encoded), BASE64_LINE_CHARS)
    )
    head = (
        "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\nMIME-Version: 1.0\r\n\r\n'
    )
    return head.encode("ascii") + lines


def subject(document: Document) -> str:
    count = len(document.pages)
    about = (
        plain(document.campaigns[0], 80)
        if len(document.campaigns) == 1
        else f"{len(document.campaigns)} campaigns"
    )
    return (
        f"Your {'ticket' if count == 1 else f'{count} tickets'}: {about} (order {document.order})"
    )


def file_name(order: str, number: int | None) -> str:
    """With a number where there are several."""
    called = re.sub(r"[^A-Za-z0-9-]+", "-", order).strip("-")[:40] or "order"
    return f"tickets-{called}.pdf" if number is None else f"tickets-{called}-{number}.pdf"
