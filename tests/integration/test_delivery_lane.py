"""The lane on a real database: jobs created once, events published once, dead letters of senders
replayed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from deploy.local.mail import Mail
from schemas.envelope import SerializedSnapshot
from schemas.orders import DeliveriesChanged, Person
from services.console.cli import run
from services.delivery.rules import DeliveryInput
from services.delivery.settings import DeliverySettings
from services.delivery.store import DeliveryStore
from services.delivery.worker import JOBS, BacklogLimit, handle, parse
from services.runtime.records import Duplicate, Effect, Record, Superseded
from tests.support.deliveries import Deliveries, decided, deliveries, issued, ticket_id

ORDER = "shop:1"


@pytest.fixture
def lane(database_url: str, tmp_path: Path) -> Iterator[Deliveries]:
    """Without senders: its mail server never starts."""
    with deliveries(database_url, Mail(tmp_path, 1, detached=False), tmp_path) as site:
        yield site


def test_a_paid_order_has_one_job_with_all_its_tickets(lane: Deliveries) -> None:
    assert [
        type(outcome)
        for outcome in lane.receive(decided(ORDER, 1), issued(ORDER, 1, "Active", "Active"))
    ] == [Effect, Effect]
    [job] = lane.jobs()
    assert (job["state"], job["is_held"], job["kind"]) == ("due", False, "initial")
    assert job["ticket_ids"] == sorted([ticket_id(ORDER, 1), ticket_id(ORDER, 2)])


def test_what_arrives_again_or_late_changes_nothing(lane: Deliveries) -> None:
    lane.receive(decided(ORDER, 1), issued(ORDER, 2, "Active"))
    before = lane.jobs()
    outcomes = lane.receive(
        issued(ORDER, 2, "Active"), issued(ORDER, 1, "Cancelled"), decided(ORDER, 1)
    )
    assert [type(outcome) for outcome in outcomes] == [Duplicate, Superseded, Duplicate]
    assert lane.jobs() == before


@pytest.mark.parametrize("seed", range(6))
def test_many_orders_received_in_any_order_and_any_batches_end_the_same(
    lane: Deliveries, seed: int
) -> None:
    rng = random.Random(seed)
    inputs: list[DeliveryInput] = []
    for number in range(40):
        order_id = f"shop:{number}"
        inputs += [
            decided(order_id, 1, "gated"),
            decided(order_id, 2),
            issued(order_id, 1, "Active", "Active"),
        ]
        inputs += [
            issued(order_id, 2, "Active", "Cancelled"),
            issued(order_id, 3, "Active", "Cancelled", "Active"),
        ]
    inputs += rng.choices(inputs, k=60)
    rng.shuffle(inputs)
    while inputs:
        size = rng.randint(1, 50)
        lane.receive(*inputs[:size])
        inputs = inputs[size:]
    assert lane.without_job() == []
    assert {(job["state"], job["is_held"]) for job in lane.jobs()} <= {
        ("due", False),
        ("cancelled", False),
    }
    sendable = lane.rows(
        "select count(distinct member.ticket_id) from delivery.job_tickets as member join "
        "delivery.jobs using (job_id)"
        " join delivery.orders using (order_id), jsonb_array_elements(tickets -> 'tickets') as "
        "ticket"
        " where state = 'due' and (ticket ->> 'ticket_id')::uuid = member.ticket_id and ticket "
        "->> 'status' = 'Active'"
    )
    assert sendable == [{"count": 80}]


def test_a_ticket_cannot_stand_in_two_initial_jobs(lane: Deliveries) -> None:
    lane.paid(ORDER, 1)
    lane.paid("shop:2", 1)
    other = lane.jobs("shop:2")[0]["job_id"]
    with pytest.raises(psycopg.errors.UniqueViolation):
        lane.rows(
            "insert into delivery.job_tickets values (%s, 'initial', %s)",
            other,
            ticket_id(ORDER, 1),
        )


def test_a_job_cannot_be_dead_without_its_dead_letter_or_sent_without_its_time(
    lane: Deliveries,
) -> None:
    lane.paid(ORDER, 1)
    for state in ("dead", "sent"):
        with pytest.raises(psycopg.errors.CheckViolation):
            lane.rows("update delivery.jobs set state = %s", state)


def test_a_batch_takes_the_same_round_trips_whatever_its_size(lane: Deliveries) -> None:
    def statements(orders: range) -> int:
        inputs = [
            event
            for n in orders
            for event in (decided(f"shop:{n}", 1), issued(f"shop:{n}", 1, "Active", "Active"))
        ]
        counted = CountingConnection(lane.connection)
        with lane.connection.transaction():
            handle(inputs, counted)  # type: ignore[arg-type]  # a connection that counts
        return counted.statements

    assert statements(range(1)) == statements(range(1, 300)) == 6


class CountingConnection:
    """A connection that counts what goes through it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection, self.statements = connection, 0

    def execute(self, *arguments: Any) -> Any:
        self.statements += 1
        return self._connection.execute(*arguments)

    def cursor(self, **options: Any) -> Any:
        self.statements += 1  # the store makes one for one statement
        return self._connection.cursor(**options)


def published(lane: Deliveries) -> list[DeliveriesChanged]:
    published = [output.event for output in lane.tick() if isinstance(output, SerializedSnapshot)]
    return [event for event in published if isinstance(event, DeliveriesChanged)]


def test_the_tick_publishes_each_change_once_and_no_change_never(lane: Deliveries) -> None:
    lane.paid(ORDER)
    [first] = published(lane)
    assert (first.key, first.sequence, [job.state for job in first.jobs]) == (ORDER, 1, ["due"])
    assert published(lane) == []
    lane.rows("update delivery.orders set dirty_since = now() returning 1")
    assert published(lane) == []  # looked at, and nothing is new
    lane.receive(issued(ORDER, 2, "Cancelled", "Cancelled"))
    [second] = published(lane)
    assert (second.sequence, [job.state for job in second.jobs]) == (2, ["cancelled"])


