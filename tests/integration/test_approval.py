"""Approval on a real database: positions, receipts, and what constraints refuse."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest
from psycopg.errors import SerializationFailure

from schemas.envelope import NotAnEvent
from schemas.orders import OrderDecided, OrderObserved
from services.approval import worker
from services.approval.settings import ApprovalSettings, policies
from services.runtime.failures.classification import FailureKind, classify_error
from services.runtime.records import Duplicate, Effect, Outcome, Superseded
from tests.support.stack import Databases
from tests.support.stages import TIME, Stages, observed, opened, outputs_of, record, sqlstate_of


@pytest.fixture
def stages(database_url: str) -> Iterator[Stages]:
    with opened(database_url) as stages:
        yield stages


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[Stages]:
    """One database for tests that only provoke refusals, or use orders of their own."""
    with databases.new() as url, opened(url) as stages:
        yield stages


def decisions(outcomes: list[Outcome]) -> list[OrderDecided]:
    return [OrderDecided.read(output.headers, output.value) for output in outputs_of(outcomes)]


@pytest.mark.feature("SF-001", "SF-006", "SF-029")
def test_a_completed_order_is_released_once(stages: Stages) -> None:
    (decision,) = decisions(stages.approve(observed("1", "pending", "completed", quantity=3)))
    assert (decision.state, decision.reasons, decision.sequence) == (
        "released",
        ("status completed",),
        1,
    )
    assert [(line.quantity, line.holder.email) for line in decision.lines] == [(3, "1@example.org")]
    assert isinstance(
        stages.approve(observed("1", "pending", "completed", quantity=3))[0], Duplicate
    )


def test_an_older_observation_is_superseded_and_a_newer_one_without_a_change_publishes_nothing(
    stages: Stages,
) -> None:
    stages.approve(observed("1", "completed", sequence=5))
    (older,) = stages.approve(observed("1", "pending", sequence=4))
    (newer,) = stages.approve(observed("1", "completed", sequence=6))
    assert isinstance(older, Superseded)
    assert isinstance(newer, Effect)
    assert outputs_of([newer]) == []
    assert [row["sequence"] for row in stages.rows("select sequence from approval.orders")] == [1]


def test_of_a_batch_only_the_newest_observation_of_an_order_is_decided(stages: Stages) -> None:
    outcomes = stages.approve(
        observed("1", "pending", sequence=1),
        observed("1", "pending", "completed", sequence=3),
        observed("2", "completed"),
        observed("1", "pending", sequence=2),
        observed("1", "pending", "completed", sequence=3),
    )
    assert [type(outcome) for outcome in outcomes] == [
        Effect,
        Effect,
        Effect,
        Superseded,
        Duplicate,
    ]
    assert [
        (decision.key, decision.state, decision.sequence) for decision in decisions(outcomes)
    ] == [
        ("shop:1", "released", 1),
        ("shop:2", "released", 1),
    ]


@pytest.mark.parametrize("places", list(permutations(range(4))), ids=str)
def test_an_order_ends_the_same_in_whatever_order_its_observations_come(
    shared: Stages, places: tuple[int, ...]
) -> None:
    history, order = ("pending", "processing", "completed", "cancelled"), "".join(map(str, places))
    observations = [
        observed(order, *history[: place + 1], sequence=place + 1) for place in range(4)
    ]
    for place in places:
        shared.approve(observations[place])
    (row,) = shared.rows(
        (
            "select state, decision -> 'reasons' as reasons, observed_sequence from "
            "approval.orders "
            "where order_id = %(id)s"
        ),
        {"id": f"shop:{order}"},
    )
    assert row == {"state": "cancelled", "reasons": ["status cancelled"], "observed_sequence": 4}


@pytest.mark.feature("SF-003")
def test_another_trigger_after_a_restart_changes_which_status_releases(database_url: str) -> None:
    with opened(database_url, policies(ApprovalSettings(issue_when="approved"))) as stages:
        assert decisions(stages.approve(observed("1", "completed")))[0].state == "observed"
    with opened(database_url, policies(ApprovalSettings(issue_when="completed"))) as stages:
        assert (
            decisions(stages.approve(observed("1", "completed", sequence=2)))[0].state == "released"
        )


def test_each_decision_has_a_receipt_that_explains_it(stages: Stages) -> None:
    stages.approve(observed("1", "pending", quantity=2))
    stages.approve(observed("1", "pending", "completed", sequence=2, quantity=2))
    stages.approve(observed("1", "pending", "completed", sequence=3, quantity=2))
    receipts = stages.rows("select * from approval.receipts order by observed_sequence")
    assert [
        (receipt["observed_sequence"], receipt["sequence"], receipt["outcome"]["state"])
        for receipt in receipts
    ] == [
        (1, 1, "observed"),
        (2, 2, "released"),
        (3, 2, "released"),
    ]
    assert {receipt["policy_version"] for receipt in receipts} == {stages.policies.default.version}
    inputs = receipts[1]["inputs"]
    assert (inputs["status"], inputs["lines"], inputs["issue_when"]) == (
        "completed",
        [["1", 2]],
        ["completed"],
    )
    assert sorted(inputs["reached"]) == ["completed", "pending"]
    assert "example.org" not in str(receipts), (
        "a receipt is kept for ever, so it holds no personal data"
    )


def test_receipts_are_append_only_and_an_observation_is_decided_once(stages: Stages) -> None:
    stages.approve(observed("1", "completed"))
    assert sqlstate_of(stages, "update approval.receipts set policy_version = 'x'") == "23001"
    assert sqlstate_of(stages, "delete from approval.receipts") == "23001"
    assert sqlstate_of(stages, "truncate approval.receipts") == "23001"
    assert (
        sqlstate_of(stages, "insert into approval.receipts select * from approval.receipts")
        == "23505"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "sequence = 0",
        "state = 'sent'",
        "state = null",
        "digest = '\\x00'",
        "digest = null",
        "decision = null",
    ],
)
def test_an_order_that_was_decided_has_published_its_decision(shared: Stages, wrong: str) -> None:
    shared.approve(observed("published", "completed"))
    assert sqlstate_of(shared, f"update approval.orders set {wrong}") == "23514"


def test_two_processes_that_meet_a_new_order_at_once_decide_it_once(database_url: str) -> None:
    """The second waits for the first and has to decide again: nothing is overwritten."""
    batch = [observed("1", "completed")]
    with opened(database_url) as one, opened(database_url) as other, ThreadPoolExecutor(1) as pool:
        with one.session.transaction():
            worker.handle(batch, one.session, one.policies)
            late = pool.submit(other.approve, *batch)
            one.await_waiting(1)
        with pytest.raises(SerializationFailure) as raised:
            late.result(60)
        assert classify_error(raised.value) is FailureKind.TRANSIENT
        assert isinstance(other.approve(*batch)[0], Duplicate)
        assert [row["sequence"] for row in one.rows("select sequence from approval.orders")] == [1]


def test_a_malformed_record_is_refused_before_the_transaction() -> None:
    output = observed("1", "completed").encode(time=TIME, traceparent=None)
    assert isinstance(worker.parse(record(output)), OrderObserved)
    with pytest.raises(NotAnEvent):
        worker.parse(record(output._replace(value=b"{}")))
