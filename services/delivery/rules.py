"""Which jobs does an order need? Pure: no clock, no chance, no I/O.

Filing is a function of what is known now: the tickets that are active, the decision, and the jobs
there are. So whatever way the facts came, in whatever order and however often, each active ticket
ends in exactly one initial job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Literal
from uuid import UUID, uuid5

from schemas.envelope import Position
from schemas.orders import OrderDecided, State, TicketsChanged

JobState = Literal["due", "sent", "cancelled", "dead"]
JOB_IDS = UUID("0d5a8f0e-4a53-5b0e-9b8e-6f2f6d2f4c11")  # the namespace of job ids; never changes
NOWHERE = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Job:
    """A delivery. Initial ones are filed by rule; a resend is a person's deliberate wish."""

    job_id: UUID
    order_id: str
    kind: Literal["initial", "resend"]
    state: JobState
    is_held: bool
    ticket_ids: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class DeliveryOrder:
    """What delivery knows of an order. `active`: tickets that are not cancelled, by the last
    snapshot.
    """

    order_id: str
    tickets: Position = NOWHERE
    active: frozenset[UUID] = frozenset()
    decided: Position = NOWHERE
    decision: State | None = None
    jobs: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplayedJob:
    """A dead job that an operator gives back."""

    order_id: str
    job_id: UUID

    @property
    def key(self) -> str:
        return self.order_id


Told = TicketsChanged | OrderDecided | ReplayedJob


class SnapshotVerdict(Enum):
    APPLIED = auto()  # the last word of its writer so far, or a dead job that lives again
    KNOWN = auto()  # heard before; or the job is not dead any more
    OLDER = auto()  # something newer of the same writer was heard before


@dataclass(slots=True)
class FilingResult:
    """In the sequence of what was told, and what the orders are behind it."""

    verdicts: list[SnapshotVerdict]
    orders: dict[str, DeliveryOrder]
    snapshots: dict[str, TicketsChanged] = field(
        default_factory=dict
    )  # by order: the tickets' last, if it is new


def place(position: Position, last: Position) -> SnapshotVerdict:
    if position == last:
        return SnapshotVerdict.KNOWN
    return SnapshotVerdict.APPLIED if position > last else SnapshotVerdict.OLDER


def live(snapshot: TicketsChanged) -> frozenset[UUID]:
    """Tickets that a door would let in: active or won."""
    return frozenset(
        ticket.ticket_id for ticket in snapshot.tickets if ticket.status != "Cancelled"
    )


def tell(order: DeliveryOrder, told: Told) -> tuple[DeliveryOrder, SnapshotVerdict]:
    """What the order is behind one thing that was told. Positions of the two writers are never
    compared.
    """
    match told:
        case TicketsChanged():
            verdict = place(told.position, order.tickets)
            return replace(
                order, tickets=told.position, active=live(told)
            ) if verdict is SnapshotVerdict.APPLIED else order, (verdict)
        case OrderDecided():
            verdict = place(told.position, order.decided)
            newer = replace(order, decided=told.position, decision=told.state)
            return newer if verdict is SnapshotVerdict.APPLIED else order, verdict
        case ReplayedJob():
            if not any(job.job_id == told.job_id and job.state == "dead" for job in order.jobs):
                return order, SnapshotVerdict.KNOWN
            woken = (
                replace(job, state="due") if job.job_id == told.job_id else job
                for job in order.jobs
            )
            return replace(order, jobs=tuple(woken)), SnapshotVerdict.APPLIED


def judge(batch: Sequence[Told], orders: Mapping[str, DeliveryOrder]) -> FilingResult:
    """Each sees what those before it left; jobs follow from what is known behind the last."""
    found = FilingResult([], dict(orders))
    for told in batch:
        found.orders[told.key], verdict = tell(found.orders[told.key], told)
        found.verdicts.append(verdict)
        if verdict is SnapshotVerdict.APPLIED and isinstance(told, TicketsChanged):
            found.snapshots[told.key] = told
    found.orders = {
        key: file(order) if order != orders[key] else order for key, order in found.orders.items()
    }
    return found


def file(order: DeliveryOrder) -> DeliveryOrder:
    """All active tickets that are in no initial job become one. What is sent or dead stays as it
    is.
    """
    jobs = [standing(job, order) for job in order.jobs]
    filed = {ticket_id for job in jobs if job.kind == "initial" for ticket_id in job.ticket_ids}
    if unfiled := order.active - filed:
        jobs.append(standing(initial(order.order_id, unfiled), order))
    return replace(order, jobs=tuple(jobs))


def initial(order_id: str, ticket_ids: Iterable[UUID]) -> Job:
    """Named by what it is filed with, so that filing it anew, after a restore from a backup, names
    its mail the same.
    """
    filed = frozenset(ticket_ids)
    name = "/".join(["initial", order_id, *sorted(map(str, filed))])
    return Job(uuid5(JOB_IDS, name), order_id, "initial", "due", is_held=False, ticket_ids=filed)


def standing(job: Job, order: DeliveryOrder) -> Job:
    """Unsent, a job is due while one of its tickets is active, and cancelled otherwise; it comes
    back with its tickets.

    Tickets of an order that is not released wait: one of the two writers is ahead of the other, and
    nobody knows which.
    """
    if job.state in {"sent", "dead"}:
        return job
    if not job.ticket_ids & order.active:
        return replace(job, state="cancelled", is_held=False)
    return replace(job, state="due", is_held=order.decision != "released")


def changed_jobs(
    before: Mapping[str, DeliveryOrder], after: Mapping[str, DeliveryOrder]
) -> list[Job]:
    """Those to be written, in the sequence in which everybody locks."""
    known = {job.job_id: job for order in before.values() for job in order.jobs}
    found = [job for order in after.values() for job in order.jobs if known.get(job.job_id) != job]
    return sorted(found, key=lambda job: (job.order_id, job.job_id))
