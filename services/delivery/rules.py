"""Which jobs does an order need? Pure: no clock, no randomness, no I/O.

The jobs are a function of what is known now: the tickets that are active, the decision, and the
jobs that exist. So in whatever order and however often the facts arrived, each active ticket ends
in exactly one initial job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import UUID, uuid5

from schemas.envelope import Position
from schemas.orders import OrderDecided, State, TicketsChanged
from services.runtime.records import Outcome
from services.runtime.snapshots import APPLIED, DUPLICATE, classify_position

JobState = Literal["due", "sent", "cancelled", "dead"]
JOB_IDS = UUID("0d5a8f0e-4a53-5b0e-9b8e-6f2f6d2f4c11")  # the namespace of job ids; never changes
NOWHERE = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Job:
    """A delivery. Initial ones are created by rule; a resend is requested by an operator."""

    job_id: UUID
    order_id: str
    kind: Literal["initial", "resend"]
    state: JobState
    is_held: bool
    ticket_ids: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class DeliveryOrder:
    """What delivery knows of an order. `active`: tickets that the last snapshot does not cancel."""

    order_id: str
    tickets: Position = NOWHERE
    active: frozenset[UUID] = frozenset()
    decided: Position = NOWHERE
    decision: State | None = None
    jobs: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplayedJob:
    """A dead job that an operator replays."""

    order_id: str
    job_id: UUID

    @property
    def key(self) -> str:
        return self.order_id


DeliveryInput = TicketsChanged | OrderDecided | ReplayedJob


@dataclass(slots=True)
class AppliedBatch:
    """An outcome per input, in their order, and the orders after all of them."""

    outcomes: list[Outcome]
    orders: dict[str, DeliveryOrder]
    # By order: the tickets' latest snapshot, where this batch brought a newer one.
    snapshots: dict[str, TicketsChanged] = field(default_factory=dict)


def active_ticket_ids(snapshot: TicketsChanged) -> frozenset[UUID]:
    """Return the tickets that admit somebody: active or won."""
    return frozenset(
        ticket.ticket_id for ticket in snapshot.tickets if ticket.status != "Cancelled"
    )


def apply_input(order: DeliveryOrder, received: DeliveryInput) -> tuple[DeliveryOrder, Outcome]:
    """Return the order after one input. Positions of the two writers are never compared."""
    match received:
        case TicketsChanged():
            outcome = classify_position(received.position, order.tickets)
            newer = replace(order, tickets=received.position, active=active_ticket_ids(received))
            return newer if outcome is APPLIED else order, outcome
        case OrderDecided():
            outcome = classify_position(received.position, order.decided)
            newer = replace(order, decided=received.position, decision=received.state)
            return newer if outcome is APPLIED else order, outcome
        case ReplayedJob():
            return replay_job(order, received.job_id)


def replay_job(order: DeliveryOrder, job_id: UUID) -> tuple[DeliveryOrder, Outcome]:
    """Make a dead job due again. If it is not dead any more, the replay is a duplicate."""
    if not any(job.job_id == job_id and job.state == "dead" for job in order.jobs):
        return order, DUPLICATE
    jobs = (replace(job, state="due") if job.job_id == job_id else job for job in order.jobs)
    return replace(order, jobs=tuple(jobs)), APPLIED


def apply_batch(
    batch: Sequence[DeliveryInput], orders: Mapping[str, DeliveryOrder]
) -> AppliedBatch:
    """Apply the inputs one after another; jobs follow from what is known after the last."""
    result = AppliedBatch([], dict(orders))
    for received in batch:
        result.orders[received.key], outcome = apply_input(result.orders[received.key], received)
        result.outcomes.append(outcome)
        if outcome is APPLIED and isinstance(received, TicketsChanged):
            result.snapshots[received.key] = received
    result.orders = {
        key: with_current_jobs(order) if order != orders[key] else order
        for key, order in result.orders.items()
    }
    return result


def with_current_jobs(order: DeliveryOrder) -> DeliveryOrder:
    """Return the order with its jobs in their current states, and with one more for all active
    tickets that are in no initial job. Sent and dead jobs stay.
    """
    jobs = [with_current_state(job, order) for job in order.jobs]
    covered = {ticket_id for job in jobs if job.kind == "initial" for ticket_id in job.ticket_ids}
    if uncovered := order.active - covered:
        jobs.append(with_current_state(initial_job(order.order_id, uncovered), order))
    return replace(order, jobs=tuple(jobs))


def initial_job(order_id: str, ticket_ids: Iterable[UUID]) -> Job:
    """Return a due job whose id is derived from its content: created again, after a restore from a
    backup, its mail has the same Message-ID.
    """
    tickets = frozenset(ticket_ids)
    name = "/".join(["initial", order_id, *sorted(map(str, tickets))])
    return Job(uuid5(JOB_IDS, name), order_id, "initial", "due", is_held=False, ticket_ids=tickets)


def with_current_state(job: Job, order: DeliveryOrder) -> Job:
    """Return the job in the state that follows from its order. A job that was not sent is due while
    one of its tickets is active, and cancelled otherwise; it is due again when a ticket is active
    again.

    Tickets of an order that is not released are held: one of the two writers is ahead of the other,
    and it cannot be known which.
    """
    if job.state in {"sent", "dead"}:
        return job
    if not job.ticket_ids & order.active:
        return replace(job, state="cancelled", is_held=False)
    return replace(job, state="due", is_held=order.decision != "released")


def changed_jobs(
    before: Mapping[str, DeliveryOrder], after: Mapping[str, DeliveryOrder]
) -> list[Job]:
    """Return the jobs to be written, in lock order: by order, then by job."""
    known = {job.job_id: job for order in before.values() for job in order.jobs}
    changed = [
        job for order in after.values() for job in order.jobs if known.get(job.job_id) != job
    ]
    return sorted(changed, key=lambda job: (job.order_id, job.job_id))
