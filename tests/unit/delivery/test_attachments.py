"""What one PDF holds, and how the attachments of a mail are called."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis.strategies import integers, sampled_from, text

from schemas.orders import TicketsChanged
from services.delivery.document_cache import CachedDocument
from services.delivery.documents import (
    ATTACHMENTS_MAX,
    DocumentScope,
    document,
    split_document,
    summary,
)
from services.delivery.sender.loop import combined_sha256
from services.delivery.sender.mail import attachment_name, compose, sender_identity
from tests.support.deliveries import issued


def order(tickets: int) -> TicketsChanged:
    return issued("shop:727", 1, *["Active"] * tickets)


def mailed(snapshot: TicketsChanged, *pdfs: bytes) -> EmailMessage:
    mail = compose(
        summary(document(snapshot, snapshot.tickets), snapshot.campaigns),
        pdfs,
        job_id=UUID(int=1),
        recipient="ada@example.org",
        identity=sender_identity("Tickets <tickets@example.org>", ""),
        now=datetime(2026, 11, 21, tzinfo=UTC),
    )
    return BytesParser(EmailMessage, policy=policy.default).parsebytes(mail)


@given(integers(1, 130), sampled_from(["order", "ticket"]))
def test_every_ticket_is_in_one_document_in_their_sequence(
    tickets: int, scope: DocumentScope
) -> None:
    snapshot = order(tickets)
    complete = document(snapshot, snapshot.tickets)
    parts = split_document(complete, scope)
    assert [page for part in parts for page in part.pages] == list(complete.pages)
    is_each = scope == "ticket" and tickets <= ATTACHMENTS_MAX
    assert len(parts) == (tickets if is_each else 1)


def test_one_ticket_is_the_same_document_whatever_one_pdf_holds() -> None:
    """So a file that was rendered one way is found the other way."""
    snapshot = order(1)
    alone = document(snapshot, snapshot.tickets)
    assert split_document(alone, "order") == split_document(alone, "ticket")


def test_one_attachment_has_the_orders_name_and_several_have_numbers() -> None:
    one, three = mailed(order(3), b"%PDF a"), mailed(order(3), b"%PDF a", b"%PDF b", b"%PDF c")
    assert [part.get_filename() for part in one.iter_attachments()] == ["tickets-727.pdf"]
    assert [(part.get_filename(), part.get_content()) for part in three.iter_attachments()] == [
        ("tickets-727-1.pdf", b"%PDF a"),
        ("tickets-727-2.pdf", b"%PDF b"),
        ("tickets-727-3.pdf", b"%PDF c"),
    ]


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_the_mail_names_what_is_attached(kind: str) -> None:
    for pdfs, expected in (
        ([b"a"], "in the attached PDF, one page each"),
        ([b"a", b"b"], "in the attached 2 PDFs, one each"),
    ):
        body = mailed(order(2), *pdfs).get_body((kind,))
        assert body is not None
        assert expected in " ".join(body.get_content().split())


@given(text(max_size=80), sampled_from([None, 1, 100]))
def test_no_order_number_leads_a_file_name_astray(number: str, place: int | None) -> None:
    name = attachment_name(number, place)
    assert name.isascii()
    assert not set(name) & set('/\\:\x00"\r\n')
    assert name.startswith("tickets-")
    assert name.endswith(".pdf")
    assert name.count(".") == 1
    assert len(name) <= 60


def test_what_was_handed_over_has_one_hash() -> None:
    """A file's own; of several, one that differs when any of them or their sequence does."""
    a, b = (CachedDocument(pdf, hashlib.sha256(pdf).digest(), "found") for pdf in (b"a", b"b"))
    assert combined_sha256([a]) == a.sha256
    assert (
        len(
            {
                combined_sha256([a]),
                combined_sha256([b]),
                combined_sha256([a, b]),
                combined_sha256([b, a]),
                combined_sha256([a, b, b]),
            }
        )
        == 5
    )
    assert len(combined_sha256([a, b])) == 32
