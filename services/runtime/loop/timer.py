"""Work without input: replays that an operator requested, and the service's own tick. Each is one
commit of the lane `@timer`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from schemas.envelope import Output
from schemas.text import rfc3339
from services.runtime.errors import TickFailed
from services.runtime.failures.classification import FailureKind
from services.runtime.loop import dead_letters, outbox
from services.runtime.loop.batch import LanesFenced
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane
from services.runtime.observability import tracing
from services.runtime.observability.logs import describe
from services.runtime.observability.telemetry import BatchSummary
from services.runtime.ports import LaneUpdate, Transaction

S = TypeVar("S")


class Timer(Generic[S]):
    """Commits replays and ticks, if this process owns the timer's lane and all of its earlier
    outputs are acknowledged.

    Replays and ticks alternate, a commit each: what has waited longest goes first. So a tick waits
    for at most one slice of replays, however many are requested, and replays go on between ticks,
    however long those take.
    """

    def __init__(self, context: WorkerContext[S]) -> None:
        self._service, self._lane_store = context.service, context.lane_store
        self._classify, self._clock = context.classify, context.clock
        self._settings, self._telemetry = context.settings, context.telemetry
        self._replay_at = 0.0
        self._tick_at = 0.0 if context.service.tick is not None else float("inf")

    def is_due(self, lane: Lane | None) -> bool:
        return (
            lane is not None
            and lane.may_commit
            and self._clock() >= min(self._replay_at, self._tick_at)
        )

    def run(self, lane: Lane) -> list[Output] | None:
        """Commit what is due, and return its outputs, which are to be published.

        Returns None if there was nothing to commit, so that the row is unchanged. Raises
        LanesFenced, TickFailed, or what the lane store raises.

        Crash: a dead letter becomes `replayed` in the commit that puts its bytes into the lane's
        outbox (model/: rule 23, replay with its bytes); the next owner publishes them.
        """
        now = self._clock()
        outputs: list[Output] | None = None
        if self._replay_at <= min(now, self._tick_at):
            outputs = self._replay(lane)
        if outputs is None and self._tick_at <= now:
            outputs = self._tick(lane)
        return outputs

    def _replay(self, lane: Lane) -> list[Output] | None:
        try:
            outputs = (
                self._commit(lane, self._take_replays)
                if self._lane_store.has_replay_requests()
                else None
            )
        except TickFailed:
            self._replay_at = self._clock() + self._settings.backoff_max_ms / 1_000
            raise
        # The next slice follows as soon as this one is acknowledged.
        self._replay_at = self._clock() + (
            0.0 if outputs else self._settings.tick_interval_ms / 1_000
        )
        return outputs

    def _tick(self, lane: Lane) -> list[Output] | None:
        has_work = self._service.has_tick_work
        try:
            is_due = has_work is None or self._lane_store.read(has_work)
            outputs = self._commit(lane, self._work) if is_due else None
        except TickFailed:
            self._tick_at = self._clock() + self._settings.backoff_max_ms / 1_000
            raise
        self._tick_at = self._clock() + self._settings.tick_interval_ms / 1_000
        return outputs

    def _commit(
        self, lane: Lane, work: Callable[[Transaction[S], datetime], list[Output]]
    ) -> list[Output]:
        begun = self._clock()
        try:
            outputs = self._transact(lane, work)
        except Exception as error:
            # It is rolled back, and does not concern the lanes with input.
            if self._classify(error) in {FailureKind.TRANSIENT, FailureKind.TOO_SLOW}:
                raise TickFailed(describe(error)) from error
            raise
        lane.next_offset += 1
        lane.commit_at = self._clock()
        self._telemetry.committed(
            BatchSummary([lane.key], 1, 0, 0, {}, len(outputs), lane.commit_at - begun, {})
        )
        return outputs

    def _transact(
        self, lane: Lane, work: Callable[[Transaction[S], datetime], list[Output]]
    ) -> list[Output]:
        with self._lane_store.transaction() as transaction:
            locked = transaction.lock([lane.expected])
            if locked.fenced:
                raise LanesFenced(locked.fenced)
            outputs = self._guarded(work, transaction, locked.now)
            transaction.advance([self.row_after(lane, outputs)])
            self._telemetry.committing([lane.key])
            transaction.commit()
        return outputs

    def row_after(self, lane: Lane, outputs: list[Output]) -> LaneUpdate:
        """Return the timer's row after this commit: its outputs are in the outbox, also those of
        replays (model/: rule 23, replay with its bytes).
        """
        return LaneUpdate(
            lane.expected, lane.next_offset + 1, outbox.encode(outputs), 0, 1, 0, 0, 0
        )

    def _guarded(
        self,
        work: Callable[[Transaction[S], datetime], list[Output]],
        transaction: Transaction[S],
        now: datetime,
    ) -> list[Output]:
        """Do the work. If it fails for a reason of its own, raises TickFailed: lanes with input and
        the other kind of work go on.
        """
        try:
            return work(transaction, now)
        except Exception as error:
            if self._classify(error) is FailureKind.RECORD:
                raise TickFailed(describe(error)) from error
            raise

    def _take_replays(self, transaction: Transaction[S], _now: datetime) -> list[Output]:
        requests = transaction.take_replay_requests(
            self._settings.replay_dead_letters_max, self._settings.replay_bytes_max
        )
        return [
            dead_letters.replay_output(self._service.replay_topic, replay) for replay in requests
        ]

    def _work(self, transaction: Transaction[S], now: datetime) -> list[Output]:
        events = (
            self._service.tick(now, transaction.session) if self._service.tick is not None else ()
        )
        time = rfc3339(now)
        return [event.encode(time=time, traceparent=str(tracing.new())) for event in events]
