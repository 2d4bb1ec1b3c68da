"""A sender and its layout worker: a text that uses up memory or time, or that kills the worker,
neither fails nor delays another order.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from deploy.local.mail import Mail
from schemas.orders import Person
from tests.support.corpus import ODD
from tests.support.deliveries import Deliveries, SenderProcess, decided, deliveries, issued
from tests.support.rendering import make_design

pytestmark = pytest.mark.slow
THAI = Person(name=ODD["Thai"], email="thai@example.org")
LATIN = Person(name="Ada Lovelace", email="ada@example.org")
H1 = "<h1>{{ campaign.name }}</h1>"
MANY = "<div class='many'>{% for at in range(3000) %}<b>{{ at }}</b>{% endfor %}</div>"
TINY = (
    ".many { position: absolute; top: 0; left: 0; font-size: 0.2px; line-height: 0.2px } .many "
    "b { display: inline-block }"
)


@pytest.fixture
def site(database_url: str, mail: Mail, tmp_path: Path) -> Iterator[Deliveries]:
    with deliveries(database_url, mail, tmp_path) as site:
        yield site


def paid(site: Deliveries, order_id: str, buyer: Person, design: str, campaign_id: str) -> None:
    snapshot = issued(order_id, 1, "Active", buyer=buyer)
    campaigns = tuple(
        msgspec.structs.replace(campaign, campaign_id=campaign_id, design=design)
        for campaign in snapshot.campaigns
    )
    tickets = tuple(
        msgspec.structs.replace(ticket, campaign_id=campaign_id) for ticket in snapshot.tickets
    )
    site.receive(
        decided(order_id, 1),
        msgspec.structs.replace(snapshot, campaigns=campaigns, tickets=tickets),
    )


def below(sender: SenderProcess) -> list[psutil.Process]:
    """The presses of a sender: what lays out below it."""
    try:
        every = psutil.Process(sender._child.pid).children(recursive=True)
        return [
            process
            for process in every
            if "services.delivery.printing.sandbox.child" in process.cmdline()
        ]
    except psutil.NoSuchProcess:
        return []


def test_a_text_that_exhausts_the_time_is_its_own_dead_letter_and_its_neighbours_are_sent(
    site: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of its own campaign, and the odd ones of others."""
    monkeypatch.setenv("SENDER_PRESS_SECONDS", "2")
    make_design(site.folder / "designs" / "heavy", page=(H1, H1 + MANY), style=TINY)
    site.start(designs_folder=site.folder / "designs", plates_folder=site.folder / "plates")
    paid(site, "shop:1", THAI, "heavy", "gala")
    paid(site, "shop:2", LATIN, "heavy", "gala")
    paid(site, "shop:3", THAI, "event-ticket", "spring")
    site.until("all have ended", lambda: sorted(site.states()) == ["dead", "sent", "sent"], 120)
    [dead_letter] = site.rows("select code, text, subject_key from runtime.dead_letters")
    assert (dead_letter["code"], dead_letter["subject_key"]) == (
        "delivery-text-unprintable",
        "shop:1",
    )
    assert "heavy: holder: needs more than 2 s" in dead_letter["text"]
    assert ODD["Thai"] not in dead_letter["text"]
    assert [job["failures"] for job in site.jobs() if job["state"] == "sent"] == [0, 0]


def test_a_layout_worker_that_is_killed_costs_no_mail(site: Deliveries) -> None:
    sender = site.start()
    killed = set[int]()
    for at in range(4):
        paid(
            site,
            f"shop:{at}",
            Person(name=f"{ODD['Arabic']} {at}", email="a@example.org"),
            "event-ticket",
            "spring",
        )
        site.until_sent()
        [worker] = below(sender)
        killed.add(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)
    assert (len(killed), len(site.mail.mails())) == (4, 4)
    assert site.rows("select code from runtime.dead_letters") == []


def test_a_killed_sender_leaves_no_layout_worker_behind(site: Deliveries) -> None:
    sender = site.start()
    paid(site, "shop:1", THAI, "event-ticket", "spring")
    site.until_sent()
    [worker] = below(sender)
    sender.kill()
    assert psutil.wait_procs([worker], timeout=10)[1] == []
