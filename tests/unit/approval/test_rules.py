"""The decision on an order follows from its facts, in whatever order they came."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas.orders import TICKETS_PER_ORDER_MAX, Line, OrderObserved, Person, Storefront
from services.approval.rules import (
    CANCELLING,
    PAYMENT_COMPLETE,
    Policy,
    allocate_tickets,
    decide,
    policy_of,
    prepare,
    trigger_problems,
)

DAWN = datetime(2027, 3, 20, 8, 0, tzinfo=UTC)
COMPLETED = prepare(policy_of(["completed"]))
STATUSES = ["pending", "on-hold", "processing", "completed", "approved", *sorted(CANCELLING)]


def line(quantity: int = 2, line_id: str = "1") -> Line:
    return Line(line_id=line_id, product_id="7", sku="RFL", name="Raffle", quantity=quantity)


def observed_order(
    *history: str,
    is_deleted: bool = False,
    is_paid: bool = False,
    lines: Sequence[Line] = (line(),),
    minutes: Sequence[int] = (),
) -> OrderObserved:
    """Return the observation after a shop has reported these statuses one after the other. The
    last one is current.
    """
    at = [DAWN + timedelta(minutes=minute) for minute in minutes or range(len(history))]
    storefront = Storefront(
        status=history[-1],
        currency="EUR",
        total_minor=1_000,
        paid_at=DAWN if is_paid else None,
        buyer=Person(name="Ada", email="ada@example.org"),
        lines=tuple(lines),
    )
    reached = dict(zip(history, at, strict=True))
    return OrderObserved(
        key="shop:1",
        generation=1,
        sequence=1,
        source="shop",
        external_id="1",
        storefront=storefront,
        reached=reached,
        is_deleted=is_deleted,
    )


def state(observed: OrderObserved, *trigger: str) -> str:
    return decide(observed, prepare(policy_of(trigger or ["completed"]))).state


@pytest.mark.feature("SF-001", "SF-028", "SF-029", "SF-063")
def test_completed_releases_and_nothing_before_it() -> None:
    assert [
        state(observed_order(*history))
        for history in (["pending"], ["processing"], ["pending", "completed"])
    ] == [
        "observed",
        "observed",
        "released",
    ]


@pytest.mark.feature("SF-002", "SF-150")
def test_a_status_of_the_shops_own_replaces_the_trigger() -> None:
    assert state(observed_order("pending", "processing", "completed"), "approved") == "observed"
    assert (
        state(observed_order("pending", "processing", "completed", "approved"), "approved")
        == "released"
    )


@pytest.mark.feature("SF-027", "SF-064")
def test_processing_releases_only_where_it_is_the_trigger() -> None:
    assert state(observed_order("pending", "processing"), "processing") == "released"
    assert state(observed_order("pending", "on-hold"), "processing") == "observed"
    assert state(observed_order("pending", "processing")) == "observed"


@pytest.mark.feature("SF-027")
def test_a_completed_order_has_been_processed() -> None:
    assert state(observed_order("completed"), "processing") == "released"


@pytest.mark.feature("SF-026", "SF-030")
def test_payment_alone_releases_whatever_the_status() -> None:
    assert state(observed_order("pending", is_paid=True), PAYMENT_COMPLETE) == "released"
    assert state(observed_order("pending"), PAYMENT_COMPLETE) == "observed"
    assert state(observed_order("completed"), PAYMENT_COMPLETE) == "observed"


@pytest.mark.parametrize("status", sorted(CANCELLING))
@pytest.mark.feature("SF-031", "SF-032", "SF-065", "SF-066", "SF-171")
def test_a_status_that_cancels_releases_nothing_although_it_was_paid_and_completed(
    status: str,
) -> None:
    for trigger in ("completed", "processing", PAYMENT_COMPLETE):
        decision = decide(
            observed_order("processing", "completed", status, is_paid=True),
            prepare(policy_of([trigger])),
        )
        assert (decision.state, decision.reasons) == ("cancelled", (f"status {status}",))
        assert [line.quantity for line in decision.lines] == [0]


@pytest.mark.feature("SF-148", "SF-171")
@pytest.mark.parametrize("status", ["pending", "on-hold"])
def test_an_unpaid_order_waits(status: str) -> None:
    decision = decide(observed_order(status), COMPLETED)
    assert (decision.state, decision.reasons) == ("observed", ("waiting for status completed",))


@pytest.mark.feature("SF-067")
@pytest.mark.parametrize("status", ["cancelled", "refunded", "failed"])
def test_a_restored_order_is_released_again_when_the_trigger_is_reached_again(status: str) -> None:
    assert state(observed_order("completed", status, "completed", minutes=[0, 1, 2])) == "released"
    unpaid = observed_order("completed", status, "pending")
    assert state(unpaid) == "observed"
    assert "again" in decide(unpaid, COMPLETED).reasons[0]
    assert (
        state(observed_order("processing", status, "processing", minutes=[0, 1, 2]), "processing")
        == "released"
    )


@pytest.mark.feature("SF-032")
def test_an_older_completed_changes_nothing_on_a_refunded_order() -> None:
    assert state(observed_order("completed", "refunded", minutes=[0, 1])) == "cancelled"


@pytest.mark.feature("SF-070")
def test_a_deleted_order_is_cancelled_also_when_nothing_else_is_known_of_it() -> None:
    assert decide(observed_order("completed", is_deleted=True), COMPLETED)[:2] == (
        "cancelled",
        ("deleted",),
    )
    bare = OrderObserved(
        key="shop:1", generation=1, sequence=1, source="shop", external_id="1", is_deleted=True
    )
    assert decide(bare, COMPLETED)[:2] == ("cancelled", ("deleted",))


@pytest.mark.feature("SF-067")
def test_an_order_restored_from_the_trash_is_what_it_was() -> None:
    assert state(observed_order("completed", is_deleted=False)) == "released"


def test_a_trigger_that_was_reached_stays_reached() -> None:
    assert state(observed_order("completed", "on-hold")) == "released"


@pytest.mark.parametrize("word", ["Completed", "wc-completed", " WC-Completed "])
def test_a_trigger_is_the_same_in_whatever_way_it_is_written(word: str) -> None:
    assert list(trigger_problems([word], frozenset())) == []
    assert policy_of([word]) == policy_of(["completed"])
    assert state(observed_order("processing", "wc-Completed")) == "released"


@pytest.mark.feature("SF-025")
@pytest.mark.parametrize(
    "words", [[], [""], ["complete"], ["paymentcomplete"], ["not a status"], ["procesing"]]
)
def test_a_trigger_that_is_empty_or_misspelt_is_refused(words: list[str]) -> None:
    assert list(trigger_problems(words, frozenset()))


@pytest.mark.feature("SF-025", "SF-171")
@pytest.mark.parametrize("word", [*sorted(CANCELLING), "pending", "on-hold"])
def test_a_trigger_that_is_no_payment_is_refused(word: str) -> None:
    assert list(trigger_problems([word], frozenset({word})))


def test_payment_complete_stands_alone() -> None:
    assert list(trigger_problems([PAYMENT_COMPLETE, "completed"], frozenset()))


@pytest.mark.feature("SF-025")
def test_with_a_list_of_custom_statuses_a_trigger_is_one_of_them() -> None:
    assert list(trigger_problems(["vip-ok"], frozenset())) == []
    assert list(trigger_problems(["vip-ok"], frozenset({"approved"})))
    assert list(trigger_problems(["vip-ok"], frozenset({"vip-ok"}))) == []


@given(some.lists(some.integers(0, 3_000), max_size=8))
def test_no_order_has_more_tickets_than_it_may_and_the_remainder_is_refund_due(
    quantities: list[int],
) -> None:
    lines = [line(quantity, str(place)) for place, quantity in enumerate(quantities)]
    decided, refund_due = allocate_tickets(lines)
    assert sum(line.quantity for line in decided) == min(sum(quantities), TICKETS_PER_ORDER_MAX)
    assert sum(line.quantity for line in decided) + refund_due == sum(quantities)
    assert all(line.quantity <= line.line.quantity for line in decided)


observations = some.builds(
    lambda history, deleted, paid: observed_order(
        *dict.fromkeys(history), is_deleted=deleted, is_paid=paid
    ),
    some.lists(some.sampled_from(STATUSES), min_size=1, max_size=6),
    some.booleans(),
    some.booleans(),
)
policies = some.sampled_from(
    [["completed"], ["processing"], ["approved", "completed"], [PAYMENT_COMPLETE]]
)


@given(observations, policies)
@pytest.mark.feature("SF-031", "SF-032", "SF-071", "SF-171")
def test_only_a_released_order_has_tickets_and_no_cancelled_one_is_released(
    observed: OrderObserved, words: list[str]
) -> None:
    decision = decide(observed, prepare(policy_of(words)))
    assert (decision.state == "released") >= any(line.quantity for line in decision.lines)
    assert observed.storefront
    if observed.is_deleted or observed.storefront.status in CANCELLING:
        assert decision.state == "cancelled"
    assert decision.reasons


@given(observations, policies, some.randoms(use_true_random=False))
def test_a_decision_depends_on_the_set_of_facts_and_not_on_their_order(
    observed: OrderObserved, words: list[str], random: object
) -> None:
    items = list(observed.reached.items())
    random.shuffle(items)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    shuffled = msgspec.structs.replace(observed, reached=dict(items))
    prepared = prepare(policy_of(words))
    assert decide(shuffled, prepared) == decide(observed, prepared)


def test_a_gate_with_a_reason_holds_an_order_back_until_its_last_reason_is_removed() -> None:
    gated = decide(
        observed_order("completed"), COMPLETED, [lambda _: [], lambda _: ["eligibility"]]
    )
    assert gated[:2] == ("gated", ("eligibility",))
    assert [line.quantity for line in gated.lines] == [0]
    assert decide(observed_order("completed"), COMPLETED, [lambda _: []]).state == "released"
    assert (
        decide(observed_order("cancelled"), COMPLETED, [lambda _: ["eligibility"]]).state
        == "cancelled"
    )


@given(some.sets(some.sampled_from(["completed", "processing", "approved"]), min_size=1))
def test_a_policy_version_is_the_same_for_the_same_policy_only(names: set[str]) -> None:
    assert policy_of(sorted(names)).version == Policy(frozenset(names)).version
    assert policy_of(sorted(names)).version != policy_of([PAYMENT_COMPLETE]).version
