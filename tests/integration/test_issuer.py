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
from uuid import uuid4

import psycopg
import pytest
from psycopg.errors import CheckViolation

from schemas.envelope import NotAnEvent
from schemas.orders import OrderDecided, TicketsChanged, UnissuedReason
from services.issuer import cli, worker
from services.issuer.errors import CampaignRefused, CampaignUnknown
from services.issuer.operate import CampaignCommands, IssuerQueries
from services.issuer.rules.plan import PlannedTicket
from services.issuer.store import ACTOR, AuditReason, IssuerStore
from services.runtime.admin.commands import OperatorCommand
from services.runtime.failures import FailureKind, classify
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
    raffle,
    refused,
    said,
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
    (event,) = stages.tell(observed("1", "completed", quantity=3))
    assert [ticket.number for ticket in event.tickets] == ["R-0001", "R-0002", "R-0003"]
    assert stages.tell(observed("1", "completed", quantity=3)) == []
    assert stages.tell(observed("1", "completed", quantity=3, sequence=2)) == []
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
    assert refused(shared, by_hand) == "23502"  # null in a column that is not null
    assert [command.name for command in cli.tickets.registered_commands] == ["list"]


@pytest.mark.feature("SF-030", "SF-031", "SF-032", "SF-070", "SF-148", "SF-171")
@pytest.mark.parametrize(
    "status", ["pending", "on-hold", "failed", "cancelled", "refunded", "trash"]
)
def test_an_unpaid_or_cancelled_order_gets_no_ticket_and_is_published_all_the_same(
    shared: Stages, status: str
) -> None:
    (event,) = shared.tell(observed(status, status))
    assert (event.tickets, event.unissued, event.sequence) == ((), (), 1)
    assert [shared.tickets(status, state) for state in ("Active", "Cancelled")] == [[], []]


@pytest.mark.feature("SF-065", "SF-066", "SF-067", "SF-069", "SF-040", "SF-091")
@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_a_cancelled_order_loses_its_tickets_and_a_restored_one_gets_the_same_back(
    stages: Stages, status: str
) -> None:
    (first,) = stages.tell(observed("1", "processing", "completed", quantity=2))
    (second,) = stages.tell(
        observed("1", "processing", "completed", status, quantity=2, sequence=2)
    )
    assert {ticket.status for ticket in second.tickets} == {"Cancelled"}
    (third,) = stages.tell(observed("1", "processing", status, "completed", quantity=2, sequence=3))
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
    stages.tell(observed("1", "completed", quantity=2))
    stages.tell(observed("1", "completed", quantity=2, sequence=2, is_deleted=True))
    assert (stages.tickets("1"), stages.tickets("1", "Cancelled")) == ([], ["R-0001", "R-0002"])
    stages.tell(observed("1", "completed", quantity=2, sequence=3))
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
    (event,) = stages.tickets_said(outcomes)
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
        ("Active", None, "stubline.issuer", decision.event_id)
    }
    assert all(row["at"] == row["issued_at"] for row in rows)
    assert refused(stages, "delete from issuer.audit") == "23001"
    assert refused(stages, "update issuer.audit set actor = 'nobody'") == "23001"


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

    assert refused(shared, copy(same)) == "23505"
    with shared.session.transaction(force_rollback=True):
        assert refused(shared, copy("")) == "00000"


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
        refused(shared, f"update issuer.tickets set {wrong} where order_id = 'shop:state'")
        == "23514"
    )


