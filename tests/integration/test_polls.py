"""Polls on a real database, against vendors that are real HTTP servers: what webhooks lost is
found, nothing else is added.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

import pytest

from schemas.callbacks import STRIPE
from schemas.orders import OrderObserved
from services.ingest import vendors
from services.ingest.config.sources_file import SourceConfig
from services.ingest.store import IngestStore
from services.ingest.vendors.shared.poll import PollConfig
from services.runtime.observability import metrics
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Duplicate, Effect, Outcome, Record
from tests.support.callbacks import record
from tests.support.polling import Poller, stripe_shop, woo_shop
from tests.support.vendors import Sample
from tests.support.vendors.fake_stripe import FakeStripe
from tests.support.vendors.fake_ticketevolution import SECRET, TOKEN, FakeTicketEvolution
from tests.support.vendors.fake_woocommerce import FakeWooCommerce
from tests.support.vendors.ticketevolution import VENDOR as TEVO
from tests.support.vendors.ticketevolution import form
from tests.support.vendors.ticketevolution import order as tevo_order

NOW = int(time.time())


@pytest.fixture
def shop() -> Iterator[FakeWooCommerce]:
    with FakeWooCommerce() as vendor:
        vendor.add_webhook("shop")
        yield vendor
        assert vendor.faults == []


@pytest.fixture
def payments() -> Iterator[FakeStripe]:
    with FakeStripe() as vendor:
        vendor.add_endpoint("payments")
        yield vendor
        assert vendor.faults == []


@pytest.fixture
def poller(session: Session, shop: FakeWooCommerce) -> Poller:
    return Poller(session, [woo_shop(shop)])


def keys(records: Sequence[Record]) -> list[str]:
    return sorted((record.key or b"").decode() for record in records)


def kinds(outcomes: Sequence[Outcome]) -> list[type[Outcome]]:
    return [type(outcome) for outcome in outcomes]


def published(outcomes: Sequence[Outcome]) -> list[OrderObserved]:
    outputs = [
        event.encode(time="2026-11-20T15:30:00Z", traceparent=None)
        for outcome in outcomes
        if isinstance(outcome, Effect)
        for event in outcome.outputs
    ]
    return [OrderObserved.read(output.headers, output.value) for output in outputs]


def state(poller: Poller, object_kind: str = "orders") -> tuple[str, int, str]:
    ((number, failures, last_error),) = poller.rows(
        f"select state, failures, last_error from ingest.polls where object_kind = '{object_kind}'"
    )
    return number, failures, last_error


def test_what_a_webhook_lost_is_found_and_published_like_a_callback(
    poller: Poller, shop: FakeWooCommerce
) -> None:
    for number in range(1, 251):
        shop.put(number, NOW - 600 + number)
    shop.put(300, NOW - 60, "trash")
    records = poller.settle()
    assert keys(records) == sorted(f"shop:{number}" for number in [*range(1, 251), 300])
    events = published(poller.handle(records))
    assert len(events) == 251
    assert {event.storefront.status for event in events if event.storefront} == {
        "completed",
        "trash",
    }
    assert poller.poll_again() == []  # what an overlap shows again is known
    shop.put(7, NOW - 30, "refunded")
    (event,) = published(poller.handle(poller.poll_again()))
    assert event.key == "shop:7"


def test_when_the_webhook_came_the_poll_adds_nothing(poller: Poller, shop: FakeWooCommerce) -> None:
    for number in range(1, 121):
        shop.put(number, NOW - 600 + number // 40)
    topics = ("order.created", "order.updated")
    came = [
        record(shop.body(number), callback_type=topics[number % 2], order=str(number))
        for number in shop.orders
    ]
    assert len(published(poller.handle(came))) == 120
    outcomes = poller.handle(poller.settle())
    assert len(outcomes) == 120
    assert {type(outcome) for outcome in outcomes} == {Duplicate}
    assert poller.rows(
        "select count(*) from ingest.orders where sequence <> 1 or incidents::text <> '[]'"
    ) == [(0,)]


def test_a_page_that_dies_between_its_reading_and_the_commit_is_requested_again(
    poller: Poller, session: Session, shop: FakeWooCommerce
) -> None:
    shop.put(1, NOW - 60)
    poller.tick()
    poller.await_results()  # read, and in the slot
    killed = poller
    after = Poller(session, killed.configs)
    assert keys(after.settle()) == ["shop:1"]
    killed.await_results()
    assert killed.tick() == 0  # it lives after all: its page is from a cursor that has moved
    assert killed.records == []


def test_a_tick_that_is_rolled_back_loses_no_callback(
    poller: Poller, shop: FakeWooCommerce
) -> None:
    for number in range(1, 151):
        shop.put(number, NOW - 600 + number)
    poller.tick()
    for _ in range(12):
        poller.await_results()
        poller.tick(commits=False)
        poller.await_results()
        poller.tick()
        poller.await_results()
    assert set(keys(poller.records + poller.settle())) == {
        f"shop:{number}" for number in range(1, 151)
    }


def test_a_page_that_is_too_much_for_one_commit_is_published_in_parts_and_in_whole(
    poller: Poller, shop: FakeWooCommerce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.poller.scheduler.TICK_BYTES_MAX", 20_000)
    for number in range(1, 61):
        shop.put(number, NOW - 600 + number)
    poller.tick()
    ticks = list[int]()
    while set(keys(poller.records)) != {f"shop:{number}" for number in range(1, 61)}:
        poller.await_results()
        poller.tick(commits=len(ticks) % 3 != 1)  # the others never were
        ticks.append(len(poller.records))
        assert len(ticks) < 200
    assert len(set(ticks)) > 5
    assert (
        len(keys(poller.records)) <= 120
    )  # a last part that is rolled back costs the page once more


def test_what_was_published_of_a_page_does_not_count_for_the_page_of_another_process(
    poller: Poller, session: Session, shop: FakeWooCommerce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.poller.scheduler.TICK_BYTES_MAX", 20_000)
    for number in range(1, 31):
        shop.put(number, NOW - 600 + number)
    poller.tick()
    poller.await_results()
    assert 0 < poller.tick() < 30  # and dies
    shop.orders = {
        number: polled for number, polled in shop.orders.items() if number > 10
    }  # the page begins elsewhere now
    assert set(keys(Poller(session, poller.configs).settle())) == {
        f"shop:{number}" for number in range(11, 31)
    }


@pytest.mark.parametrize(
    ("way", "last_error"),
    [
        ("500", "response 500"),
        ("broken", "the response is not JSON"),
        ("huge", "the response is too large"),
        ("hang", "ReadTimeout"),
        ("elsewhere", "response 302"),
        ("gzip", "the response is encoded"),
        ("404", "response 404"),
    ],
)
def test_a_vendor_that_fails_is_polled_again_later_and_nothing_is_lost(
    session: Session, shop: FakeWooCommerce, way: str, last_error: str
) -> None:
    shop.put(1, NOW - 60)
    poller = Poller(session, [woo_shop(shop)])
    shop.behave(way)
    assert keys(poller.settle()) in ([], ["shop:1"])  # whichever poll it met
    failed = poller.rows(
        "select last_error, next_at > now() + interval '4 s' from ingest.polls where failures > 0"
    )
    assert [(failure[0].startswith(last_error), failure[1]) for failure in failed] == [(True, True)]
    poller.poll_again()
    assert keys(poller.records) == ["shop:1"]
    assert poller.rows(
        "select count(*) from ingest.polls where failures > 0 or last_error <> ''"
    ) == [(0,)]


@pytest.mark.parametrize("wait", ["429 70", "503 70", "429 Fri,_20_Nov_2099_15:30:08_GMT"])
def test_retry_after_is_respected_by_all_polls_of_a_source(
    poller: Poller, shop: FakeWooCommerce, wait: str
) -> None:
    shop.behave(wait)
    poller.settle()
    assert len(shop.requests) == 1
    ((seconds,),) = poller.rows(
        "select extract(epoch from circuit_open_until - now())::float8 from ingest.polled_sources"
    )
    assert 60 < seconds <= 70 or 3_500 < seconds <= 3_600
    assert poller.tick() == 0
    assert not poller.workers.busy


def test_a_source_that_is_unavailable_opens_its_breaker_and_is_then_tried_once(
    session: Session, poller: Poller, shop: FakeWooCommerce
) -> None:
    shop.put(1, NOW - 60)
    shop.behave(*["500"] * 4)
    poller.settle()
    assert len(shop.requests) == 3  # one for each poll; then the breaker is open
    session.execute(b"update ingest.polls set next_at = now()")
    session.commit()
    poller.settle()
    assert len(shop.requests) == 3
    session.execute(b"update ingest.polled_sources set circuit_open_until = now()")
    session.commit()
    poller.settle()
    assert len(shop.requests) == 4  # the trial failed, and closes it again
    assert poller.rows(
        "select failures, circuit_open_until > now() from ingest.polled_sources"
    ) == [(4, True)]
    assert keys(poller.poll_again()) == ["shop:1"]
    assert poller.rows(
        "select failures, circuit_open_until > now() from ingest.polled_sources"
    ) == [(0, False)]


def test_refused_credentials_suspend_their_polls_visibly_until_the_next_start(
    session: Session, shop: FakeWooCommerce
) -> None:
    shop.put(1, NOW - 60)
    wrong = Poller(session, [woo_shop(shop, secret="cs_revoked")])
    assert wrong.settle() == []
    assert state(wrong)[:2] == ("suspended", 1)
    assert "cs_revoked" not in state(wrong)[2]
    wrong.report()
    assert metrics.value_of("stubline_ingest_polls_suspended", source="shop") == 3
    requests_before = len(shop.requests)
    wrong.settle()
    assert len(shop.requests) == requests_before
    assert keys(Poller(session, [woo_shop(shop)]).settle()) == ["shop:1"]


def test_a_disabled_webhook_is_reported(poller: Poller, shop: FakeWooCommerce) -> None:
    poller.settle()
    assert poller.rows("select * from ingest.drift_notices") == []
    shop.webhooks[0]["status"] = "disabled"
    poller.poll_again()
    ((source, kind, cause),) = poller.rows("select source, kind, cause from ingest.drift_notices")
    assert (source, kind) == ("shop", "webhook-disabled")
    assert cause.startswith("the webhook 1 is disabled")
    poller.report()
    assert metrics.value_of("stubline_ingest_poll_warnings", source="shop") == 1


def test_a_shop_with_etags_gets_what_is_known_and_answers_that_nothing_changed(
    poller: Poller, shop: FakeWooCommerce
) -> None:
    shop.has_tags = True
    shop.put(1, NOW - 60)
    poller.settle()
    poller.poll_again()
    requests_before = len(shop.requests)
    assert poller.poll_again() == []
    later = shop.requests[requests_before:]
    assert {
        request.headers.get("if-none-match", "")[:3]
        for request in later
        if request.path.endswith("/orders")
    } == {'W/"'}
    shop.put(1, NOW - 60, "refunded")
    assert keys(poller.poll_again()) == ["shop:1"]


def test_undelivered_events_are_found_under_the_shop_of_their_orders(
    session: Session, payments: FakeStripe
) -> None:
    poller = Poller(session, [stripe_shop(payments)])
    names = [payments.put(NOW - 600 + number) for number in range(250)]
    payments.delivered = set(names[::2])
    records = poller.settle()
    assert sorted(json.loads(record.value or b"")["id"] for record in records) == sorted(
        names[1::2]
    )
    headers = dict(records[0].headers)
    assert (headers["ce_source"], headers["ce_ordersof"]) == (b"/sources/payments", b"shop")
    assert headers["ce_type"] == b"stubline.callback.stripe.v1"
    assert kinds(poller.handle(records)) == [Effect] * 125
    called = record(
        json.dumps(payments.body(names[1], NOW - 599)).encode(),
        kind=STRIPE,
        source="payments",
        orders_of="shop",
    )
    assert kinds(poller.handle([called])) == [Duplicate]  # the webhook came after all
    assert poller.poll_again() == []
    payments.put(NOW)
    assert len(poller.poll_again()) == 1


def test_an_unsigned_webhook_has_its_order_read_and_the_poll_finds_what_was_lost(
    session: Session,
) -> None:
    """Ticket Evolution through everything: two ways in, one order each, and nothing twice."""
    with FakeTicketEvolution() as vendor:
        polled = PollConfig("tevo", vendor.url, TOKEN, SECRET)
        poller = Poller(
            session,
            [SourceConfig("tevo", vendors.WEBHOOK_SOURCES["ticketevolution"], (), poll=polled)],
        )
        named, lost = (
            tevo_order(id=number, oid=f"9-{number}", fraud_check_status=None)
            for number in (101, 102)
        )
        assert poller.settle() == []
        vendor.put(named)
        poller.handle([TEVO.record(Sample(form(named, "order_created", "seller")), slug="tevo")])
        read = poller.settle()
        assert keys(read) == ["tevo:101"]
        assert kinds(poller.handle(read)) == [Effect]
        assert poller.rows("select requested, done from ingest.order_fetches") == [(1, 1)]
        vendor.put(lost)  # its webhook never comes
        assert kinds(poller.handle(poller.poll_again())) == [Duplicate, Effect]
        assert poller.rows("select order_id, sequence from ingest.orders order by 1") == [
            ("tevo:101", 1),
            ("tevo:102", 1),
        ]
        assert vendor.refusals == []


def request_read(session: Session, *order_ids: str) -> None:
    IngestStore(session).request_order_fetches(sorted(order_ids))
    session.commit()


def test_orders_that_a_source_spoke_of_without_proof_are_read_there(
    session: Session, poller: Poller, shop: FakeWooCommerce
) -> None:
    shop.put(1, NOW - 90 * 86_400)
    shop.put(2, NOW - 90 * 86_400)
    request_read(session, "shop:1", "shop:2", "elsewhere:3")
    assert keys(poller.settle()) == ["shop:1", "shop:2"]
    assert poller.rows("select order_id from ingest.order_fetches where requested > done") == [
        ("elsewhere:3",)
    ]
    request_read(session, "shop:1")
    assert keys(poller.settle()) == ["shop:1"]
    poller.report()
    assert metrics.value_of("stubline_ingest_order_fetches_waiting", source="?") == 1


def test_an_order_that_is_requested_while_it_is_read_is_read_again(
    session: Session, poller: Poller, shop: FakeWooCommerce
) -> None:
    poller.settle()
    shop.put(1, NOW - 90 * 86_400)
    request_read(session, "shop:1")
    poller.tick()
    poller.await_results()
    request_read(session, "shop:1")
    assert keys(poller.settle()) == ["shop:1", "shop:1"]
    assert poller.rows("select requested, done from ingest.order_fetches") == [(2, 2)]


def test_an_order_that_its_source_does_not_have_is_reported_missing_after_some_tries(
    session: Session, poller: Poller
) -> None:
    request_read(session, "shop:404")
    for tries in range(1, 6):
        assert poller.settle() == []
        assert poller.rows("select failures, done from ingest.order_fetches") == [
            (tries, 0) if tries < 5 else (0, 1)
        ]
        session.execute(b"update ingest.order_fetches set next_at = now()")
        session.commit()
    assert poller.rows("select kind, encode(example, 'escape') from ingest.drift_notices") == [
        ("order-missing", "404")
    ]


def test_two_processes_never_move_a_cursor_twice_from_the_same_place(
    database_url: str, shop: FakeWooCommerce
) -> None:
    """As when the timer changes hands: the former one's answer comes late."""
    for number in range(1, 301):
        shop.put(number, NOW - 600 + number)
    with (
        connection.connect(database_url, name="one", autocommit=False) as first,
        connection.connect(database_url, name="two", autocommit=False) as second,
    ):
        one, two = Poller(first, [woo_shop(shop)]), Poller(second, [woo_shop(shop)])
        for round_number in range(24):
            poller = (one, two)[round_number % 2]
            poller.tick()
            poller.await_results()
        records = one.records + two.records + one.settle() + two.settle()
    assert set(keys(records)) == {f"shop:{number}" for number in range(1, 301)}
