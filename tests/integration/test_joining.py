"""Two lanes, one with the shop's callbacks and one with its gateway's, on a real database: they
meet whichever commits first.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import orjson
import pytest
from psycopg.errors import SerializationFailure

from services.ingest import vendors, worker
from services.ingest.rules import facts
from services.ingest.rules.facts import DriftNotice, ParsedCallback
from services.runtime.observability import metrics
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Dead, Effect, Outcome
from tests.integration.test_ingest import CountingSession, kinds, published, rows
from tests.support.callbacks import record, woo_order
from tests.support.ingest import work
from tests.unit.ingest.test_joining import movement

ORDERS = 200
AT_ONCE = "2099-01-01T00:00:00.000000Z"


def from_shop(order: int) -> ParsedCallback:
    return vendors.parse(record(woo_order(id=order), order=str(order)))


def from_gateway(order: int, reference: str = "re_1") -> ParsedCallback:
    return facts.parsed_callback(
        f"gate {order} {reference}",
        None,
        payments=[f"shop/pi_{order:0>16}"],
        movements=(movement(reference),),
    )


def lane(
    url: str,
    batches: Sequence[Sequence[ParsedCallback]],
    outcomes: list[Outcome],
    conflicts: list[int],
) -> None:
    """As the runtime: what met another lane is done once more."""
    with connection.connect(url, name="lane", autocommit=False) as opened:
        for batch in batches:
            while (done := attempt(batch, opened)) is None:
                conflicts.append(1)
            outcomes.extend(done)


def attempt(batch: Sequence[ParsedCallback], opened: Session) -> list[Outcome] | None:
    try:
        done = worker.handle(batch, opened)
        opened.commit()
    except SerializationFailure:
        opened.rollback()
        return None
    return done


def cut(callbacks: Sequence[ParsedCallback], size: int) -> list[Sequence[ParsedCallback]]:
    return [callbacks[at : at + size] for at in range(0, len(callbacks), size)]


def test_lanes_that_bring_payments_and_orders_at_the_same_time_join_them_all(
    database_url: str,
    session: Session,
) -> None:
    """Whichever commits first: there is no deadlock, and no movement is lost between two
    transactions.
    """
    rng, outcomes, conflicts = Random(11), list[Outcome](), list[int]()
    shop = [from_shop(order) for order in range(ORDERS)]
    gateway = [from_gateway(order, name) for order in range(ORDERS) for name in ("re_1", "re_2")]
    threads = []
    for callbacks in (shop, gateway, [*gateway[::2], *shop[::2]]):
        mixed = rng.sample(callbacks, len(callbacks))
        threads.append(
            threading.Thread(target=lane, args=(database_url, cut(mixed, 40), outcomes, conflicts))
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert conflicts  # or the lanes never met
    stored = rows(session, "select order_id, facts::text from ingest.orders")
    assert len(stored) == ORDERS
    for _, written in stored:
        assert {"moved:gate:refund:re_1", "moved:gate:refund:re_2", "storefront"} <= orjson.loads(
            written
        ).keys()
    last = {
        event.key: event for event in sorted(published(outcomes), key=lambda event: event.sequence)
    }
    assert all(len(event.movements) == 2 for event in last.values())


def test_of_two_bodies_under_one_proof_one_counts_though_two_lanes_bring_them_at_once(
    database_url: str, session: Session
) -> None:
    """They name other orders, so no row that both lock holds one of them up."""
    rng, outcomes, conflicts = Random(5), list[Outcome](), list[int]()

    def proved(order: int, number: int) -> ParsedCallback:
        callback = facts.parsed_callback(
            f"gate event {order}", f"shop:{order}", movements=(movement(f"re_{order}"),)
        )
        return callback._replace(proof=(f"gate transmission {number}", callback.content_hash))

    lanes = [[proved(1_000 * own + number, number) for number in range(ORDERS)] for own in (1, 2)]
    threads = [
        threading.Thread(
            target=lane,
            args=(database_url, cut(rng.sample(callbacks, ORDERS), 20), outcomes, conflicts),
        )
        for callbacks in lanes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(kinds(outcomes), key=str) == sorted([Effect] * ORDERS + [Dead] * ORDERS, key=str)
    assert rows(session, "select count(*) from ingest.orders") == [(ORDERS,)]


def test_a_payment_that_no_order_names_waits_however_long(session: Session) -> None:
    early = work_callbacks(session, from_gateway(7))
    assert kinds(early) == [Effect]
    assert published(early) == []
    assert rows(session, "select payment, orders::text from ingest.payments") == [
        ("shop/pi_0000000000000007", "[]")
    ]
    (event,) = published(work(session, record(woo_order(id=7), order="7")))
    assert [(movement.kind, movement.amount_minor) for movement in event.movements] == [
        ("refund", 500)
    ]
    assert event.sequence == 1


def test_what_is_not_acted_on_is_kept_and_counted(session: Session) -> None:
    strange = DriftNotice("gate", "unknown-type", "the event type 'x.y'", b'{"x":1}', is_kept=True)
    plain = DriftNotice(
        "gate",
        "not-acted-on",
        "the event type 'balance'",
        b'{"y":2}',
        is_kept=True,
        is_reported=False,
    )
    callbacks = [
        facts.parsed_callback(f"gate {n}", None, drift=(strange if n % 2 else plain,))
        for n in range(6)
    ]
    assert kinds(work_callbacks(session, *callbacks)) == [Effect] * 6
    work_callbacks(session, *callbacks)  # sent again: known
    assert rows(
        session, "select cause, sum(count)::int from ingest.drift_notices group by cause"
    ) == [(strange.cause, 3)]
    assert rows(session, "select count(*), count(distinct body) from ingest.kept_callbacks") == [
        (6, 2)
    ]


def test_an_order_to_be_read_at_its_source_is_requested_once_for_each_callback(
    session: Session,
) -> None:
    callbacks = [
        facts.parsed_callback(f"tevo {n}", None, orders_to_fetch=("tevo:1",)) for n in range(3)
    ]
    work_callbacks(session, callbacks[0])
    work_callbacks(session, callbacks[0], callbacks[1])
    assert rows(session, "select order_id, requested, done from ingest.order_fetches") == [
        ("tevo:1", 2, 0)
    ]


def work_callbacks(session: Session, *callbacks: ParsedCallback) -> list[Outcome]:
    outcomes = worker.handle(callbacks, session)
    session.commit()
    return outcomes


@pytest.mark.parametrize("size", [1, 300])
def test_a_batch_of_payments_takes_the_same_round_trips_whatever_its_size(
    session: Session, size: int
) -> None:
    counted = CountingSession(session)
    callbacks = [from_gateway(order) for order in range(size)]
    worker.handle(callbacks, counted)  # type: ignore[arg-type]  # it only counts
    assert counted.statements == ["lock_payments", "lock_orders", "add_callbacks", "add_payments"]


@pytest.mark.feature("SF-188")
def test_the_wait_from_the_endpoint_to_the_order_is_measured(session: Session) -> None:
    def measured(what: str) -> float:
        (line,) = [
            line
            for line in metrics.exposition().decode().splitlines()
            if line.startswith(f"stubline_ingest_wait_seconds_{what} ")
        ]
        return float(line.split()[1])

    before = measured("count"), measured("sum")
    took = datetime.now(UTC) - timedelta(seconds=5)
    at = took.isoformat(timespec="microseconds")[:26] + "Z"
    late, later = (
        record(woo_order(id=order), order=str(order), at=moment)
        for order, moment in ((8, at), (9, AT_ONCE))
    )
    work(session, late, later)
    assert measured("count") == before[0] + 1  # of the oldest of the batch
    assert 5 <= measured("sum") - before[1] < 20