@pytest.mark.parametrize(
    "wrong",
    ["next_place = 4", "capacity = 1", "capacity = null", "mode = 'random'", "key = '\\x00'"],
)
def test_a_campaign_never_issues_more_than_there_is(shared: Stages, wrong: str) -> None:
    shared.issue(decided("full", 2, sku="FULL"))
    assert (
        refused(shared, f"update issuer.campaigns set {wrong} where campaign_id = 'full'")
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
                        events += stages.tickets_said(stages.issue(*batch))
                        break
                    except psycopg.Error as error:
                        if classify(error) is not FailureKind.TRANSIENT:
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
        assert sum(it.quantity for event in events for it in event.unissued) == 28
        assert {it.reason for event in events for it in event.unissued} == {"sold_out"}
        (event,) = stages.tickets_said(stages.issue(decided("late", 1)))
        assert ([it.reason for it in event.unissued], event.tickets) == (["sold_out"], ())
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
            events = [worker.ReceivedDecision(it, it.model_dump_json()) for it in batch]
            lost = stages.tickets_said(worker.handle(events, stages.session))
    with opened(database_url) as stages:
        repeated = stages.tickets_said(stages.issue(*batch))
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
            (event,) = stages.tickets_said(stages.issue(decided(name, 20, sku=name)))
            runs.append([ticket.number for ticket in event.tickets])
    assert len(set(runs[0]) & set(runs[1])) < 3


def test_a_line_waits_for_its_campaign_and_is_issued_when_one_is_applied_oldest_first(
    database_url: str,
) -> None:
    with opened(database_url) as stages:
        for order in ("3", "1", "2"):
            (event,) = stages.tickets_said(stages.issue(decided(order, 1)))
            assert [(it.reason, it.quantity) for it in event.unissued] == [("no_campaign", 1)]
        assert stages.apply(raffle()).details["due_orders"] == 3
        assert [event.key for event in stages.tick(2)] == ["shop:3", "shop:1"]
        assert [event.key for event in stages.tick(2)] == ["shop:2"]
        assert stages.tick() == []
        assert stages.tickets() == ["R-0002", "R-0003", "R-0001"]
        assert stages.rows("select * from issuer.waiting_lines") == []
        assert stages.rows("select * from issuer.due_orders") == []
        assert {row["actor"] for row in stages.rows("select actor from issuer.audit")} == {"tester"}


def test_a_waiting_order_that_is_cancelled_before_its_campaign_is_applied_gets_nothing(
    database_url: str,
) -> None:
    with opened(database_url) as stages:
        stages.issue(decided("1", 2))
        stages.issue(decided("1", 0, sequence=2))
        assert stages.apply(raffle()).details["due_orders"] == 0
        stages.issue(decided("2", 2))
        stages.apply(raffle(id="other", skus=["OTHER"]))
        assert stages.tickets() == ["R-0001", "R-0002"]


def test_orders_of_a_closed_campaign_are_held_and_issued_when_it_opens(database_url: str) -> None:
    with opened(database_url) as stages:
        stages.apply(raffle(status="closed"))
        (event,) = stages.tickets_said(stages.issue(decided("1", 2)))
        assert [(it.reason, it.quantity) for it in event.unissued] == [("campaign_closed", 2)]
        assert stages.apply(raffle()).details["due_orders"] == 1
        (event,) = stages.tick()
        assert ([ticket.number for ticket in event.tickets], event.unissued) == (
            ["R-0001", "R-0002"],
            (),
        )


def test_a_due_order_that_changed_meanwhile_gets_what_was_last_decided(database_url: str) -> None:
    with opened(database_url) as stages:
        stages.issue(decided("1", 3))
        stages.apply(raffle())
        stages.issue(decided("1", 1, sequence=2))
        assert stages.tick() == []
        assert stages.tickets() == ["R-0001"]


def test_no_line_is_lost_between_a_batch_and_an_apply_at_the_same_time(database_url: str) -> None:
    """The batch found no campaign and has not committed: applying waits for it."""
    with opened(database_url) as one, opened(database_url) as other, ThreadPoolExecutor(1) as pool:
        with one.session.transaction():
            decision = decided("1", 1)
            worker.handle(
                [worker.ReceivedDecision(decision, decision.model_dump_json())], one.session
            )
            applied = pool.submit(other.apply, raffle())
            one.await_waiting(1)
        assert applied.result(60).details["due_orders"] == 1
        assert len(other.tick()) == 1


def test_a_tick_takes_no_more_tickets_than_it_has_time_for_and_at_least_one_order(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "TICK_TICKETS_MAX", 5)
    with opened(database_url) as stages:
        for order, quantity in (("1", 2), ("2", 3), ("3", 9), ("4", 1)):
            stages.issue(decided(order, quantity))
        stages.apply(raffle())
        assert [[event.external_id for event in stages.tick()] for _ in range(4)] == [
            ["1", "2"],
            ["3"],
            ["4"],
            [],
        ]
        assert len(stages.tickets()) == 15


def test_a_tick_with_nothing_due_is_one_statement(stages: Stages) -> None:
    with stages.session.transaction():
        assert list(worker.tick(DAWN, stages.session, orders_max=10)) == []


@pytest.mark.feature("SF-157")
def test_mode_start_and_range_are_fixed_once_tickets_exist_and_nothing_of_the_file_is_applied(
    stages: Stages,
) -> None:
    stages.issue(decided("1", 3))
    for changed in ({"mode": "shuffled", "capacity": 10}, {"start": 5}, {"capacity": 2}):
        with pytest.raises(CampaignRefused):
            stages.apply(raffle(id="new", skus=["NEW"]), raffle(**changed))
    assert [
        row["campaign_id"] for row in stages.rows("select campaign_id from issuer.campaigns")
    ] == ["raffle"]


def test_a_prefix_that_changes_leaves_printed_numbers_as_they_are(stages: Stages) -> None:
    stages.issue(decided("1", 1))
    done = stages.apply(raffle(prefix="X-", padding=2))
    assert done.details["campaigns"] == [
        {"campaign_id": "raffle", "change": "changed", "version": 2}
    ]
    stages.issue(decided("1", 2, sequence=2))
    assert stages.tickets() == ["R-0001", "X-02"]


def test_a_product_belongs_to_one_campaign_and_can_be_moved_in_one_file(stages: Stages) -> None:
    with pytest.raises(CampaignRefused, match="sku RFL of shop belongs to campaign raffle"):
        stages.apply(raffle(id="other"))
    stages.apply(raffle(id="other"), raffle(skus=["OLD"]))
    stages.issue(decided("1", 1))
    assert {
        row["campaign_id"] for row in stages.rows("select campaign_id from issuer.tickets")
    } == {"other"}
    insert = "insert into issuer.campaign_products values ('shop', 'sku', 'RFL', 'raffle')"
    assert refused(stages, insert) == "23505"


def test_the_same_command_twice_applies_once_and_stands_in_the_audit(stages: Stages) -> None:
    commands = CampaignCommands(stages.session, OperatorCommand("ada", uuid4()))
    assert (
        commands.apply([raffle(venue="Hall")]).already,
        commands.apply([raffle(venue="Hall")]).already,
    ) == (False, True)
    (row,) = stages.rows("select actor, details from runtime.audit where actor = 'ada'")
    assert row["details"]["result"]["campaigns"][0]["version"] == 2


@pytest.mark.feature("SF-039", "SF-140", "SF-164", "SF-165", "SF-166")
def test_tickets_are_found_by_order_by_campaign_and_by_purchaser_without_their_codes(
    stages: Stages,
) -> None:
    stages.issue(decided("1", 2), decided("2", 1))
    queries = IssuerQueries(stages.session)

    def numbers(**options: str | None) -> list[str]:
        filters = {"order": None, "campaign": None, "email": None} | options
        rows = queries.tickets(
            order=filters["order"], campaign=filters["campaign"], email=filters["email"], limit=10
        )
        assert not any("code" in row for row in rows)
        return [row["number"] for row in rows]

    assert numbers(order="shop:1") == ["R-0001", "R-0002"]
    assert numbers(campaign="raffle") == ["R-0001", "R-0002", "R-0003"]
    assert numbers(email="2@Example.org") == ["R-0003"]
    assert numbers(email="nobody@example.org") == []
    row = queries.campaign("raffle")
    assert (row["issued"], row["active"], row["sold_out"]) == (3, 3, 0)
    with pytest.raises(CampaignUnknown):
        queries.campaign("none")


def test_two_processes_that_meet_a_new_order_at_once_issue_it_once(database_url: str) -> None:
    told = decided("1", 1)
    with opened(database_url) as one, opened(database_url) as other, ThreadPoolExecutor(1) as pool:
        one.apply(raffle())
        with one.session.transaction():
            worker.handle([worker.ReceivedDecision(told, told.model_dump_json())], one.session)
            late = pool.submit(other.issue, told)
            one.await_waiting(1)
        with pytest.raises(psycopg.Error) as raised:
            late.result(60)
        assert classify(raised.value) is FailureKind.TRANSIENT
        assert isinstance(other.issue(told)[0], Duplicate)
        assert one.tickets() == ["R-0001"]


@pytest.mark.parametrize("size", [1, 60])
def test_a_batch_of_any_size_takes_the_same_few_round_trips(database_url: str, size: int) -> None:
    with connection.connect(database_url, name="counted") as session:
        Stages(session).apply(raffle())
        batch = [decided(str(order), 2) for order in range(size)]
        events = [worker.ReceivedDecision(it, it.model_dump_json()) for it in batch]
        told: list[str] = []
        original = session.execute

        def counted(query: bytes, arguments: Mapping[str, Any] | None = None) -> object:
            told.append(query[:40].decode())
            return original(query, arguments)

        with pytest.MonkeyPatch.context() as patch, session.transaction():
            patch.setattr(session, "execute", counted)
            outcomes = worker.handle(events, session)
    assert len(said(outcomes)) == size
    assert len(told) == 6, told
