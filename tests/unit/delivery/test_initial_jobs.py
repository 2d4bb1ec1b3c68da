"""Whatever way the facts came, each active ticket ends in exactly one initial job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.delivery.rules import (
    DeliveryInput,
    DeliveryOrder,
    Job,
    ReplayedJob,
    apply_batch,
    changed_jobs,
    with_current_jobs,
)
from services.runtime.snapshots import APPLIED, DUPLICATE, SUPERSEDED
from tests.support.deliveries import decided, issued, ticket_id

ORDER = "shop:1"
STATUSES = ("-", "Active", "Won", "Cancelled")
STATES = ("observed", "gated", "released", "refused", "cancelled")


@st.composite
def histories(draw: st.DrawFn) -> list[DeliveryInput]:
    """What both writers said of one order, in the sequence in which they said it. A ticket, once
    issued, stays.
    """
    inputs: list[DeliveryInput] = []
    tickets: list[str] = []
    for sequence, change in enumerate(
        draw(st.lists(st.integers(0, 30), min_size=1, max_size=6)), 1
    ):
        if change % 3 == 0 or not tickets:
            tickets = [*tickets, *["Active"] * (1 + change % 2)]
        else:
            at = change % len(tickets)
            tickets = [*tickets[:at], STATUSES[1 + change % 3], *tickets[at + 1 :]]
        inputs.append(issued(ORDER, sequence, *tickets))
    states = draw(st.lists(st.sampled_from(STATES), max_size=4))
    inputs += [decided(ORDER, sequence, state) for sequence, state in enumerate(states, 1)]
    return inputs


arrivals = histories().flatmap(
    lambda inputs: st.tuples(
        st.just(inputs),
        st.permutations(inputs),
        st.lists(st.sampled_from(inputs), max_size=6).flatmap(
            lambda more: st.permutations([*inputs, *more])
        ),
    )
)


def lived(batches: Sequence[Sequence[DeliveryInput]]) -> DeliveryOrder:
    order = DeliveryOrder(ORDER)
    for batch in batches:
        order = apply_batch(batch, {ORDER: order}).orders[ORDER]
    return order


def one_by_one(inputs: Sequence[DeliveryInput]) -> DeliveryOrder:
    return lived([[one] for one in inputs])


def filings(order: DeliveryOrder) -> Counter[UUID]:
    return Counter(
        ticket for job in order.jobs if job.kind == "initial" for ticket in job.ticket_ids
    )


def due(order: DeliveryOrder) -> set[UUID]:
    """What senders would send, all in all."""
    return {
        ticket
        for job in order.jobs
        if job.state == "due"
        for ticket in job.ticket_ids & order.active
    }


@given(arrivals, st.integers(1, 4))
def test_each_active_ticket_is_in_exactly_one_initial_job(
    arrived: tuple[Sequence[DeliveryInput], ...], size: int
) -> None:
    for inputs in arrived:
        for order in (
            one_by_one(inputs),
            lived([inputs[at : at + size] for at in range(0, len(inputs), size)]),
        ):
            assert {
                count for ticket, count in filings(order).items() if ticket in order.active
            } <= {1}
            assert order.active <= filings(order).keys()


@given(arrivals)
def test_the_same_facts_in_any_order_make_the_same_tickets_due(
    arrived: tuple[Sequence[DeliveryInput], ...],
) -> None:
    ends = [one_by_one(inputs) for inputs in arrived]
    assert len({(frozenset(due(end)), end.active, end.decision) for end in ends}) == 1
    holds = {frozenset(job.is_held for job in end.jobs if job.state == "due") for end in ends}
    assert len(holds) == 1


@given(arrivals)
def test_a_batch_at_once_is_known_when_it_comes_again(
    arrived: tuple[Sequence[DeliveryInput], ...],
) -> None:
    inputs = arrived[1]
    order = one_by_one(inputs)
    repeated = apply_batch(inputs, {ORDER: order})
    assert set(repeated.outcomes) <= {DUPLICATE, SUPERSEDED}
    assert repeated.orders[ORDER] == order
    assert changed_jobs({ORDER: order}, repeated.orders) == []


@given(histories())
def test_one_snapshot_is_one_job_and_names_it_the_same_after_a_restore(
    inputs: list[DeliveryInput],
) -> None:
    one, other = one_by_one(inputs[:1]), one_by_one(inputs[:1])
    assert len(one.jobs) == 1
    assert [job.job_id for job in one.jobs] == [job.job_id for job in other.jobs]


def with_states(order: DeliveryOrder, *states: str) -> DeliveryOrder:
    jobs = [
        Job(j.job_id, j.order_id, j.kind, s, False, j.ticket_ids)  # type: ignore[arg-type]  # text
        for j, s in zip(order.jobs, states, strict=True)
    ]
    return DeliveryOrder(
        order.order_id, order.tickets, order.active, order.decided, order.decision, tuple(jobs)
    )


def test_a_job_whose_tickets_are_all_cancelled_is_cancelled_and_comes_back_with_them() -> None:
    inputs: list[DeliveryInput] = [decided(ORDER, 1), issued(ORDER, 1, "Active", "Active")]
    inputs.append(issued(ORDER, 2, "Cancelled", "Cancelled"))
    cancelled = one_by_one(inputs)
    assert [job.state for job in cancelled.jobs] == ["cancelled"]
    back = apply_batch([issued(ORDER, 3, "Active", "Cancelled")], {ORDER: cancelled}).orders[ORDER]
    assert [(job.job_id, job.state) for job in back.jobs] == [(cancelled.jobs[0].job_id, "due")]


def test_a_ticket_that_was_sent_is_not_filed_again_when_it_is_cancelled_and_restored() -> None:
    sent = with_states(one_by_one([decided(ORDER, 1), issued(ORDER, 1, "Active")]), "sent")
    for sequence, status in enumerate(("Cancelled", "Active"), 2):
        sent = apply_batch([issued(ORDER, sequence, status)], {ORDER: sent}).orders[ORDER]
    assert [job.state for job in sent.jobs] == ["sent"]


def test_a_ticket_more_is_a_job_of_its_own() -> None:
    order = one_by_one(
        [decided(ORDER, 1), issued(ORDER, 1, "Active"), issued(ORDER, 2, "Active", "Active")]
    )
    assert [job.ticket_ids for job in order.jobs] == [{ticket_id(ORDER, 1)}, {ticket_id(ORDER, 2)}]


def test_a_ticket_left_out_of_its_mail_is_filed_again() -> None:
    """As the sender leaves it: the mail went without ticket 2, which then stands in no job."""
    order = one_by_one([decided(ORDER, 1), issued(ORDER, 1, "Active", "Active")])
    job = order.jobs[0]
    cancelled_job = Job(
        job.job_id,
        ORDER,
        "initial",
        "sent",
        is_held=False,
        ticket_ids=frozenset({ticket_id(ORDER, 1)}),
    )
    left = DeliveryOrder(
        ORDER, order.tickets, order.active, order.decided, order.decision, (cancelled_job,)
    )
    refiled = with_current_jobs(left)
    assert [job.ticket_ids for job in refiled.jobs] == [
        {ticket_id(ORDER, 1)},
        {ticket_id(ORDER, 2)},
    ]
    assert refiled.jobs[1].job_id != job.job_id


def test_an_order_that_is_not_released_holds_its_jobs() -> None:
    waiting = one_by_one([issued(ORDER, 1, "Active")])
    assert [(job.state, job.is_held) for job in waiting.jobs] == [("due", True)]
    released = apply_batch([decided(ORDER, 1)], {ORDER: waiting}).orders[ORDER]
    assert [(job.state, job.is_held) for job in released.jobs] == [("due", False)]


def test_a_dead_job_stays_dead_until_it_is_replayed() -> None:
    dead = with_states(one_by_one([decided(ORDER, 1), issued(ORDER, 1, "Active")]), "dead")
    moved = apply_batch([issued(ORDER, 2, "Won")], {ORDER: dead}).orders[ORDER]
    assert [job.state for job in moved.jobs] == ["dead"]
    job_id = dead.jobs[0].job_id
    applied = apply_batch([ReplayedJob(ORDER, job_id), ReplayedJob(ORDER, job_id)], {ORDER: moved})
    assert applied.outcomes == [APPLIED, DUPLICATE]
    assert [job.state for job in applied.orders[ORDER].jobs] == ["due"]


def test_positions_of_the_two_writers_are_never_compared() -> None:
    applied = apply_batch(
        [issued(ORDER, 9, "Active"), decided(ORDER, 1)], {ORDER: DeliveryOrder(ORDER)}
    )
    assert applied.outcomes == [APPLIED, APPLIED]
    older = apply_batch(
        [issued(ORDER, 8, "Active"), issued(ORDER, 1, "Active", generation=2)], applied.orders
    )
    assert older.outcomes == [SUPERSEDED, APPLIED]
