"""The issuer on a real database: numbers under concurrency, what constraints refuse, and lines that
wait for a campaign.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import CheckViolation

from schemas import structs
from schemas.envelope import NotAnEvent
from schemas.orders import OrderDecided, TicketsChanged, UnissuedReason
from services.issuer import cli, worker
from services.issuer.rules.plan import PlannedTicket
from services.issuer.store import ACTOR, AuditReason, IssuerStore
from services.runtime.failures.classification import FailureKind, classify_error
from services.runtime.postgres import connection
from services.runtime.records import Duplicate, Effect, Record, Superseded
from tests.support.stack import Databases
from tests.support.stages import (
    DAWN,
    TIME,
    Stages,
    decided,
    observed,
    opened,
    outputs_of,
    raffle,
    sqlstate_of,
)


@pytest.fixture
def stages(database_url: str) -> Iterator[Stages]:
    with opened(database_url) as stages:
        stages.apply(raffle())
        yield stages


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[Stages]:
    """One database for tests that only provoke refusals, or use orders of their own."""
    with databases.new() as url, opened(url) as stages:
        stages.apply(raffle(), raffle(id="full", skus=["FULL"], mode="shuffled", capacity=2))
        yield stages


@pytest.mark.feature("SF-001", "SF-006", "SF-041", "SF-063")
def test_a_paid_order_gets_its_tickets_once(stages: Stages) -> None:
    (event,) = stages.work(observed("1", "completed", quantity=3))
    assert [ticket.number for ticket in event.tickets] == ["R-0001", "R-0002", "R-0003"]
    assert stages.work(observed("1", "completed", quantity=3)) == []
    assert stages.work(observed("1", "completed", quantity=3, sequence=2)) == []
    assert stages.tickets() == ["R-0001", "R-0002", "R-0003"]


@pytest.mark.feature("SF-087")
def test_no_ticket_is_created_without_an_order(shared: Stages) -> None:
    """Neither by an event nor by hand, and there is no command that creates a ticket."""
    output = decided("1", 1).encode(time=TIME)
    for no_order in (b'"key":""', b'"key":null', b'"nokey":"shop:1"'):
        value = (output.value or b"").replace(b'"key":"shop:1"', no_order)
        with pytest.raises(NotAnEvent):
            worker.parse(Record(OrderDecided.topic, 0, 0, 0, None, value, output.headers))
    columns = (
        "ticket_id, line_id, ordinal, campaign_id, holder_name, holder_email, product_id, reason"
    )
    by_hand = (
        f"insert into issuer.tickets ({columns}) values (uuidv7(), '1', 1, 'raffle', '', "
        "'', '', 'sold_out')"
    )
    assert sqlstate_of(shared, by_hand) == "23502"  # null in a column that is not null
    assert [command.name for command in cli.tickets.registered_commands] == ["list"]


@pytest.mark.feature("SF-030", "SF-031", "SF-032", "SF-070", "SF-148", "SF-171")
@pytest.mark.parametrize(
    "status", ["pending", "on-hold", "failed", "cancelled", "refunded", "trash"]
)
def test_an_unpaid_or_cancelled_order_gets_no_ticket_and_is_published_all_the_same(
    shared: Stages, status: str
) -> None:
    (event,) = shared.work(observed(status, status))
    assert (event.tickets, event.unissued, event.sequence) == ((), (), 1)
    assert [shared.tickets(status, state) for state in ("Active", "Cancelled")] == [[], []]


@pytest.mark.feature("SF-065", "SF-066", "SF-067", "SF-069", "SF-040", "SF-091")
@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_a_cancelled_order_loses_its_tickets_and_a_restored_one_gets_the_same_back(
    stages: Stages, status: str
) -> None:
    (first,) = stages.work(observed("1", "processing", "completed", quantity=2))
    (second,) = stages.work(
        observed("1", "processing", "completed", status, quantity=2, sequence=2)
    )
    assert {ticket.status for ticket in second.tickets} == {"Cancelled"}
    (third,) = stages.work(observed("1", "processing", status, "completed", quantity=2, sequence=3))
    assert third.tickets == first.tickets
    changes = stages.rows(
        "select from_status, to_status, count(*), count(distinct cause) as causes from "
        "issuer.audit "
        "group by from_status, to_status order by 1 nulls first"
    )
    assert [tuple(row.values()) for row in changes] == [
        (None, "Active", 2, 1),
        ("Active", "Cancelled", 2, 1),
        ("Cancelled", "Active", 2, 1),
    ]


@pytest.mark.feature("SF-070", "SF-071", "SF-067")
def test_a_deleted_order_has_no_active_ticket_and_is_restored_from_the_trash_with_the_same(
    stages: Stages,
) -> None:
    stages.work(observed("1", "completed", quantity=2))
    stages.work(observed("1", "completed", quantity=2, sequence=2, is_deleted=True))
    assert (stages.tickets("1"), stages.tickets("1", "Cancelled")) == ([], ["R-0001", "R-0002"])
    stages.work(observed("1", "completed", quantity=2, sequence=3))
    assert stages.tickets("1") == ["R-0001", "R-0002"]


def test_positions_distinguish_new_decisions_copies_and_late_ones(stages: Stages) -> None:
    stages.issue(decided("1", 1, sequence=5))
    outcomes = stages.issue(
        decided("1", 2, sequence=4),
        decided("1", 1, sequence=5),
        decided("1", 2, sequence=6),
        decided("1", 3, sequence=7),
    )
    assert [type(outcome) for outcome in outcomes] == [Superseded, Duplicate, Effect, Effect]
    (event,) = stages.tickets_changed(outcomes)
    assert (event.sequence, len(event.tickets)) == (2, 3)


def test_a_reason_is_stored_as_the_plan_gave_it(stages: Stages) -> None:
    """The table decides which reasons there are, and the statement stores what it is given."""
    planned = PlannedTicket(
        *(str(uuid4()), "shop:1", "1", 1, "raffle", None, None, None, None, "no_campaign"),
        *("Ada", "ada@example.org", None, "7", DAWN),
    )
    store, audit = IssuerStore(stages.session), AuditReason(ACTOR, {"shop:1": str(uuid4())})
    with pytest.raises(CheckViolation):
        store.issue_tickets([planned], audit)
    with stages.session.transaction(force_rollback=True):
        stages.session.execute("alter table issuer.tickets drop constraint tickets_reason_check")
        store.issue_tickets([planned], audit)
        assert stages.rows("select status, reason from issuer.tickets") == [
            {"status": None, "reason": "no_campaign"}
        ]
        assert stages.rows("select * from issuer.audit") == []


def test_the_tables_know_the_reasons_of_the_events_and_no_others(stages: Stages) -> None:
    checks = stages.rows(
        "select conrelid::regclass::text as table, pg_get_constraintdef(oid) as condition "
        "from pg_constraint "
        "where conname in ('tickets_reason_check', 'waiting_lines_reason_check')"
    )
    assert {check["table"] for check in checks} == {"issuer.tickets", "issuer.waiting_lines"}
    reasons = [re.findall(r"'(\w+)'::text", check["condition"]) for check in checks]
    assert sorted(itertools.chain.from_iterable(reasons)) == sorted(get_args(UnissuedReason))


@pytest.mark.feature("SF-090")
def test_every_ticket_has_its_audit_row_with_actor_time_and_the_event_that_caused_it(
    stages: Stages,
) -> None:
    decision = decided("1", 2)
    stages.issue(decision)
    rows = stages.rows(
        "select audit.*, tickets.issued_at from issuer.audit join issuer.tickets using (ticket_id)"
    )
    assert len(rows) == 2
    assert {(row["to_status"], row["from_status"], row["actor"], row["cause"]) for row in rows} == {
        ("Active", None, "stubline.issuer", UUID(decision.event_id))
    }
    assert all(row["at"] == row["issued_at"] for row in rows)
    assert sqlstate_of(stages, "delete from issuer.audit") == "23001"
    assert sqlstate_of(stages, "update issuer.audit set actor = 'nobody'") == "23001"


COPY = (
    "insert into issuer.tickets select (jsonb_populate_record(tickets, '{changes}')).* from "
    "issuer.tickets "
    "where order_id = 'shop:{order}'"
)


@pytest.mark.feature("SF-033", "SF-089", "SF-139", "SF-167")
@pytest.mark.parametrize("same", ["ordinal", "place", "number", "code", "ticket_id"])
def test_the_database_refuses_a_second_of_what_there_may_be_one_of(
    shared: Stages, same: str
) -> None:
    shared.issue(decided(f"same-{same}", 1))
    other = {
        "ticket_id": str(uuid4()),
        "ordinal": 2,
        "place": 10**6,
        "number": "R-X",
        "code": "A" * 26,
    }

    def copy(but: str) -> str:
        changes = ", ".join(
            f'"{name}": "{content}"' for name, content in other.items() if name != but
        )
        return COPY.replace("{order}", f"same-{same}").replace("{changes}", f"{{{changes}}}")

    assert sqlstate_of(shared, copy(same)) == "23505"
    with shared.session.transaction(force_rollback=True):
        assert sqlstate_of(shared, copy("")) == "00000"


@pytest.mark.feature("SF-038")
@pytest.mark.parametrize(
    "wrong",
    [
        "status = 'Sold'",
        "status = null",
        "number = null",
        "number = ''",
        "place = -1",
        "code = 'short'",
        "reason = 'sold_out'",
        "ordinal = 0",
        "ordinal = 2001",
    ],
)
def test_a_ticket_has_a_state_and_what_belongs_to_it(shared: Stages, wrong: str) -> None:
    shared.issue(decided("state", 1))
    assert (
        sqlstate_of(shared, f"update issuer.tickets set {wrong} where order_id = 'shop:state'")
        == "23514"
    )


@pytest.mark.parametrize(
    "wrong",
    ["next_place = 4", "capacity = 1", "capacity = null", "mode = 'random'", "key = '\\x00'"],
)
def test_a_campaign_never_issues_more_than_there_is(shared: Stages, wrong: str) -> None:
    shared.issue(decided("full", 2, sku="FULL"))
    assert (
        sqlstate_of(shared, f"update issuer.campaigns set {wrong} where campaign_id = 'full'")
        == "23514"
    )


def concurrently(
    url: str, batches: list[list[OrderDecided]], workers: int = 4
) -> list[TicketsChanged]:
    """Issue as several processes of the group do, each with a share of the batches, and repeat what
    fails with a transient error.
    """

    def work(share: list[list[OrderDecided]]) -> list[TicketsChanged]:
        events = []
        with opened(url) as stages:
            for batch in share:
                for _ in range(20):
                    try:
                        events += stages.tickets_changed(stages.issue(*batch))
                        break
                    except psycopg.Error as error:
                        if classify_error(error) is not FailureKind.TRANSIENT:
                            raise
        return events

    with ThreadPoolExecutor(workers) as pool:
        return list(
            itertools.chain.from_iterable(
                pool.map(work, [batches[at::workers] for at in range(workers)])
            )
        )


@pytest.mark.feature("SF-041", "SF-158", "SF-167", "SF-014")
def test_many_workers_on_one_campaign_give_no_number_twice_and_leave_no_gap(
    database_url: str,
) -> None:
    batches = [[decided(f"{batch}-{order}", 2) for order in range(20)] for batch in range(24)]
    doubled = [batch for batch in batches for _ in range(2)]  # each batch reaches two workers
    with opened(database_url) as stages:
        stages.apply(raffle())
        events = concurrently(database_url, doubled)
        numbers = Counter(ticket.number for event in events for ticket in event.tickets)
        assert len(events) == 480
        assert set(numbers.values()) == {1}
        assert sorted(numbers) == [f"R-{number:04}" for number in range(1, 961)]
        assert stages.rows("select next_place from issuer.campaigns") == [{"next_place": 960}]


@pytest.mark.feature("SF-156", "SF-159", "SF-160")
def test_many_workers_exhaust_a_shuffled_pool_without_a_duplicate_and_the_next_one_is_refused(
    database_url: str,
) -> None:
    batches = [
        [decided(f"{batch}-{order}", 2) for order in range(11)] for batch in range(24)
    ]  # 528 for 500 numbers
    with opened(database_url) as stages:
        stages.apply(raffle(mode="shuffled", capacity=500, start=500, prefix=""))
        events = concurrently(database_url, batches)
        numbers = [int(ticket.number) for event in events for ticket in event.tickets]
        assert sorted(numbers) == list(range(500, 1_000))
        assert numbers != sorted(numbers)
        assert sum(line.quantity for event in events for line in event.unissued) == 28
        assert {line.reason for event in events for line in event.unissued} == {"sold_out"}
        (event,) = stages.tickets_changed(stages.issue(decided("late", 1)))
        assert ([line.reason for line in event.unissued], event.tickets) == (["sold_out"], ())
        assert stages.rows("select count(*) from issuer.tickets where reason = 'sold_out'") == [
            {"count": 29}
        ]


@pytest.mark.feature("SF-161", "SF-044")
@pytest.mark.parametrize("mode", ["sequential", "shuffled"])
def test_a_batch_that_is_worked_again_after_a_crash_gives_the_same_numbers(
    database_url: str, mode: str
) -> None:
    """Rolled back before the commit, or committed without an answer: both end with the same ticket
    and number.
    """
    batch = [decided(str(order), 2) for order in range(20)]
    with opened(database_url) as stages:
        stages.apply(raffle(mode=mode, capacity=1_000))
        with stages.session.transaction(force_rollback=True):
            events = [
                worker.ReceivedDecision(decision, structs.encode(decision).decode())
                for decision in batch
            ]
            lost = stages.tickets_changed(worker.handle(events, stages.session))
    with opened(database_url) as stages:
        repeated = stages.tickets_changed(stages.issue(*batch))
    with opened(database_url) as stages:
        assert {type(outcome) for outcome in stages.issue(*batch)} == {Duplicate}

    def numbers(events: list[TicketsChanged]) -> list[tuple[str, str]]:
        return [
            (str(ticket.ticket_id), ticket.number) for event in events for ticket in event.tickets
        ]

    assert numbers(repeated) == numbers(lost)


@pytest.mark.feature("SF-161")
def test_two_runs_with_the_same_orders_give_different_numbers(database_url: str) -> None:
    runs = []
    for name in ("one", "two"):
        with opened(database_url) as stages:
            stages.apply(raffle(id=name, skus=[name], mode="shuffled", capacity=100_000))
            (event,) = stages.tickets_changed(stages.issue(decided(name, 20, sku=name)))
            runs.append([ticket.number for ticket in event.tickets])
    assert len(set(runs[0]) & set(runs[1])) < 3


def test_two_processes_that_meet_a_new_order_at_once_issue_it_once(database_url: str) -> None:
    decision = decided("1", 1)
    with opened(database_url) as one, opened(database_url) as other, ThreadPoolExecutor(1) as pool:
        one.apply(raffle())
        with one.session.transaction():
            worker.handle(
                [worker.ReceivedDecision(decision, structs.encode(decision).decode())], one.session
            )
            late = pool.submit(other.issue, decision)
            one.await_waiting(1)
        with pytest.raises(psycopg.Error) as raised:
            late.result(60)
        assert classify_error(raised.value) is FailureKind.TRANSIENT
        assert isinstance(other.issue(decision)[0], Duplicate)
        assert one.tickets() == ["R-0001"]


@pytest.mark.parametrize("size", [1, 60])
def test_a_batch_of_any_size_takes_the_same_few_round_trips(database_url: str, size: int) -> None:
    with connection.connect(database_url, name="counted") as session:
        Stages(session).apply(raffle())
        batch = [decided(str(order), 2) for order in range(size)]
        events = [
            worker.ReceivedDecision(decision, structs.encode(decision).decode())
            for decision in batch
        ]
        decision: list[str] = []
        original = session.execute

        def counted(query: bytes, arguments: Mapping[str, Any] | None = None) -> object:
            decision.append(query[:40].decode())
            return original(query, arguments)

        with pytest.MonkeyPatch.context() as patch, session.transaction():
            patch.setattr(session, "execute", counted)
            outcomes = worker.handle(events, session)
    assert len(outputs_of(outcomes)) == size
    assert len(decision) == 6, decision