def test_a_restore_makes_the_next_word_of_a_new_generation(lane: Deliveries) -> None:
    lane.paid(ORDER)
    published(lane)
    lane.rows("update runtime.generation set generation = 2 returning 1")
    lane.receive(issued(ORDER, 2, "Active", "Active", "Active"))
    [event] = published(lane)
    assert event.position == (2, 2)


def test_a_tick_is_bounded_and_the_longest_waiting_go_first(lane: Deliveries) -> None:
    for number in (3, 1, 2):
        lane.paid(f"shop:{number}", 1)
    assert [
        event.encode(time="2026-01-01T00:00:00Z", traceparent=None).key for event in lane.tick(2)
    ] == [
        b"shop:3",
        b"shop:1",
    ]
    assert len(lane.tick(2)) == 1


def test_a_job_that_is_replayed_is_due_again_once(lane: Deliveries) -> None:
    lane.paid(ORDER, 1)
    [job] = lane.jobs()
    lane.rows(
        "with letter as (insert into runtime.dead_letters (consumer_group, topic, topic_id, "
        'partition, "offset", value_sha256,'
        " headers, stage, code, text, code_version) values ('stubline.delivery', '@jobs', 'x', 0, "
        "1, sha256(''), '', 'job',"
        " 'delivery-retries-exhausted', '', '1') returning id)"
        " update delivery.jobs set state = 'dead', failures = 9, next_attempt_at = now() + "
        "interval '1 day', dead_letter_id = id"
        " from letter returning 1"
    )
    value = f'{{"job_id": "{job["job_id"]}", "order_id": "{ORDER}"}}'.encode()
    inputs = parse(Record(JOBS, 0, 1, -1, ORDER.encode(), value, []))
    assert [type(outcome) for outcome in lane.receive(inputs, inputs)] == [Effect, Duplicate]
    [replayed] = lane.jobs()
    assert (replayed["state"], replayed["failures"]) == ("due", 0)
    assert replayed["next_attempt_at"] - job["filed_at"] < timedelta(hours=1)
    assert [type(outcome) for outcome in lane.receive(inputs)] == [Duplicate]


@pytest.mark.parametrize("value", [None, b"", b"[]", b'{"job_id": "x", "order_id": "y"}', b"{}"])
def test_a_dead_letter_that_names_no_job_is_no_event(value: bytes | None) -> None:
    with pytest.raises(ValueError, match="letter of a job"):
        parse(Record(JOBS, 0, 1, -1, None, value, []))


def test_lanes_stop_reading_at_the_high_mark_and_go_on_at_the_low_one(lane: Deliveries) -> None:
    settings = DeliverySettings(backlog_high_jobs=12, backlog_low_jobs=5)
    backlog = BacklogLimit(settings)
    for number in range(11):
        lane.paid(f"shop:{number}", 1)
    assert backlog(lane.connection) is None
    lane.paid("shop:11", 1)
    assert "12 or more" in (backlog(lane.connection) or "")
    close = (
        "update delivery.jobs set is_held = true where job_id in (select job_id from "
        "delivery.jobs where not is_held limit %s) returning 1"
    )
    lane.rows(close, 6)
    assert backlog(lane.connection)  # six are open: not yet low enough
    lane.rows(close, 2)
    assert backlog(lane.connection) is None


def test_far_from_the_mark_jobs_are_counted_rarely_and_never_too_late(lane: Deliveries) -> None:
    now = 0.0
    full = BacklogLimit(DeliverySettings(backlog_high_jobs=10, backlog_low_jobs=5), lambda: now)
    assert full(lane.connection) is None
    for number in range(10):
        lane.paid(f"shop:{number}", 1)
    assert full(lane.connection) is None  # not counted yet
    now += 10 / 10_000
    assert full(lane.connection) is not None


def test_an_address_is_the_buyers_latest(lane: Deliveries) -> None:
    lane.paid(ORDER, 1, buyer=Person(name="Ada", email="ada@exmaple.org"))
    lane.receive(issued(ORDER, 2, "Active", buyer=Person(name="Ada", email="ada@example.org")))
    assert len(lane.jobs()) == 1
    assert lane.rows("select tickets #>> '{buyer,email}' as email from delivery.orders") == [
        {"email": "ada@example.org"}
    ]


def test_the_store_returns_unknown_orders_as_new(lane: Deliveries) -> None:
    with lane.connection.transaction():
        loaded = DeliveryStore(lane.connection).load(["shop:9"])
    assert (loaded["shop:9"].active, loaded["shop:9"].decision, loaded["shop:9"].jobs) == (
        frozenset[UUID](),
        None,
        (),
    )


def test_an_operator_sees_what_waits_and_that_an_order_is_unknown(
    lane: Deliveries, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", lane.database_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    lane.paid(ORDER, 2)
    lane.receive(issued("shop:2", 1, "Active"))
    assert run(["deliveries", "list", "--json"]) == 0
    listed = {job["order_id"]: job["status"] for job in json.loads(capsys.readouterr().out)}
    assert listed == {ORDER: "due", "shop:2": "held"}
    assert run(["deliveries", "list", "--state", "sent"]) == 0
    assert capsys.readouterr().out.strip() == "no deliveries"
    assert run(["deliveries", "show", ORDER]) == 0
    assert "ada@example.org" in capsys.readouterr().out
    assert run(["deliveries", "show", "shop:9"]) == 3
    assert "delivery-order-unknown" in capsys.readouterr().err
