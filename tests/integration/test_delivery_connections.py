"""The connections of a sender, on a real database and a real mail server: what a mail costs, what
is stored of it, and that a slow one holds up no other.
"""

from __future__ import annotations

import hashlib
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from deploy.local.mail import Mail
from deploy.local.roles import as_role
from deploy.local.stack import STATE
from schemas.orders import Person
from services.delivery.rendering import SharedRenderer
from services.delivery.sender.connections import PARKED_JOBS_MAX
from services.delivery.sender.process import SenderBuilder, open_external
from services.delivery.sender.store import SQL, JobQueue
from services.delivery.sender.telemetry import SenderTelemetry
from services.delivery.settings import DeliverySettings
from services.runtime.observability.version import CODE_VERSION
from services.runtime.process import StopRequest, owner_name
from services.runtime.settings import Servers
from tests.support.deliveries import Deliveries, deliveries

pytestmark = pytest.mark.slow  # each starts a process or two, which imports a layout engine
ORDER = "shop:727"
LATIN, ODD = "Grace Hopper", "王小明"
TIMED = {"is_paused", "count_jobs"}  # by the clock and not by the mail
KILLS, KILLED_ORDERS, SENDERS, CONNECTIONS = 8, 400, 2, 2


@pytest.fixture
def site(database_url: str, mail: Mail, tmp_path: Path) -> Iterator[Deliveries]:
    with deliveries(database_url, mail, tmp_path) as deployed:
        yield deployed


class CountingCursor(psycopg.Cursor[Any]):
    """Counts each statement, and whether it is a transaction of its own."""

    counted: ClassVar[Counter[tuple[str, bool]]] = Counter()

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
        [name] = [name for name, statement in SQL.items() if statement == query] or ["other"]
        is_own = self.connection.info.transaction_status is TransactionStatus.IDLE
        self.counted[name, is_own] += 1
        return super().execute(query, *arguments, **options)


class CountingBuilder(SenderBuilder):
    """Builds a sender whose sessions count."""

    def job_queue(self, name: str) -> JobQueue:
        queue = super().job_queue(name)

        def connect() -> Any:
            session = queue.connect()
            session.cursor_factory = CountingCursor
            return session

        return JobQueue(connect, owner_name(), queue.group)


def test_a_mail_costs_two_statements_and_little_more_than_one_commit(site: Deliveries) -> None:
    site.paid("shop:compiled", 1)
    first = site.start(stamps=True)
    site.until_sent()
    assert first.stop() == 0
    for number in range(64):
        site.paid(f"shop:{number}", 1)
    settings = DeliverySettings(
        smtp_url=site.mail.url,
        files_url=str(site.files),
        plates_folder=str(STATE / "plates"),
    )
    servers = Servers(
        DATABASE_URL=as_role(site.database_url, "delivery"), KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"
    )
    telemetry = SenderTelemetry()
    external = open_external(settings, SharedRenderer, telemetry)
    builder = CountingBuilder(settings, servers, external, telemetry)
    sender = builder.connections(StopRequest()).senders[0]
    sender.step()  # opens its session
    warm, before = 64 - site.states().count("due"), CountingCursor.counted.copy()
    while sender.step():
        pass
    sender.context.channel.close()
    sender.context.queue.close()
    assert set(site.states()) == {"sent"}
    counted = {
        key: count
        for key, count in (CountingCursor.counted - before).items()
        if key[0] not in TIMED
    }
    mails = 64 - warm
    transactions = counted["take_jobs", False]  # leasing is one, whatever it holds
    commits = transactions + sum(count for (_, is_own), count in counted.items() if is_own)
    assert sum(counted.values()) <= 2 * mails, counted
    assert commits <= 1.3 * mails, counted


def test_what_can_be_stamped_is_not_stored_and_its_hash_and_release_are(site: Deliveries) -> None:
    site.start(stamps=True)
    site.paid(ORDER)
    site.until_sent()
    [job] = site.jobs()
    [mail] = site.mail.mails()
    [attached] = mail.iter_attachments()
    assert job["document_sha256"] == hashlib.sha256(attached.get_content()).digest()
    assert job["document_release"] == CODE_VERSION
    assert site.rows("select * from delivery.files") == []
    assert not site.files.exists() or not any(path.is_file() for path in site.files.rglob("*"))


def test_a_name_that_must_be_laid_out_delays_no_other_mail(site: Deliveries) -> None:
    """By one connection: the layout takes longer than a lease, and is stored when it is done."""
    site.start(stamps=True, render_ms=4_000, connections=1)
    site.paid("shop:odd", 1, buyer=Person(name=ODD, email="wang@example.org"))
    site.until("it is leased", lambda: site.jobs("shop:odd")[0]["attempts"] == 1)
    for number in range(20):
        site.paid(f"shop:{number}", 1, buyer=Person(name=LATIN, email="grace@example.org"))
    site.until("all others are sent", lambda: site.states().count("sent") == 20)
    assert site.jobs("shop:odd")[0]["state"] == "due"
    site.until_sent()
    odd = site.jobs("shop:odd")[0]
    assert (odd["attempts"], odd["unknown_attempts"], odd["mails"]) == (1, 0, 1)
    assert len(site.rows("select * from delivery.files")) == 1


