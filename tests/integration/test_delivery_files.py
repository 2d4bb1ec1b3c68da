"""Files of tickets on a real database: rendered once, the same bytes for each later request,
and no file without a row that names it.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.local.mail import Mail
from schemas.orders import Person
from services.delivery.blob_store import blob_path
from services.delivery.worker import parse
from services.runtime.records import Record
from tests.support.deliveries import Deliveries, deliveries, ticket_id

pytestmark = pytest.mark.slow  # each starts a process or two, which imports a layout engine
ORDER = "shop:727"


@pytest.fixture
def site(database_url: str, mail: Mail, tmp_path: Path) -> Iterator[Deliveries]:
    with deliveries(database_url, mail, tmp_path) as opened:
        yield opened


def resend(site: Deliveries, order_id: str = ORDER, tickets: int = 2) -> None:
    """As a person asks for it: another job, with the same tickets."""
    columns = {
        "job_id": uuid4(),
        "order_id": order_id,
        "ids": [ticket_id(order_id, at) for at in range(1, tickets + 1)],
    }
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


def attached(site: Deliveries) -> list[tuple[str | None, bytes]]:
    """Name and bytes of each file that was mailed."""
    return [
        (part.get_filename(), part.get_content())
        for mail in site.mail.mails()
        for part in mail.iter_attachments()
    ]


def rows(site: Deliveries) -> list[dict[str, object]]:
    return site.rows(
        "select document_key, sha256, bytes, pages, order_id from delivery.files order by "
        "document_key"
    )


def stored(site: Deliveries) -> dict[str, bytes]:
    """What stands in the store, by its name."""
    return {
        str(path.relative_to(site.files)): path.read_bytes()
        for path in site.files.rglob("*")
        if path.is_file()
    }


def sha256s(site: Deliveries) -> set[bytes]:
    return {job["document_sha256"] for job in site.jobs()}


def are_sent(site: Deliveries, mails: int) -> bool:
    return site.states() == ["sent"] * mails


@pytest.mark.feature("SF-118")
def test_a_document_is_rendered_once_for_all_its_mails_retries_and_senders(
    site: Deliveries,
) -> None:
    site.mail.behave("tempfail")
    site.paid(ORDER)
    for _ in range(2):
        site.start(lease_jobs_max=1)
    site.until("it failed a few times", lambda: site.jobs()[0]["failures"] >= 3)
    site.mail.behave("accept")
    site.until_sent()
    for mails in (2, 3, 4):
        resend(site)
        site.until("it was sent again", partial(are_sent, site, mails))
    assert len(site.rendered()) == 1
    files = {content for _, content in attached(site)}
    assert (len(attached(site)), len(files)) == (4, 1)
    [content] = files
    [row] = rows(site)
    digest = hashlib.sha256(content).digest()
    assert (row["sha256"], row["bytes"], row["pages"], row["order_id"]) == (
        digest,
        len(content),
        2,
        ORDER,
    )
    assert stored(site) == {blob_path(digest): content}
    assert sha256s(site) == {digest}


@pytest.mark.feature("SF-118")
def test_a_resend_is_the_same_file_byte_for_byte_even_when_nothing_is_left_of_the_first(
    site: Deliveries,
) -> None:
    site.paid(ORDER)
    sender = site.start()
    site.until_sent()
    assert sender.stop() == 0
    site.rows("delete from delivery.files returning 1")
    for path in stored(site):
        (site.files / path).unlink()
    site.start()
    resend(site)
    site.until_sent()
    [(_, first), (_, second)] = attached(site)
    assert len(site.rendered()) == 2
    assert first == second
    assert len(sha256s(site)) == 1


@pytest.mark.parametrize("what", ["removed", "cut off", "changed", "empty"])
def test_a_file_that_is_lost_or_damaged_is_never_sent_and_is_repaired_with_the_same_hash(
    site: Deliveries, what: str
) -> None:
    sender = site.start()
    site.paid(ORDER)
    site.until_sent()
    [before] = rows(site)
    [(name, content)] = stored(site).items()
    place = site.files / name
    if what == "removed":
        place.unlink()
    else:
        place.write_bytes(
            {"cut off": content[:-1], "changed": content.replace(b"%PDF", b"%XDF"), "empty": b""}[
                what
            ]
        )
    resend(site)
    site.until_sent()
    assert stored(site) == {name: content}
    assert rows(site) == [before]
    assert [sent for _, sent in attached(site)] == [content, content]
    assert len(site.rendered()) == 2
    assert f"delivery-file-{'missing' if what == 'removed' else 'damaged'}" in sender.log()
    resend(site)
    site.until_sent()
    assert len(site.rendered()) == 2  # it is well again


@pytest.mark.parametrize("point", ["files_indexed", "rendered"])
def test_a_sender_killed_around_the_store_leaves_no_file_that_no_row_names_and_the_next_one_goes_on(
    site: Deliveries, point: str
) -> None:
    """Named: its row stands, and no content. Rendered: both do, and no mail has gone."""
    site.paid(ORDER)
    sender = site.start(at=f"{point}:kill")
    assert sender.wait(300) == -signal.SIGKILL
    [row] = rows(site)
    assert len(stored(site)) == (0 if point == "files_indexed" else 1)
    site.start()
    site.until_sent()
    assert rows(site) == [row]
    [(_, content)] = attached(site)
    assert row["sha256"] == hashlib.sha256(content).digest()
    assert stored(site) == {blob_path(hashlib.sha256(content).digest()): content}
    assert len(site.rendered()) == (2 if point == "files_indexed" else 1)


def test_an_unavailable_store_holds_up_no_mail_and_stores_again_when_it_is_back(
    site: Deliveries,
) -> None:
    site.paid("shop:1")
    sender = site.start()
    site.until_sent()
    moved = site.files.rename(site.folder / "away")
    site.files.write_text("in its place")
    site.paid(ORDER)
    resend(site, "shop:1")
    site.until_sent()
    assert "delivery-files-unavailable" in sender.log()
    assert site.jobs(ORDER)[0]["failures"] == 0
    site.files.unlink()
    moved.rename(site.files)

    def keeps_again() -> bool:
        resend(site)
        site.until_sent()
        return {hashlib.sha256(content).digest() for content in stored(site).values()} == sha256s(
            site
        )

    site.until("it is asked again, and keeps all", keeps_again)
    assert len({content for _, content in attached(site)}) == 2


def test_a_database_that_is_unavailable_while_it_renders_costs_the_job_nothing(
    site: Deliveries,
) -> None:
    site.start(render_ms=1_000)
    site.paid(ORDER)
    site.until("it is rendering", lambda: site.jobs()[0]["attempts"] == 1)
    site.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'stubline.delivery.sender'"
    )
    site.until_sent()
    [job] = site.jobs()
    assert (job["failures"], job["unknown_attempts"], job["mails"]) == (0, 0, 1)
    assert site.rows("select from runtime.dead_letters") == []


def test_one_pdf_a_ticket_where_that_is_set_each_rendered_once(site: Deliveries) -> None:
    site.start(document="ticket")
    site.paid(ORDER, 3)
    site.paid("shop:728", 1)
    site.until_sent()
    resend(site, ORDER, 3)
    site.until_sent()
    names = [name for name, _ in attached(site)]
    assert sorted(map(str, names)) == sorted(
        [
            "tickets-728.pdf",
            *(f"tickets-727-{number}.pdf" for number in (1, 2, 3)),
            *(f"tickets-727-{number}.pdf" for number in (1, 2, 3)),
        ]
    )
    assert (len(site.rendered()), len(stored(site))) == (4, 4)
    assert [
        (row["pages"], row["order_id"])
        for row in site.rows("select pages, order_id from delivery.files order by order_id")
    ] == [
        (1, ORDER),
        (1, ORDER),
        (1, ORDER),
        (1, "shop:728"),
    ]
    assert {content for _, content in attached(site)} == set(stored(site).values())
    assert (
        len({job["document_sha256"] for job in site.jobs(ORDER)}) == 1
    )  # the resend's is the first one's
    texts = [
        body.get_content() for mail in site.mail.mails() if (body := mail.get_body(("plain",)))
    ]
    assert sum("in the attached 3 PDFs" in " ".join(text.split()) for text in texts) == 2


def test_an_order_whose_design_is_missing_waits_and_goes_by_itself_when_it_is_there(
    site: Deliveries,
) -> None:
    site.paid(ORDER, 1, buyer=Person(name="undesigned", email="ada@example.org"))
    site.paid("shop:1", 1)
    sender = site.start()
    site.until("it was tried twice", lambda: site.jobs(ORDER)[0]["failures"] >= 2)
    site.until("the other order was sent", lambda: site.jobs("shop:1")[0]["state"] == "sent")
    [job] = site.jobs(ORDER)
    assert (job["state"], job["mails"]) == ("due", 0)
    assert "delivery-design-unknown: there is no design named gala" in job["answer"]
    assert "delivery-design-unknown" in sender.log()
    site.design.touch()
    site.until_sent()


def test_a_design_that_stays_missing_makes_a_dead_letter_with_its_own_code_which_can_be_replayed(
    site: Deliveries,
) -> None:
    site.paid(ORDER, 1, buyer=Person(name="undesigned", email="ada@example.org"))
    site.start(failures_max=3)
    site.until("the job is dead", lambda: site.states() == ["dead"])
    [dead_letter] = site.rows(
        'select code, text, key, value, topic, "offset" from runtime.dead_letters'
    )
    assert dead_letter["code"] == "delivery-design-unknown"
    assert "after 3 failures" in dead_letter["text"]
    assert "gala" in dead_letter["text"]
    site.design.touch()
    site.receive(
        parse(
            Record(
                dead_letter["topic"],
                0,
                dead_letter["offset"],
                -1,
                dead_letter["key"],
                dead_letter["value"],
                [],
            )
        )
    )
    site.until_sent()


def test_a_sender_without_a_place_for_files_does_not_start(site: Deliveries) -> None:
    (site.folder / "file").write_text("")
    for url in (str(site.folder / "file"), "files", "s3://key:secret@bucket"):
        sender = site.start(files_url=url)
        assert sender.wait(300) == 78
        assert "STUBLINE_DELIVERY_FILES_URL" in sender.log()
        assert "secret" not in sender.log()


def test_what_was_not_used_for_long_is_removed_and_a_resend_is_still_the_same_file(
    site: Deliveries,
) -> None:
    first = site.start()
    for number in range(4):
        site.paid(f"shop:{number}", 1)
    site.until_sent()
    assert first.stop() == 0
    site.rows(
        "update delivery.files set made_at = made_at - interval '40 days', used_at = used_at - "
        "interval '30 days 1 hour'"
        " where order_id <> 'shop:3' returning 1"
    )
    kept = sha256s(site) - {
        job["document_sha256"] for number in range(3) for job in site.jobs(f"shop:{number}")
    }
    second = site.start()
    site.until("they are removed", lambda: len(rows(site)) == 1)
    assert {hashlib.sha256(content).digest() for content in stored(site).values()} == kept
    resend(site, "shop:0", 1)
    site.until_sent()
    pdfs = {content for name, content in attached(site) if name == "tickets-0.pdf"}
    assert len(pdfs) == 1
    assert len(stored(site)) == len(rows(site)) == 2
    assert "unused files removed" in second.log()


def test_a_sender_that_keeps_for_ever_removes_nothing(site: Deliveries) -> None:
    site.start(files_keep_days=0).stop()
    site.paid(ORDER)
    sender = site.start(files_keep_days=0)
    site.until_sent()
    site.rows(
        "update delivery.files set made_at = now() - interval '9 years', used_at = now() - "
        "interval '9 years' returning 1"
    )
    sender.stop()
    site.paid("shop:1", 1)
    site.start(files_keep_days=0)
    site.until_sent()
    assert len(rows(site)) == len(stored(site)) == 2
