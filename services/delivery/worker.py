"""The lane, which files jobs for new tickets; its timer publishes the deliveries of each order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from schemas.envelope import NotAnEvent, Output, SerializedSnapshot
from schemas.orders import DeliveriesChanged, JobSnapshot, OrderDecided, TicketsChanged, order_of
from services.delivery.rules import (
    DeliveryInput,
    ReplayedJob,
    apply_batch,
    changed_jobs,
)
from services.delivery.settings import DeliverySettings
from services.delivery.store import DeliveryStore, JobDeadLetter, PublishedSnapshot
from services.runtime.loop import dead_letters
from services.runtime.ports import DeadLetter
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Effect, Event, Outcome, Record
from services.runtime.service import Service
from services.runtime.snapshots import APPLIED

GROUP = "stubline.delivery"
# Partition 0 of the first topic owns the timer: never reorder.
TOPICS = (TicketsChanged.topic, OrderDecided.topic)
JOBS = "@jobs"  # the topic that a job's dead letter names as its origin
ENQUEUED = "stubline_delivery_jobs_enqueued_total"
FILED_PER_S_MAX = 10_000.0
COUNT_INTERVAL_S_MAX = 60.0


def parse(record: Record) -> DeliveryInput:
    """Parse a record before any transaction. A job that is replayed is a record whose origin is
    `@jobs`.
    """
    if record.topic == JOBS:
        return parse_replayed_job(record)
    kind = TicketsChanged if record.topic == TicketsChanged.topic else OrderDecided
    return kind.read(record.headers, record.value)


def parse_replayed_job(record: Record) -> ReplayedJob:
    try:
        body = json.loads(record.value or b"")
        return ReplayedJob(str(body["order_id"]), UUID(body["job_id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise NotAnEvent(f"not the dead letter of a job: {error}") from None


def handle(batch: Sequence[DeliveryInput], session: Session) -> list[Outcome]:
    """Return one outcome per input, in their order. A batch of any size takes six round trips, or
    three if nothing in it is new.
    """
    store = DeliveryStore(session)
    before = store.load(sorted({received.key for received in batch}))
    result = apply_batch(batch, before)
    enqueued = 0
    if changed := [order for key, order in sorted(result.orders.items()) if order != before[key]]:
        jobs = changed_jobs(before, result.orders)
        store.save_orders(changed, result.snapshots, {job.order_id for job in jobs})
        if jobs:
            known = {job.job_id for order in before.values() for job in order.jobs}
            new = [job for job in jobs if job.job_id not in known]
            store.save_jobs(jobs)
            if new:
                store.add_job_tickets(new)
            enqueued = len(new)
    return with_enqueued_count(result.outcomes, enqueued)


def with_enqueued_count(outcomes: Sequence[Outcome], enqueued: int) -> list[Outcome]:
    """Return the outcomes; the first effect carries the batch's count of enqueued jobs. Outcomes
    have no outputs: the tick publishes deliveries.
    """
    counted = list(outcomes)
    if enqueued:
        counted[counted.index(APPLIED)] = Effect(counts={ENQUEUED: enqueued})
    return counted


@dataclass(frozen=True, slots=True)
class DeadLetteredJob:
    """A job's dead letter as the record for the dead topic. The sender that dead-lettered the job
    wrote its row.
    """

    row: JobDeadLetter

    def encode(self, *, time: str, traceparent: str | None) -> Output:  # noqa: ARG002 - the row has both
        row = self.row
        record = Record(row.topic, row.partition, row.offset, -1, row.key, row.value, ())
        dead_letter = DeadLetter(
            record, row.topic_id, "job", row.code, row.text, None, row.key.decode()
        )
        topic = f"{GROUP}.dead.v1"
        return dead_letters.dead_output(topic, GROUP, dead_letter, row.id, row.attempts)


def tick(_now: datetime, session: Session, orders_max: int, delay_s: float = 0.0) -> list[Event]:
    """Return the deliveries of the orders that changed at least so long ago, and copies of new dead
    letters, in at most four round trips.
    """
    store = DeliveryStore(session)
    dirty = store.lock_dirty(orders_max, delay_s)
    if not dirty:
        return []
    order_ids = [published.order_id for published in dirty]
    jobs = store.find_job_snapshots(order_ids)
    dead = [DeadLetteredJob(row) for row in store.take_new_dead_letters(order_ids)]
    events: list[Event] = []
    published: list[PublishedSnapshot] = []
    for last in dirty:
        newest, event = next_snapshot(last, jobs.get(last.order_id, ()))
        published.append(newest)
        if event is not None:
            events.append(event)
    store.save_published(published)
    return [*events, *dead]


def next_snapshot(
    last: PublishedSnapshot, jobs: Sequence[JobSnapshot]
) -> tuple[PublishedSnapshot, SerializedSnapshot | None]:
    """Return the next snapshot of an order, and its event if it differs from the last one."""
    event = SerializedSnapshot(
        DeliveriesChanged(
            key=last.order_id,
            generation=last.generation,
            sequence=last.sequence + 1,
            jobs=tuple(jobs),
        )
    )
    digest = event.digest
    if digest == last.digest:
        return last, None
    return replace(last, sequence=last.sequence + 1, digest=digest), event


class BacklogLimit:
    """Pauses the lanes at the high mark and resumes them at the low one.

    Far from a mark the jobs are counted rarely, since counting takes time by their number: a lane
    files at most `FILED_PER_S_MAX` a second.
    """

    def __init__(
        self, settings: DeliverySettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._high, self._low = settings.backlog_high_jobs, settings.backlog_low_jobs
        self._clock = clock
        self._is_full = False
        self._count_at = float("-inf")

    def __call__(self, session: Session) -> str | None:
        """Return why the lanes should not read now, or None."""
        if self._clock() >= self._count_at:
            mark = self._low if self._is_full else self._high
            open_jobs = DeliveryStore(session).count_open_jobs(mark)
            self._is_full = open_jobs >= mark
            free_s = max(0.0, (mark - open_jobs) / FILED_PER_S_MAX)
            self._count_at = self._clock() + min(free_s, COUNT_INTERVAL_S_MAX)
        if not self._is_full:
            return None
        return f"{self._high} or more jobs were open; senders have to catch up"


def service(settings: DeliverySettings) -> Service[DeliveryInput, Session]:
    delay_s = settings.publish_delay_ms / 1_000
    return Service(
        group=GROUP,
        topics=TOPICS,
        parse=parse,
        handle=handle,
        tick=lambda now, session: tick(now, session, settings.dirty_orders_max, delay_s),
        has_tick_work=lambda session: DeliveryStore(session).has_dirty(delay_s),
        backlog=BacklogLimit(settings),
        subject=lambda record: order_of(record.key),
    )