def test_a_connection_that_is_busy_for_long_does_not_hold_up_new_mails(site: Deliveries) -> None:
    """So many names have to be laid out that the first connection lays one out itself."""
    site.start(stamps=True, render_ms=20_000, connections=2)
    odd = PARKED_JOBS_MAX + 3
    for number in range(odd):
        site.paid(f"shop:odd-{number}", 1, buyer=Person(name=ODD, email="wang@example.org"))
    site.until("all are leased", lambda: {job["attempts"] for job in site.jobs()} == {1})
    site.paid(ORDER, 1, buyer=Person(name=LATIN, email="grace@example.org"))
    site.until("the other is sent", lambda: site.jobs(ORDER)[0]["state"] == "sent")
    assert site.states().count("due") == odd


def test_several_connections_send_at_once_and_no_mail_goes_twice(site: Deliveries) -> None:
    site.mail.slow(300)
    for number in range(40):
        site.paid(f"shop:{number}", 1)
    sender = site.start(
        stamps=True,
        connections=4,
        smtp_timeout_ms=30_000,
        mail_deadline_ms=60_000,
        lease_ms=120_000,
    )
    site.until("some are sent", lambda: site.states().count("sent") >= 12)
    holders = site.rows(
        "select count(*) from pg_stat_activity where application_name = 'stubline.delivery.sender'"
        " and datname = current_database()"
    )
    assert holders[0]["count"] >= 4
    site.until_sent()
    assert len(set(site.message_ids())) == len(site.message_ids()) == 40
    assert sender.stop() == 0
    assert {job["attempts"] for job in site.jobs()} == {1}


def killed_repeatedly(site: Deliveries, kills: int, orders: int) -> tuple[int, int]:
    """Kill senders while mails are due, then have the others sent. Return the mails that were lost,
    and those that were repeated.
    """
    chosen = random.Random(13)
    for number in range(orders):
        site.paid(f"shop:{number}", 1)
    running = [site.start(stamps=True, connections=CONNECTIONS) for _ in range(SENDERS)]
    for kill in range(kills):
        wanted = (kill + 1) * orders // (kills + 1)
        site.until("some more are sent", lambda: site.states().count("sent") >= wanted)  # noqa: B023 - called at once
        victim = chosen.randrange(SENDERS)
        running[victim].kill()
        running[victim] = site.start(stamps=True, connections=CONNECTIONS)
    site.until_sent()
    ids = Counter(site.message_ids())
    names = {f"<{job['job_id']}@localhost.localdomain>" for job in site.jobs()}
    assert set(ids) <= names
    repeated = sum(ids.values()) - len(ids)
    print(f"{kills} kills: {len(names - set(ids))} lost, {repeated} repeated")
    return len(names - set(ids)), repeated


def test_killed_senders_lose_no_mail_and_repeat_at_most_one_a_connection(site: Deliveries) -> None:
    lost, repeated = killed_repeatedly(site, KILLS, KILLED_ORDERS)
    assert lost == 0
    assert repeated <= KILLS * (CONNECTIONS + 1)  # and the one that lays out


@pytest.mark.chaos
def test_senders_killed_a_hundred_times_lose_no_mail(site: Deliveries) -> None:
    lost, repeated = killed_repeatedly(site, 100, 10_000)
    assert lost == 0
    assert repeated <= 100 * (CONNECTIONS + 1)


def test_a_sender_killed_while_it_lays_out_loses_nothing_that_it_parked(site: Deliveries) -> None:
    sender = site.start(stamps=True, render_ms=60_000)
    for number in range(3):
        site.paid(f"shop:{number}", 1, buyer=Person(name=ODD, email="wang@example.org"))
    site.until("all are leased", lambda: [job["attempts"] for job in site.jobs()] == [1, 1, 1])
    sender.kill()
    assert sender.wait(60) == -signal.SIGKILL
    site.start(stamps=True)
    site.until_sent()
    assert len(site.message_ids()) == 3


def test_a_sender_that_is_stopped_while_it_lays_out_releases_what_it_parked(
    site: Deliveries,
) -> None:
    sender = site.start(stamps=True, render_ms=3_000)
    for number in range(3):
        site.paid(f"shop:{number}", 1, buyer=Person(name=ODD, email="wang@example.org"))
    site.until("all are leased", lambda: [job["attempts"] for job in site.jobs()] == [1, 1, 1])
    assert sender.stop() == 0
    jobs = site.jobs()
    assert [job["lease_owner"] for job in jobs] == [None] * 3
    assert {(job["state"], job["attempts"]) for job in jobs} <= {("sent", 1), ("due", 0)}
    assert ("due", 0) in {(job["state"], job["attempts"]) for job in jobs}
