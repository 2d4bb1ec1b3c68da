"""Ticket Evolution from its webhook to what is known: a real endpoint, a real database, and a
vendor that checks signatures.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.orders import OrderObserved
from services.ingest import vendors
from services.ingest.config.sources_file import SourceConfig
from services.ingest.errors import CallbackUnreadable
from services.ingest.vendors.shared.poll import FoundObject, PollConfig
from services.ingest.vendors.ticketevolution import poll
from services.ingest.worker import SERVICE
from services.runtime.observability import metrics
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Duplicate, Effect, Outcome, Record, Superseded
from tests.support import callbacks
from tests.support.ingest import work
from tests.support.polling import Poller
from tests.support.trapped import until
from tests.support.vendors import Sample
from tests.support.vendors.fake_ticketevolution import SECRET, TOKEN, Answer, FakeTicketEvolution
from tests.support.vendors.ticketevolution import FORM, VENDOR, form, order
from tests.support.webhook_endpoint import SECRET as WORD
from tests.support.webhook_endpoint import WebhookEndpointProcess

NOW = 1_795_188_600.0  # 2026-11-20T15:30:00Z
ACCEPTED: dict[str, Any] = {
    "seller_state": "accepted",
    "buyer": {"type": "Office", "id": 6, "name": "Ticket Evolution"},
}


@pytest.fixture
def vendor() -> Iterator[FakeTicketEvolution]:
    with FakeTicketEvolution() as opened:
        yield opened


def published(outcomes: Sequence[Outcome]) -> list[OrderObserved]:
    outputs = [
        event.encode(time="2026-11-20T15:30:00.000000Z", traceparent=None)
        for outcome in outcomes
        for event in (outcome.outputs if isinstance(outcome, Effect) else ())
    ]
    return [
        OrderObserved.read(output.headers, output.value)
        for output in outputs
        if output.topic == OrderObserved.topic
    ]


def rows(session: Session, statement: str) -> list[Any]:
    fetched = session.execute(statement.encode()).fetchall()
    session.rollback()
    return fetched


def webhook(
    received: dict[str, Any], event: str = "order_created", recipient: str = "seller", **more: Any
) -> Record:
    return VENDOR.record(Sample(form(received, event, recipient)), slug="tevo", **more)


def poll_record(polled_object: FoundObject) -> Record:
    """As the reader of polls publishes it."""
    return callbacks.record(
        polled_object.body,
        kind=polled_object.type,
        source="tevo",
        order=str(polled_object.external_id),
    )


def fetched_orders(session: Session, vendor: FakeTicketEvolution) -> list[Record]:
    """Return the orders in ingest.order_fetches, fetched from the vendor."""
    wanted = [
        order_id.partition(":")[2]
        for (order_id,) in rows(session, "select order_id from ingest.order_fetches")
    ]
    with httpx.Client(timeout=5) as http:
        return [
            poll_record(
                poll.fetch_order(http, PollConfig("tevo", vendor.url, TOKEN, SECRET), order_id)
            )
            for order_id in wanted
        ]


def polled(vendor: FakeTicketEvolution, now: float = NOW) -> list[Record]:
    """A whole round."""
    cursor, records, is_last = "", list[Record](), False
    with httpx.Client(timeout=5) as http:
        while not is_last:
            page = poll.read(http, PollConfig("tevo", vendor.url, TOKEN, SECRET), cursor, now)
            cursor, is_last = page.cursor, page.is_last
            records += [poll_record(polled) for polled in page.objects]
    return records


@pytest.mark.feature("SF-187", "SF-191")
def test_a_webhook_has_its_order_read_and_the_poll_adds_nothing(
    session: Session, vendor: FakeTicketEvolution
) -> None:
    truth = order(updated_at="2026-11-20T15:29:00Z", **ACCEPTED)
    vendor.put(truth)
    lie = {**truth, "buyer": {"type": "Client"}, "items": []}
    assert (
        published(work(session, webhook(lie), webhook(lie, reception_id="b-2"))) == []
    )  # nothing of it is believed
    fetched = fetched_orders(session, vendor)
    assert len(fetched) == 1
    (event,) = published(work(session, *fetched))
    assert (event.key, event.storefront and event.storefront.channel) == ("tevo:10324712", "tevo")
    assert event.storefront is not None
    assert [
        (line.product_id, line.quantity, line.is_eticket) for line in event.storefront.lines
    ] == [("58222", 2, True)]
    records = polled(vendor)
    assert len(records) == 1
    assert [type(outcome) for outcome in work(session, *records, *records, *fetched)] == [
        Duplicate
    ] * 3
    assert rows(session, "select sequence, incidents from ingest.orders") == [(1, [])]
    assert vendor.refusals == []


@pytest.mark.feature("SF-191")
def test_an_order_whose_webhook_was_lost_is_found_by_the_poll(
    session: Session, vendor: FakeTicketEvolution
) -> None:
    """And the webhook, when it comes late after all, has it read once more and changes nothing."""
    received = order(updated_at="2026-11-20T15:29:00Z", fraud_check_status=None)
    vendor.put(received)
    outcomes = work(session, *polled(vendor))  # pending, and changed since: it is found twice
    assert [type(outcome) for outcome in outcomes] == [Effect, Duplicate]
    (event,) = published(outcomes)
    assert event.storefront is not None
    assert event.storefront.status == "pending"
    work(session, webhook(received))
    assert [type(outcome) for outcome in work(session, *fetched_orders(session, vendor))] == [
        Duplicate
    ]


@pytest.mark.feature("SF-190")
def test_what_is_not_ours_to_act_on_is_kept_whole(session: Session) -> None:
    buyer, unknown = (
        webhook(order(), "order_accepted", "buyer"),
        webhook(order(), "order_teleported"),
    )
    assert published(work(session, buyer, unknown)) == []
    assert rows(session, "select cause, body from ingest.kept_callbacks order by cause") == [
        ("order_teleported", unknown.value),
        ("to us as a buyer: order_accepted", buyer.value),
    ]
    assert rows(
        session, "select kind, cause, sum(count) from ingest.drift_notices group by kind, cause"
    ) == [("unknown-type", "order_teleported", 1)]
    assert rows(session, "select order_id from ingest.order_fetches") == [("tevo:10324712",)]
    assert [type(outcome) for outcome in work(session, buyer, unknown)] == [Duplicate, Duplicate]


@pytest.mark.feature("SF-199")
def test_a_fraud_word_that_comes_late_is_superseded(
    session: Session, vendor: FakeTicketEvolution
) -> None:
    client = {"seller_state": "accepted"}
    histories = [
        ("2026-11-20T15:00:01Z", "pending"),
        ("2026-11-20T15:00:02Z", "pending"),
        ("2026-11-20T15:00:03Z", "approved"),
    ]
    fetched = []
    for at, word in histories:
        vendor.put(order(updated_at=at, fraud_check_status=word, **client))
        work(session, webhook(vendor.orders["10324712"], "fraud_response_received"))
        fetched += fetched_orders(session, vendor)
    outcomes = work(session, fetched[2], fetched[1], fetched[0])
    assert [type(outcome) for outcome in outcomes[1:]] == [
        Effect,
        Superseded,
    ]  # that it was pending once is news, once
    (event,) = published(outcomes)
    assert event.storefront is not None
    assert event.storefront.status == "accepted"


class TicketEvolutionEndpoint(WebhookEndpointProcess):
    """Serves Ticket Evolution instead."""

    def __init__(self, servers: str, slug: str, folder: Path) -> None:
        super().__init__(servers, slug, folder)
        text = (
            f'[sources.{slug}]\nkind = "ticketevolution"\nsecrets = ["env:WEBHOOK_OLD", '
            '"env:WEBHOOK_SECRET"]\n'
        )
        (folder / "sources.toml").write_text(text, "utf-8")

    @property
    def address(self) -> str:
        return f"{self.client.base_url}/hooks/{self.slug}".replace("//hooks", "/hooks")

    def post(self, body: bytes, tail: str = WORD) -> httpx.Response:
        return self.client.post(
            f"/hooks/{self.slug}/{tail}", content=body, headers={"Content-Type": FORM}
        )


@pytest.fixture
def endpoint(bootstrap_servers: str, tmp_path: Path) -> Iterator[TicketEvolutionEndpoint]:
    with TicketEvolutionEndpoint(bootstrap_servers, f"t{secrets.token_hex(4)}", tmp_path) as opened:
        yield opened


@pytest.mark.feature("SF-189", "SF-196")
def test_the_endpoint_answers_before_anything_is_done_with_it(
    endpoint: TicketEvolutionEndpoint, vendor: FakeTicketEvolution
) -> None:
    """No vendor is polled, and nothing of the form is parsed: malformed ones are answered too, and
    become dead letters.
    """
    vendor.fail(Answer(hangs=True))
    begin = time.monotonic()
    assert vendor.send_webhook(f"{endpoint.address}/{WORD}", order()).status_code == 200
    assert time.monotonic() - begin < 20  # the vendor would hang for longer
    assert (
        vendor.send_webhook(
            endpoint.address.replace("://", f"://tevo:{WORD}@"), order(), recipient="buyer"
        ).status_code
        == 200
    )
    for broken in (form("{"), b"", b"\xff", b"a=1&" * 1_000):
        assert endpoint.post(broken).status_code == 200
    assert vendor.requests == []
    kept = {record.value: record for record in endpoint.records()}
    assert len(kept) == 6
    assert kept[form(order())].key == f"{endpoint.slug}:10324712".encode()
    assert vendors.parse(kept[form(order())]).orders_to_fetch == (f"{endpoint.slug}:10324712",)
    for broken in (form("{"), b"", b"\xff", b"a=1&" * 1_000):
        with pytest.raises(CallbackUnreadable):
            SERVICE.parse(kept[broken])


@pytest.mark.feature("SF-180")
@pytest.mark.parametrize("first", ["webhook", "poll"])
def test_an_order_that_is_learnt_in_every_way_is_one_order_and_each_way_is_counted(
    endpoint: TicketEvolutionEndpoint, vendor: FakeTicketEvolution, session: Session, first: str
) -> None:
    """By its webhook twice, by the poll of pending orders and by that of changes. Holds come
    another way, through the issuer's entrance.
    """
    received, slug = (
        order(fraud_check_status=None, updated_at=datetime.now(UTC).isoformat()),
        endpoint.slug,
    )
    shop = SourceConfig(
        slug,
        vendors.WEBHOOK_SOURCES["ticketevolution"],
        (),
        poll=PollConfig(slug, vendor.url, TOKEN, SECRET),
    )
    poller = Poller(session, [shop])
    vendor.put(received)
    records = poller.settle()
    for _ in range(2):
        assert vendor.send_webhook(f"{endpoint.address}/{WORD}", received).status_code == 200
    webhooks = endpoint.records()
    if first == "poll":
        outcomes = poller.handle(records) + poller.handle(webhooks) + poller.handle(poller.settle())
    else:
        outcomes = poller.handle(webhooks) + poller.handle(poller.settle()) + poller.handle(records)
    assert [(event.key, event.sequence) for event in published(outcomes)] == [
        (f"{slug}:10324712", 1)
    ]
    assert rows(session, "select order_id, sequence, incidents from ingest.orders") == [
        (f"{slug}:10324712", 1, [])
    ]
    endpoint.until_metric(
        f'stubline_ingest_webhook_callbacks_total{{source="{slug}",status="200"}} 2.0'
    )
    assert metrics.value_of("stubline_ingest_poll_found_total", source=slug) == 2
    assert (
        metrics.value_of("stubline_ingest_poll_requests_total", source=slug, outcome="ok") == 3
    )  # one was fetched
    assert vendor.refusals == []


def test_an_unauthenticated_caller_is_refused_and_the_secret_word_stays_out_of_the_log(
    endpoint: TicketEvolutionEndpoint,
) -> None:
    body = form(order())
    for tail in ("", "guessed", WORD.upper(), f"{WORD}/x", "%ff"):
        assert endpoint.post(body, tail).status_code == 401
    assert endpoint.client.post(f"/hooks/{endpoint.slug}/{WORD}", json=order()).status_code == 415
    assert endpoint.post(body).status_code == 200
    assert len(endpoint.records()) == 1
    until(
        "a line counts the wrong signatures",
        lambda: "wrong signatures" in endpoint.log(),
    )
    assert endpoint.stop() == 0
    assert WORD not in endpoint.log()
