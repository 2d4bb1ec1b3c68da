"""The worker's transaction on a real database: what is stored, what is published, and what the
constraints refuse.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg.errors import SerializationFailure

from schemas.orders import OrderObserved
from services.ingest import vendors, worker
from services.ingest.store import SQL, IngestStore
from services.runtime.observability import metrics
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Dead, Duplicate, Effect, Outcome, Record, Superseded
from tests.support.callbacks import native, native_order, record, woo_order
from tests.support.ingest import work

SECOND = "2026-11-20T15:28:{:02d}"


def kinds(outcomes: Sequence[Outcome]) -> list[type[Outcome]]:
    return [type(outcome) for outcome in outcomes]


def published(outcomes: Sequence[Outcome]) -> list[OrderObserved]:
    """As a reader on the other side of the broker reads it."""
    events = []
    for outcome in outcomes:
        for event in outcome.outputs if isinstance(outcome, Effect) else ():
            output = event.encode(time="2026-11-20T15:30:00.000000Z", traceparent=None)
            events.append(OrderObserved.read(output.headers, output.value))
    return events


def order_record(status: str, second: int = 0, order: int = 727, **more: Any) -> Record:
    body = woo_order(id=order, status=status, date_modified_gmt=SECOND.format(second))
    return record(body, order=str(order), **more)


def trashed(order: int = 727, **more: Any) -> Record:
    return record(
        f'{{"id":{order}}}'.encode(), callback_type="order.deleted", order=str(order), **more
    )


def rows(session: Session, statement: str, *arguments: object) -> list[Any]:
    fetched = session.execute(statement.encode(), arguments).fetchall()
    session.rollback()
    return fetched


def test_an_order_is_published_once_with_all_that_is_known(session: Session) -> None:
    outcomes = work(
        session,
        order_record("pending", 1),
        order_record("processing", 2),
        order_record("completed", 3),
    )
    assert kinds(outcomes) == [Effect, Effect, Effect]
    (event,) = published(outcomes)
    assert (event.key, event.source, event.external_id) == ("shop:727", "shop", "727")
    assert (event.generation, event.sequence) == (1, 1)
    assert event.storefront is not None
    assert event.storefront.status == "completed"
    assert sorted(event.reached) == ["completed", "pending", "processing"]
    assert event.new == ("reached:completed", "reached:pending", "reached:processing", "storefront")
    assert not event.is_deleted


@pytest.mark.feature("SF-014")
@pytest.mark.parametrize("times", [2, 5, 100])
def test_a_callback_sent_many_times_is_one_effect(session: Session, times: int) -> None:
    copies = [order_record("completed", reception_id=f"r-{n}") for n in range(times)]
    at_once = work(session, *copies)
    assert kinds(at_once) == [Effect] + [Duplicate] * (times - 1)
    spaced = [outcome for copy in copies[:5] for outcome in work(session, copy)]
    assert set(kinds(spaced)) == {Duplicate}
    assert len(published(at_once + spaced)) == 1
    assert rows(session, "select count(*) from ingest.callbacks") == [(1,)]


@pytest.mark.feature("SF-014")
def test_copies_that_two_lanes_work_at_the_same_time_are_one_effect(database_url: str) -> None:
    """Several partitions, or a lane and its replays: the second waits for the order's row, and
    decides again.
    """
    ended, conflicts = list[Outcome](), list[int]()
    begin = threading.Barrier(4)

    def lane() -> None:
        with connection.connect(database_url, name="lane", autocommit=False) as opened:
            begin.wait(10)
            batch = [order_record("completed", order=order) for order in range(100)]
            try:
                ended.extend(work(opened, *batch))
            except SerializationFailure:  # of the moment: the runtime tries again
                opened.rollback()
                conflicts.append(1)
                ended.extend(work(opened, *batch))

    threads = [threading.Thread(target=lane) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ended) == 400
    assert len(published(ended)) == 100
    assert kinds(ended).count(Effect) == 100
    assert conflicts  # or the lanes never met


def test_an_old_body_under_the_topic_of_a_restoration_undoes_no_deletion(session: Session) -> None:
    """No signature covers the topic."""
    old = woo_order(status="completed", date_modified_gmt="2026-11-18T15:28:08")
    work(session, record(old))
    work(
        session,
        record(b'{"id":727}', callback_type="order.deleted", at="2026-11-20T15:30:00.000000Z"),
    )
    replayed = work(
        session, record(old, callback_type="order.restored", at="2026-11-20T15:31:00.000000Z")
    )
    assert published(replayed) == []
    assert rows(session, "select facts -> 'deletion' ->> 'content' from ingest.orders") == [
        ("true",)
    ]
    restored = woo_order(status="completed", date_modified_gmt="2026-11-20T15:31:30")
    (event,) = published(
        work(
            session,
            record(restored, callback_type="order.restored", at="2026-11-20T15:32:00.000000Z"),
        )
    )
    assert not event.is_deleted


def test_two_lanes_with_one_order_wait_for_each_other(database_url: str, session: Session) -> None:
    """Both read the order's row to write it again: without the lock the second would overwrite the
    facts of the first.
    """
    work(session, order_record("pending", 1))
    held = IngestStore(session)
    held.lock_payments(["shop/ch_0000000000000727", "shop/pi_0000000000000727"])
    held.lock_orders(["shop:727"])  # as far as the first lane has come
    later: list[Outcome] = []

    def lane() -> None:
        with connection.connect(database_url, name="lane", autocommit=False) as opened:
            later.extend(work(opened, order_record("completed", 3)))

    second = threading.Thread(target=lane)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    work(session, order_record("processing", 2))
    second.join(60)
    (event,) = published(later)
    assert event.sequence == 3
    assert sorted(event.reached) == ["completed", "pending", "processing"]


@pytest.mark.feature("SF-031", "SF-032")
@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_the_first_callback_of_an_order_may_be_its_end(session: Session, status: str) -> None:
    (event,) = published(work(session, order_record(status, 5)))
    assert event.storefront is not None
    assert event.storefront.status == status
    assert list(event.reached) == [status]
    late = work(session, order_record("completed", 2))
    (event,) = published(late)  # that it was completed once is news; what it is has not changed
    assert event.storefront.status == status if event.storefront else False
    assert event.reached["completed"] < event.reached[status]
    assert kinds(work(session, order_record("completed", 2))) == [Duplicate]
    assert kinds(work(session, order_record("completed", 1))) == [Superseded]


@pytest.mark.feature("SF-070")
def test_trash_restore_and_trash_again_deletes_again(session: Session) -> None:
    work(session, order_record("completed"))
    events = []
    for minute, topic in enumerate(["order.deleted", "order.restored", "order.deleted"]):
        at = f"2026-11-20T16:{minute:02d}:00.000000Z"
        restored = record(woo_order(status="completed"), callback_type=topic, at=at)
        events += published(work(session, trashed(at=at) if topic == "order.deleted" else restored))
    assert [event.is_deleted for event in events] == [True, False, True]
    assert [event.sequence for event in events] == [2, 3, 4]
    assert kinds(work(session, trashed(at="2026-11-20T16:03:00.000000Z"))) == [Duplicate]
    assert rows(session, "select incidents from ingest.orders") == [([],)]


@pytest.mark.feature("SF-070")
def test_an_order_of_which_only_the_deletion_is_known_is_published_too(session: Session) -> None:
    (event,) = published(work(session, trashed()))
    assert event.is_deleted
    assert event.storefront is None
    (event,) = published(work(session, order_record("completed")))
    assert event.is_deleted


def test_every_order_of_arrival_ends_the_same(session: Session) -> None:
    sent = [
        order_record("pending", 1),
        order_record("processing", 2),
        order_record("completed", 3),
        order_record("cancelled", 3),
        trashed(at="2026-11-20T16:00:00.000000Z"),
        record(
            woo_order(status="completed"),
            callback_type="order.restored",
            at="2026-11-20T16:01:00.000000Z",
        ),
    ]
    ends, rng = set(), Random(7)
    for callbacks_in_order in [sent, *(rng.sample(sent + sent, 12) for _ in range(20))]:
        session.execute(b"truncate ingest.orders, ingest.callbacks")
        size = rng.randint(1, 5)
        for at in range(0, len(callbacks_in_order), size):
            work(session, *callbacks_in_order[at : at + size])
        ends.add(str(rows(session, "select facts, digest from ingest.orders")))
    assert len(ends) == 1


def test_one_key_with_conflicting_content_is_noted_and_blocks_nothing(session: Session) -> None:
    before = metrics.value_of("stubline_ingest_content_conflicts_total")
    first, other = (
        order_record("completed", 8),
        record(woo_order(status="completed", total="16.00")),
    )
    outcomes = work(session, first) + work(session, other)
    assert isinstance(outcomes[1], Effect | Superseded)
    ((incidents,),) = rows(session, "select incidents from ingest.orders")
    assert incidents == ["shop:727 order.updated 2026-11-20T15:28:08 completed"]
    assert rows(session, "select count(*) from ingest.callbacks") == [(2,)]
    assert (
        metrics.value_of("stubline_ingest_content_conflicts_total") == before
    )  # the runtime raises it, after its commit
    assert (outcomes[1].counts or {})["stubline_ingest_content_conflicts_total"] == 1


def test_native_and_other_shops_orders_of_the_same_id_are_different_orders(
    session: Session,
) -> None:
    batch = [
        order_record("completed"),
        order_record("completed", source="other"),
        native(native_order(source="third"), source="third"),
    ]
    assert [event.key for event in published(work(session, *batch))] == [
        "shop:727",
        "other:727",
        "third:727",
    ]


def test_a_restore_from_a_backup_gives_the_next_event_a_greater_position(session: Session) -> None:
    (first,) = published(work(session, order_record("pending", 1)))
    session.execute(b"update runtime.generation set generation = generation + 1")
    (later,) = published(work(session, order_record("completed", 2)))
    assert later.position > first.position
    assert later.generation == first.generation + 1
    assert rows(session, "select generation, sequence from ingest.orders") == [(2, 2)]


def test_a_batch_takes_the_same_round_trips_whatever_its_size(session: Session) -> None:
    for size in (1, 500):
        counted = CountingSession(session)
        callbacks = [
            vendors.parse(order_record("completed", order=size * 1_000 + n)) for n in range(size)
        ]
        worker.handle(callbacks, counted)  # type: ignore[arg-type]  # it only counts
        assert counted.statements == [
            "lock_payments",
            "lock_orders",
            "add_callbacks",
            "add_payments",
            "add_orders",
        ]
        counted.statements.clear()
        callbacks = [
            vendors.parse(order_record("completed", order=size * 1_000 + n)) for n in range(size)
        ]
        worker.handle(callbacks, counted)  # type: ignore[arg-type]  # it only counts
        assert counted.statements == ["lock_payments", "lock_orders", "add_callbacks"]


class CountingSession:
    """A session that counts its statements."""

    def __init__(self, session: Session) -> None:
        self._session, self.statements = session, list[str]()
        self._names = {text: name for name, text in SQL.items()}

    def execute(self, statement: bytes, arguments: dict[str, Any]) -> psycopg.Cursor[Any]:
        self.statements.append(self._names[statement])
        return self._session.execute(statement, arguments)


def test_an_order_beyond_all_statuses_is_a_dead_letter_and_its_neighbours_go_on(
    session: Session,
) -> None:
    work(session, *(order_record(f"status-{n}", n % 60) for n in range(99)))
    outcomes = work(session, order_record("one-more"), order_record("completed", order=1))
    assert kinds(outcomes) == [Dead, Effect]
    assert isinstance(outcomes[0], Dead)
    assert outcomes[0].subject_key == "shop:727"
    assert outcomes[0].error.code == "ingest-too-many-facts"
    assert (
        "shop" not in outcomes[0].error.cause
    )  # the same words for every order: they are one incident


@pytest.mark.parametrize(
    "wrong",
    [
        "insert into ingest.orders values ('x', 1, 1, sha256('x'), '{}', '[]')",
        "insert into ingest.orders values ('shop:1', -1, 1, sha256('x'), '{}', '[]')",
        "insert into ingest.orders values ('shop:1', 1, 0, sha256('x'), '{}', '[]')",
        "insert into ingest.orders values ('shop:1', 1, 1, 'short', '{}', '[]')",
        "insert into ingest.orders values ('shop:1', 1, 1, sha256('x'), '[]', '[]')",
        "insert into ingest.orders values ('shop:1', 1, 1, sha256('x'), '{}', '{}')",
        "insert into ingest.orders values ('shop:1', 1, 1, sha256('x'), null, '[]')",
        "insert into ingest.callbacks (key, content_hash) values ('k', 'short')",
        "insert into ingest.callbacks (key, content_hash) values ('', sha256('x'))",
        (
            "insert into ingest.callbacks (key, content_hash) select 'k', sha256('x') from "
            "generate_series(1, 2)"
        ),
    ],
)
def test_what_is_malformed_is_no_row(session: Session, wrong: str) -> None:
    with pytest.raises(psycopg.IntegrityError):
        session.execute(wrong.encode())
