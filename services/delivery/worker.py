"""The lane: what was told in, jobs filed; and the tick, which tells what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from schemas.envelope import NotAnEvent, Output
from schemas.orders import DeliveriesChanged, JobSnapshot, OrderDecided, TicketsChanged, order_of
from services.delivery.rules import ReplayedJob, SnapshotVerdict, Told, changed_jobs, judge
from services.delivery.settings import DeliverySettings
from services.delivery.store import DeliveryStore, JobDeadLetter, PublishedSnapshot
from services.runtime.loop import dead_letters
from services.runtime.loop.ports import DeadLetter
from services.runtime.postgres.ledger import Session
from services.runtime.records import Duplicate, Effect, Event, Outcome, Record, Superseded
from services.runtime.service import Service

GROUP = "stubline.delivery"
TOPICS = (
    TicketsChanged.topic,
    OrderDecided.topic,
)  # the first one's partition 0 owns the timer: never reorder
JOBS = "@jobs"  # where a job's dead letter says that it comes from
FILED = "stubline_delivery_jobs_filed_total"


def parse(record: Record) -> Told:
    """Before any transaction. A job's letter comes back by the replay topic, and names itself by
    its topic.
    """
    if record.topic == JOBS:
        return job_again(record)
    kind = TicketsChanged if record.topic == TicketsChanged.topic else OrderDecided
    return kind.read(record.headers, record.value)


def job_again(record: Record) -> ReplayedJob:
    try:
        told = json.loads(record.value or b"")
        return ReplayedJob(str(told["order_id"]), UUID(told["job_id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise NotAnEvent(f"not the letter of a job: {error}") from None


def handle(batch: Sequence[Told], session: Session) -> list[Outcome]:
    """One outcome for each, in order. Six round trips for any size; three when nothing was news."""
    store = DeliveryStore(session)
    before = store.load(sorted({told.key for told in batch}))
    found = judge(batch, before)
    filed = 0
    if changed := [order for key, order in sorted(found.orders.items()) if order != before[key]]:
        jobs = changed_jobs(before, found.orders)
        store.save_orders(changed, found.snapshots, {job.order_id for job in jobs})
        if jobs:
            known = {job.job_id for order in before.values() for job in order.jobs}
            new = [job for job in jobs if job.job_id not in known]
            store.save_jobs(jobs)
            if new:
                store.add_job_tickets(new)
            filed = len(new)
    return outcomes(found.verdicts, filed)


def outcomes(verdicts: Sequence[SnapshotVerdict], filed: int) -> list[Outcome]:
    """What changed is told by the tick. The first effect carries the batch's count."""
    told: list[Outcome] = []
    for verdict in verdicts:
        match verdict:
            case SnapshotVerdict.APPLIED:
                told.append(Effect(counts={FILED: filed} if filed else None))
                filed = 0
            case SnapshotVerdict.KNOWN:
                told.append(Duplicate())
            case SnapshotVerdict.OLDER:
                told.append(Superseded())
    return told


@dataclass(frozen=True, slots=True)
class DeadLetteredJob:
    """A job's dead letter as the record for the dead topic. Its row was written by the sender that
    gave it up.
    """

    row: JobDeadLetter

    def encode(self, *, time: str, traceparent: str | None) -> Output:  # noqa: ARG002 - it has its own history
        row = self.row
        record = Record(row.topic, row.partition, row.offset, -1, row.key, row.value, ())
        letter = DeadLetter(record, row.topic_id, "job", row.code, row.text, None, row.key.decode())
        return dead_letters.dead_output(f"{GROUP}.dead.v1", GROUP, letter, row.id, row.attempts)


def tick(_now: datetime, session: Session, orders_max: int) -> list[Event]:
    """What deliveries of orders are like now, for those that changed; and copies of new letters. At
    most four round trips.
    """
    store = DeliveryStore(session)
    dirty = store.lock_dirty(orders_max)
    if not dirty:
        return []
    order_ids = [spoken.order_id for spoken in dirty]
    jobs = store.find_said(order_ids)
    buried = [DeadLetteredJob(row) for row in store.take_unsaid_letters(order_ids)]
    events: list[Event] = []
    said: list[PublishedSnapshot] = []
    for spoken in dirty:
        after, event = speak(spoken, jobs.get(spoken.order_id, ()))
        said.append(after)
        if event is not None:
            events.append(event)
    store.save_said(said)
    return [*events, *buried]


def speak(
    spoken: PublishedSnapshot, jobs: Sequence[JobSnapshot]
) -> tuple[PublishedSnapshot, DeliveriesChanged | None]:
    """The next word of an order, if it differs from the last."""
    event = DeliveriesChanged(
        key=spoken.order_id,
        generation=spoken.generation,
        sequence=spoken.sequence + 1,
        jobs=tuple(jobs),
    )
    digest = event.digest()
    if digest == spoken.digest:
        return spoken, None
    return replace(spoken, sequence=spoken.sequence + 1, digest=digest), event


def backlog(settings: DeliverySettings) -> Callable[[Session], str | None]:
    """Stops reading at the high mark, and reads on at the low one: Kafka holds a flood, the tables
    do not.
    """
    is_full = False

    def ask(session: Session) -> str | None:
        nonlocal is_full
        mark = settings.backlog_low_jobs if is_full else settings.backlog_high_jobs
        is_full = DeliveryStore(session).count_open_jobs(mark) >= mark
        return f"{mark} or more jobs are open; senders have to catch up" if is_full else None

    return ask


def service(settings: DeliverySettings) -> Service[Told, Session]:
    return Service(
        group=GROUP,
        topics=TOPICS,
        parse=parse,
        handle=handle,
        tick=lambda now, session: tick(now, session, settings.dirty_orders_max),
        backlog=backlog(settings),
        subject=lambda record: order_of(record.key),
    )
