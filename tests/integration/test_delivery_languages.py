"""From an order's snapshot to the mailbox: the ticket is in its campaign's language, and a file
that was sent stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pypdfium2
import pytest

from deploy.local.mail import Mail
from schemas.orders import TicketsChanged
from tests.support import pdfs
from tests.support.deliveries import DRAW, Deliveries, decided, deliveries, issued, ticket_id
from tests.support.rendering import text_of

pytestmark = pytest.mark.slow  # each starts a process or two, which imports a layout engine
ORDER = "shop:727"


@pytest.fixture
def site(database_url: str, mail: Mail, tmp_path: Path) -> Iterator[Deliveries]:
    with deliveries(database_url, mail, tmp_path) as opened:
        yield opened


def snapshot_in(sequence: int, language: str) -> TicketsChanged:
    campaign = msgspec.structs.replace(DRAW, language=language, version=sequence)
    return msgspec.structs.replace(issued(ORDER, sequence, "Active", "Won"), campaigns=(campaign,))


def resend(site: Deliveries) -> None:
    columns = {"job_id": uuid4(), "order_id": ORDER, "ids": [ticket_id(ORDER, at) for at in (1, 2)]}
    with site.connection.transaction():
        site.connection.execute(
            (
                "insert into delivery.jobs (job_id, order_id, kind, state) values (%(job_id)s, "
                "%(order_id)s, 'resend', 'due')"
            ),
            columns,
        )
        site.connection.execute(
            (
                "insert into delivery.job_tickets (job_id, kind, ticket_id) select %(job_id)s, "
                "'resend', unnest(%(ids)s::uuid[])"
            ),
            columns,
        )
    jobs = len(site.jobs())
    site.until("it was sent again", lambda: site.states() == ["sent"] * jobs)


def attached(site: Deliveries) -> list[bytes]:
    return [part.get_content() for mail in site.mail.mails() for part in mail.iter_attachments()]


def language_of(pdf: bytes) -> str:
    with pdfs.opened(pdf) as opened:
        return str(opened.Root.Lang)


def test_a_french_campaigns_ticket_is_french_and_its_mail_still_english(site: Deliveries) -> None:
    site.receive(decided(ORDER, 1), snapshot_in(1, "fr"))
    site.start()
    site.until_sent()
    [pdf] = attached(site)
    first, second = (
        " ".join(text_of(pdf, at).split()) for at in range(len(pypdfium2.PdfDocument(pdf)))
    )
    for words in (
        "samedi 6 mars 2027, 19:30 (Europe/Dublin)",
        "21 novembre 2026",
        "Valable",
        "1 sur 2",
    ):
        assert words in first
    assert ("Gagnant" in second, "2 sur 2" in second) == (True, True)
    assert language_of(pdf) == "fr"
    [mail] = site.mail.mails()
    body = mail.get_body(("plain",))
    assert body is not None
    assert "Saturday, 6 March 2027" in body.get_content()


def test_an_order_keeps_its_file_until_its_own_snapshot_has_the_language(
    site: Deliveries,
) -> None:
    """Applying a language changes no order that is there. Its next snapshot does, as it would with
    another venue.
    """
    site.receive(decided(ORDER, 1), snapshot_in(1, ""))
    site.start()
    site.until_sent()
    [english] = attached(site)
    resend(site)
    assert attached(site) == [english, english]
    site.receive(snapshot_in(2, "fr"))
    resend(site)
    resend(site)
    [french] = set(attached(site)) - {english}
    assert [language_of(pdf) for pdf in (english, french)] == ["en", "fr"]
    assert sorted(attached(site)) == sorted([english, english, french, french])
    assert len(site.rendered()) == 2
