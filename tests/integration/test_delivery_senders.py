"""Senders as processes, on a real database and a real mail server that behaves badly. No mail is
lost; whose fault it is decides.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.local.mail import Mail
from schemas.orders import Person
from services.console.store import read_order
from services.delivery.store import DeliveryQueries
from services.delivery.worker import GROUP, JOBS, DeadLetteredJob, parse
from services.runtime.admin.commands import AdminCommands, DeadLetterSelection, OperatorCommand
from services.runtime.records import Record
from tests.support.deliveries import Deliveries, decided, deliveries, issued, ticket_id
from tests.support.stages import observed, opened, raffle

pytestmark = pytest.mark.slow  # each starts a process or two, which imports a layout engine
ORDER = "shop:727"


@pytest.fixture
def world(database_url: str, mail: Mail, tmp_path: Path) -> Iterator[Deliveries]:
    with deliveries(database_url, mail, tmp_path) as made:
        yield made


def numbers(mail_text: str) -> set[str]:
    return {word for word in mail_text.split() if word.startswith("RFL-")}


def test_a_released_order_is_delivered_without_another_word(world: Deliveries) -> None:
    world.start()
    world.paid(ORDER, 3)
    world.until_sent()
    [mail] = world.mail.mails()
    [job] = world.jobs()
    assert mail["To"] == "Ada Lovelace <ada@example.org>"
    assert mail["Message-ID"] == f"<{job['job_id']}@localhost.localdomain>"
    assert (mail["Auto-Submitted"], mail["X-Auto-Response-Suppress"]) == ("auto-generated", "All")
    assert "Spring Draw (order 727)" in mail["Subject"]
    text = mail.get_body(("plain",))
    assert text is not None
    assert numbers(text.get_content()) == {"RFL-0001", "RFL-0002", "RFL-0003"}
    [attached] = mail.iter_attachments()
    assert attached.get_content()[:5] == b"%PDF-"
    assert (attached.get_content_type(), attached.get_filename()) == (
        "application/pdf",
        "tickets-727.pdf",
    )
    assert (job["attempts"], job["mails"], job["failures"], job["answer"]) == (
        1,
        1,
        0,
        "end: 250 2.0.0 stored",
    )


@pytest.mark.parametrize(
    "point", ["leased", "rendered", "handed_over", "reply_received", "recorded"]
)
def test_a_sender_killed_at_any_point_loses_no_mail_and_repeats_only_with_the_same_name(
    world: Deliveries, point: str
) -> None:
    world.paid(ORDER)
    world.paid("shop:728")
    sender = world.start(at=f"{point}:kill")
    assert sender.wait(300) == -signal.SIGKILL
    world.start()
    world.until_sent()
    jobs = world.jobs()
    ids = world.message_ids()
    assert set(ids) == {f"<{job['job_id']}@localhost.localdomain>" for job in jobs}
    lived_through = point in {"handed_over", "reply_received"}
    assert len(ids) in (
        {2, 3} if lived_through else {2}
    )  # the mail in hand, and no other, may come twice
    # Only where an answer may have been lost is an attempt's end unknown, and only of jobs that
    # were in hand.
    assert sum(job["unknown_attempts"] for job in jobs) == (1 if point == "recorded" else 2)


def test_a_mail_server_that_replies_not_now_gets_it_later(world: Deliveries) -> None:
    world.mail.behave("tempfail")
    world.start()
    world.paid(ORDER)
    world.until("an attempt failed", lambda: world.jobs()[0]["failures"] >= 2)
    assert (world.mail.mails(), world.states()) == ([], ["due"])
    world.mail.behave("accept")
    world.until_sent()
    assert len(world.mail.mails()) == 1
    assert world.jobs()[0]["unknown_attempts"] == 0


def test_a_mail_server_that_refuses_makes_a_dead_letter_which_is_sent_when_it_is_replayed(
    world: Deliveries,
) -> None:
    world.mail.behave("permfail")
    world.start()
    world.paid(ORDER)
    world.until("the job is dead", lambda: world.states() == ["dead"])
    [job] = world.jobs()
    [letter] = world.rows("select * from runtime.dead_letters")
    assert (letter["id"], letter["topic"], letter["stage"], letter["state"]) == (
        job["dead_letter_id"],
        JOBS,
        "job",
        "open",
    )
    assert (letter["code"], letter["subject_key"]) == ("delivery-policy-refused", ORDER)
    assert "550 5.7.1" in letter["text"]
    [copy] = [event for event in world.tick() if isinstance(event, DeadLetteredJob)]
    assert copy.encode(time="", traceparent=None).topic == f"{GROUP}.dead.v1"
    assert [event for event in world.tick() if isinstance(event, DeadLetteredJob)] == []
    world.mail.behave("accept")
    AdminCommands(world.connection, OperatorCommand("ada", uuid4())).replay(
        DeadLetterSelection(ids=[letter["id"]])
    )
    world.receive(parse(Record(JOBS, 0, letter["offset"], -1, letter["key"], letter["value"], [])))
    world.until_sent()
    assert world.message_ids() == [f"<{job['job_id']}@localhost.localdomain>"]


def test_each_death_of_a_job_is_a_dead_letter_of_its_own(world: Deliveries) -> None:
    world.mail.behave("permfail")
    world.start()
    world.paid(ORDER)
    for deaths in (1, 2):
        world.until("the job is dead", lambda: world.states() == ["dead"])
        dead_letters = world.rows("select * from runtime.dead_letters order by id")
        assert len(dead_letters) == deaths
        last = dead_letters[-1]
        world.receive(parse(Record(JOBS, 0, 0, -1, last["key"], last["value"], [])))


def test_a_mail_that_fails_for_too_long_becomes_a_dead_letter(world: Deliveries) -> None:
    world.mail.behave("tempfail")
    world.start(failures_max=3)
    world.paid(ORDER)
    world.until("the job is dead", lambda: world.states() == ["dead"])
    [letter] = world.rows("select code, text from runtime.dead_letters")
    assert letter["code"] == "delivery-retries-exhausted"
    assert "after 3 failures" in letter["text"]
    assert "451" in letter["text"]


@pytest.mark.parametrize("behaviour", ["hang", "swallow"])
def test_no_answer_to_the_final_dot_is_an_unknown_end_and_tried_again_with_the_same_name(
    world: Deliveries, behaviour: str
) -> None:
    world.mail.behave(behaviour)  # type: ignore[arg-type]  # a parameter is a str
    world.start(breaker_failures=50)
    world.paid(ORDER)
    world.until("an end is unknown", lambda: world.jobs()[0]["unknown_attempts"] >= 1)
    world.mail.behave("accept")
    world.until_sent()
    ids = world.message_ids()
    assert set(ids) == {f"<{world.jobs()[0]['job_id']}@localhost.localdomain>"}
    assert len(ids) >= (
        2 if behaviour == "swallow" else 1
    )  # swallowed ones had been accepted: the sender never learnt of it


def test_an_unavailable_mail_server_opens_the_circuit_breaker_and_no_job_pays_for_it(
    world: Deliveries,
) -> None:
    world.mail.stop(immediate=True)
    sender = world.start(lease_jobs_max=2)
    for number in range(12):
        world.paid(f"shop:{number}", 1)
    world.until("the breaker opened", lambda: "circuit breaker opened" in sender.log())
    world.mail.start()
    world.until_sent()
    jobs = world.jobs()
    assert len(world.mail.mails()) == 12
    assert [job["failures"] for job in jobs] == [0] * 12
    assert (
        sum(job["attempts"] for job in jobs) < 12 + 12
    )  # not each job tried the unavailable server
    assert world.rows("select from runtime.dead_letters") == []


@pytest.mark.parametrize("why", ["tickets", "decision"])
def test_what_is_cancelled_before_it_is_sent_is_not_sent(world: Deliveries, why: str) -> None:
    world.mail.behave("tempfail")
    world.start(retry_min_ms=1_500, retry_max_ms=1_500)
    world.paid(ORDER)
    world.until("it failed once, and rests", lambda: world.jobs()[0]["failures"] == 1)
    world.receive(
        issued(ORDER, 2, "Cancelled", "Cancelled")
        if why == "tickets"
        else decided(ORDER, 2, "cancelled")
    )
    world.mail.behave("accept")
    world.paid("shop:later")
    world.until("the later one is sent", lambda: world.jobs("shop:later")[0]["state"] == "sent")
    passed = (
        "select from delivery.jobs where order_id = %s and next_attempt_at < now() - "
        "interval '0.3 s'"
    )
    world.until("its time has come", lambda: bool(world.rows(passed, ORDER)))
    [job] = world.jobs(ORDER)
    assert (job["state"], job["is_held"]) == (
        ("cancelled", False) if why == "tickets" else ("due", True)
    )
    assert len(world.mail.mails()) == 1
    world.receive(issued(ORDER, 3, "Active", "Active"), decided(ORDER, 3))
    world.until_sent()  # restored, and never sent before
    assert len(world.mail.mails()) == 2


@pytest.mark.parametrize("why", ["tickets", "decision"])
def test_what_is_cancelled_while_it_renders_is_not_sent(world: Deliveries, why: str) -> None:
    sender = world.start(render_ms=1_500)
    world.paid(ORDER)
    world.until("it is rendering", lambda: world.jobs()[0]["attempts"] == 1)
    world.receive(
        issued(ORDER, 2, "Cancelled", "Cancelled")
        if why == "tickets"
        else decided(ORDER, 2, "cancelled")
    )
    world.until("it was given back", lambda: world.jobs()[0]["lease_owner"] is None)
    [job] = world.jobs()
    assert (job["attempts"], job["unknown_attempts"], job["state"]) == (
        0,
        0,
        "cancelled" if why == "tickets" else "due",
    )
    assert sender.stop() == 0
    assert world.mail.mails() == []


def test_the_latest_snapshot_counts_at_sending_and_a_ticket_left_out_is_sent_when_active_again(
    world: Deliveries,
) -> None:
    world.paid(ORDER)
    world.receive(issued(ORDER, 2, "Cancelled", "Active"))
    world.start()
    world.until_sent()
    assert [job["ticket_ids"] for job in world.jobs()] == [[ticket_id(ORDER, 2)]]
    world.receive(issued(ORDER, 3, "Active", "Active"))
    world.until_sent()
    texts = [
        body.get_content() for mail in world.mail.mails() if (body := mail.get_body(("plain",)))
    ]
    assert sorted(map(sorted, map(numbers, texts))) == [["RFL-0001"], ["RFL-0002"]]
    assert world.without_job() == []


def test_a_ticket_that_was_sent_is_not_sent_again_when_it_comes_back(world: Deliveries) -> None:
    world.start()
    world.paid(ORDER)
    world.until_sent()
    world.receive(issued(ORDER, 2, "Cancelled", "Cancelled"))
    world.receive(issued(ORDER, 3, "Active", "Active"))
    world.paid("shop:later")
    world.until_sent()
    assert len(world.mail.mails()) == 2


def test_a_pause_of_delivery_holds_the_mails_and_each_is_sent_once_after_it(
    world: Deliveries,
) -> None:
    commands = AdminCommands(world.connection, OperatorCommand("ada", uuid4()))
    commands.control(GROUP, paused=True, rate=None, reason="mail server failing")
    sender = world.start()
    for number in range(5):
        world.paid(f"shop:{number}", 1)
    world.until("the sender logs it", lambda: '"reason": "paused"' in sender.log())
    assert (world.mail.mails(), {job["attempts"] for job in world.jobs()}) == ([], {0})
    AdminCommands(world.connection, OperatorCommand("ada", uuid4())).control(
        GROUP, paused=False, rate=None, reason=None
    )
    world.until_sent()
    assert len(world.mail.mails()) == 5


@pytest.mark.feature("SF-016")
def test_slow_rendering_holds_up_nothing_but_itself(world: Deliveries) -> None:
    """It is a process of its own: orders are approved, issued and given jobs while one PDF takes
    ten seconds, which is longer than a lease: the renewer keeps it alive.
    """
    world.start(render_ms=10_000, lease_jobs_max=1)
    world.paid(ORDER)
    world.until("it is rendering", lambda: world.jobs()[0]["attempts"] == 1)
    with opened(world.database_url) as stages:
        stages.apply(raffle())
        for number in range(50):
            stages.work(observed(f"{number}", "completed"))
            world.paid(f"shop:{number}", 1)
            world.receive(issued(f"shop:{number}", 2, "Cancelled"))
        assert len(stages.tickets()) == 50
    assert (world.jobs(ORDER)[0]["state"], world.mail.mails()) == (
        "due",
        [],
    )  # all that while it was rendered
    world.until("the first is sent", lambda: world.jobs(ORDER)[0]["state"] == "sent")
    assert (world.jobs(ORDER)[0]["attempts"], world.jobs(ORDER)[0]["unknown_attempts"]) == (1, 0)


def test_senders_share_the_work_and_no_mail_goes_twice(world: Deliveries) -> None:
    for number in range(40):
        world.paid(f"shop:{number}", 1)
    for _ in range(3):
        world.start()
    world.until_sent()
    assert len(set(world.message_ids())) == len(world.message_ids()) == 40
    assert {job["attempts"] for job in world.jobs()} == {1}


def test_a_sender_that_is_stopped_finishes_its_mail_and_releases_the_others(
    world: Deliveries,
) -> None:
    sender = world.start(lease_jobs_max=20, render_ms=200)
    for number in range(20):
        world.paid(f"shop:{number}", 1)
    world.until("some are sent", lambda: world.states().count("sent") >= 2)
    assert sender.stop() == 0
    jobs = world.jobs()
    assert "due" in {job["state"] for job in jobs}
    assert [job["lease_owner"] for job in jobs] == [None] * 20
    assert {job["attempts"] for job in jobs if job["state"] == "due"} == {0}
    assert len(world.mail.mails()) == world.states().count("sent")


@pytest.mark.parametrize(
    "email",
    ["", "nobody", "a b@example.org", "ada@example.org\r\nBcc: eve@example.org", "ada@-\x7f.org"],
)
def test_an_address_that_is_none_makes_a_dead_letter_and_the_corrected_one_is_used(
    world: Deliveries, email: str
) -> None:
    world.start()
    world.paid(ORDER, 1, buyer=Person(name="Ada", email=email))
    world.until("the job is dead", lambda: world.states() == ["dead"])
    [letter] = world.rows("select code, key, value from runtime.dead_letters")
    assert letter["code"] == "delivery-recipient-unusable"
    world.receive(issued(ORDER, 2, "Active", buyer=Person(name="Ada", email="ada@example.org")))
    world.receive(parse(Record(JOBS, 0, 0, -1, letter["key"], letter["value"], [])))
    world.until_sent()
    assert [mail["To"] for mail in world.mail.mails()] == ["Ada <ada@example.org>"]


def test_an_order_that_cannot_be_rendered_is_its_own_dead_letter_and_its_neighbours_are_sent(
    world: Deliveries,
) -> None:
    world.paid(ORDER, 1, buyer=Person(name="unprintable", email="ada@example.org"))
    world.paid("shop:1", 1)
    world.start()
    world.until("both ended", lambda: sorted(world.states()) == ["dead", "sent"])
    assert world.rows("select code from runtime.dead_letters") == [
        {"code": "delivery-render-failed"}
    ]


def test_a_hostile_name_ends_no_header_and_is_no_markup(world: Deliveries) -> None:
    name = "Eve\r\nBcc: all@example.org <script>alert(1)</script> {{ 7 * 7 }} \u202e\x00x"
    world.start()
    world.paid(ORDER, 1, buyer=Person(name=name.replace("\x00", ""), email="eve@example.org"))
    world.until_sent()
    [mail] = world.mail.mails()
    assert mail["Bcc"] is None
    assert mail["X-Envelope-To"] == "eve@example.org"
    html = mail.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()
    assert "{{ 7 * 7 }}" in html.get_content()
    assert "\u202e" not in html.get_content()


ENCODED = (
    "=?utf-8?Q?=0D=0AContent-Type:_text/html=0D=0A=0D=0A<a_href=3D//evil.example>Pay_here</a>?="
)
LONG = "Bartholomew Maximilian Featherstonehaugh, x@evil.example, And Sons Limited Company"


@pytest.mark.parametrize("name", [ENCODED, "=?utf-8?Q?=0D=0ABcc:_all=40example.org?=", LONG])
def test_a_name_is_text_and_writes_neither_headers_nor_addresses(
    world: Deliveries, name: str
) -> None:
    world.start()
    world.paid(ORDER, 1, buyer=Person(name=name, email="eve@example.org"))
    world.until_sent()
    [mail] = world.mail.mails()
    [to] = mail["To"].addresses
    assert ("".join(to.display_name.split()), to.addr_spec) == (
        "".join(name.split()),
        "eve@example.org",
    )
    assert (mail["Bcc"], mail.get_content_type(), mail["X-Envelope-To"]) == (
        None,
        "multipart/mixed",
        "eve@example.org",
    )
    assert [part.get_content_type() for part in mail.iter_parts()] == [
        "multipart/alternative",
        "application/pdf",
    ]


def test_a_mail_that_reads_back_as_another_is_a_dead_letter_and_is_never_sent(
    world: Deliveries,
) -> None:
    world.paid(ORDER, 1, buyer=Person(name="unsound", email="ada@example.org"))
    world.paid("shop:1", 1)
    world.start()
    world.until("both ended", lambda: sorted(world.states()) == ["dead", "sent"])
    [letter] = world.rows("select code, text, subject_key from runtime.dead_letters")
    assert (letter["code"], letter["subject_key"]) == ("delivery-mail-unsound", ORDER)
    assert "To is not exactly the one address" in letter["text"]
    assert [mail["X-Envelope-To"] for mail in world.mail.mails()] == ["ada@example.org"]
    assert world.message_ids() == [f"<{world.jobs('shop:1')[0]['job_id']}@localhost.localdomain>"]


def test_a_mail_goes_to_the_domain_that_was_meant_and_both_forms_are_kept(
    world: Deliveries,
) -> None:
    world.start()
    world.paid(ORDER, 1, buyer=Person(name="Ada", email="info@faß.de"))
    world.until_sent()
    [mail] = world.mail.mails()
    assert (mail["X-Envelope-To"], mail["To"].addresses[0].addr_spec) == (
        "info@xn--fa-hia.de",
        "info@xn--fa-hia.de",
    )
    [job] = DeliveryQueries(world.connection).jobs(order_id=ORDER)
    assert (job["recipient"], job["envelope_recipient"]) == ("info@faß.de", "info@xn--fa-hia.de")
    [shown] = read_order(world.connection, ORDER)["deliveries"]
    assert (shown["recipient"], shown["envelope_recipient"]) == (
        "info@faß.de",
        "info@xn--fa-hia.de",
    )


def test_a_dead_letter_names_the_address_that_was_given_and_the_one_on_the_wire(
    world: Deliveries,
) -> None:
    world.mail.behave("permfail")
    world.start()
    world.paid(ORDER, 1, buyer=Person(name="Ada", email="info@faß.de"))
    world.paid("shop:728", 1, buyer=Person(name="Ada", email="info@i❤.ws"))
    world.until("both jobs are dead", lambda: world.states() == ["dead", "dead"])
    found = {
        row["code"]: json.loads(row["value"])
        for row in world.rows("select code, value from runtime.dead_letters")
    }
    refused, unusable = found["delivery-policy-refused"], found["delivery-recipient-unusable"]
    assert (refused["recipient"], refused["envelope_recipient"]) == (
        "info@faß.de",
        "info@xn--fa-hia.de",
    )
    assert (unusable["recipient"], unusable["envelope_recipient"]) == ("info@i❤.ws", "")


def test_a_database_that_is_unavailable_when_the_mail_was_accepted_gets_the_result_later(
    world: Deliveries,
) -> None:
    """Every session is ended while the server takes its time; the sender keeps what it knows and
    writes it when it can.
    """
    world.mail.slow(600)
    world.start()
    world.paid(ORDER, 1)
    world.until("the lease is written", lambda: world.jobs()[0]["attempts"] == 1)
    world.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'stubline.delivery.sender'"
    )
    world.until_sent()
    assert len(world.mail.mails()) == 1
    assert (world.jobs()[0]["attempts"], world.jobs()[0]["unknown_attempts"]) == (1, 0)


def test_a_sender_without_a_mail_server_does_not_start(world: Deliveries) -> None:
    for url in ("", "http://example.org", "smtp://user:secret@mail.example.org"):
        sender = world.start(smtp_url=url)
        assert sender.wait(300) == 78
        assert "STUBLINE_DELIVERY_SMTP_URL" in sender.log()
        assert "secret" not in sender.log()
