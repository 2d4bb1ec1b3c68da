"""Campaigns on a real database: lines that wait for one, and what applying one changes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from schemas import structs
from services.issuer import worker
from services.issuer.commands import CampaignCommands, IssuerQueries
from services.issuer.errors import CampaignRefused, CampaignUnknown
from services.runtime.admin.commands import OperatorCommand
from tests.support.stages import DAWN, Stages, decided, opened, raffle, sqlstate_of


@pytest.fixture
def stages(database_url: str) -> Iterator[Stages]:
    with opened(database_url) as stages:
        stages.apply(raffle())
        yield stages


def test_a_line_waits_for_its_campaign_and_is_issued_when_one_is_applied_oldest_first(
    database_url: str,
) -> None:
    with opened(database_url) as stages:
        for order in ("3", "1", "2"):
            (event,) = stages.tickets_changed(stages.issue(decided(order, 1)))
            assert [(line.reason, line.quantity) for line in event.unissued] == [("no_campaign", 1)]
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
        (event,) = stages.tickets_changed(stages.issue(decided("1", 2)))
        assert [(line.reason, line.quantity) for line in event.unissued] == [("campaign_closed", 2)]
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
                [worker.ReceivedDecision(decision, structs.encode(decision).decode())], one.session
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
    assert sqlstate_of(stages, insert) == "23505"


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
    assert (row["issued"], row["active"], row["refund_due"]) == (3, 3, 0)
    with pytest.raises(CampaignUnknown):
        queries.campaign("none")
