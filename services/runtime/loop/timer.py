"""Work with no input: replays that an operator asked for, and the service's own tick. Each tick is
one commit of `@timer`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from schemas.envelope import Output
from schemas.text import rfc3339
from services.runtime.errors import TickFailed
from services.runtime.failures import FailureKind
from services.runtime.loop import dead_letters, outbox
from services.runtime.loop.batch import LanesLost
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane
from services.runtime.loop.ports import LaneAdvance, Transaction
from services.runtime.observability import tracing
from services.runtime.observability.logs import describe
from services.runtime.observability.telemetry import BatchDone

S = TypeVar("S")


class Timer(Generic[S]):
    """Acts when its lane is ours, everything that it said before is acknowledged, and there is
    something to do.

    Replays and the tick take turns, a commit each: of what is due, that which has waited longest.
    So however many letters were asked for, a tick waits for one slice of them; and however long
    ticks take, replays go on between.
    """

    def __init__(self, means: WorkerContext[S]) -> None:
        self._service, self._ledger, self._fault = means.service, means.ledger, means.fault
        self._settings, self._telemetry, self._clock = means.settings, means.telemetry, means.clock
        self._replay_at = 0.0
        self._tick_at = 0.0 if means.service.tick is not None else float("inf")

    def due(self, lane: Lane | None) -> bool:
        return (
            lane is not None
            and lane.may_commit
            and self._clock() >= min(self._replay_at, self._tick_at)
        )

    def tick(self, lane: Lane) -> list[Output] | None:
        """Outputs of what it committed, to be published; None when there was nothing to commit, so
        that the row still holds what it held. Raises LanesLost, TickFailed, or what the ledger
        raises.

        Crash: a letter turns `replayed` in the commit that puts its bytes into the row; the next
        owner publishes them.
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
                self._commit(lane, self._take_letters) if self._ledger.letters_requested() else None
            )
        except TickFailed:
            self._replay_at = self._clock() + self._settings.outage_backoff_max_ms / 1_000
            raise
        # After a slice the next one goes as soon as this one is acknowledged.
        self._replay_at = self._clock() + (
            0.0 if outputs else self._settings.tick_interval_ms / 1_000
        )
        return outputs

    def _tick(self, lane: Lane) -> list[Output]:
        try:
            outputs = self._commit(lane, self._work)
        except TickFailed:
            self._tick_at = self._clock() + self._settings.outage_backoff_max_ms / 1_000
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
            if self._fault(error) in {
                FailureKind.TRANSIENT,
                FailureKind.TOO_SLOW,
            }:  # rolled back, and no matter of the lanes with input
                raise TickFailed(describe(error)) from error
            raise
        lane.expected += 1
        lane.commit_at = self._clock()
        self._telemetry.committed(
            BatchDone([lane.key], 1, 0, 0, {}, len(outputs), lane.commit_at - begun, {})
        )
        return outputs

    def _transact(
        self, lane: Lane, work: Callable[[Transaction[S], datetime], list[Output]]
    ) -> list[Output]:
        with self._ledger.transaction() as transaction:
            locked = transaction.lock([lane.claim])
            if locked.lost:
                raise LanesLost(locked.lost)
            outputs = self._guarded(work, transaction, locked.now)
            stored = outbox.encode(outputs)
            transaction.advance([LaneAdvance(lane.claim, lane.expected + 1, stored, 0, 1, 0, 0, 0)])
            self._telemetry.committing([lane.key])
            transaction.commit()
        return outputs

    def _guarded(
        self,
        work: Callable[[Transaction[S], datetime], list[Output]],
        transaction: Transaction[S],
        now: datetime,
    ) -> list[Output]:
        """What raises by a fault of its own harms neither the lanes with input nor the other kind
        of work.
        """
        try:
            return work(transaction, now)
        except Exception as error:
            if self._fault(error) is FailureKind.RECORD:
                raise TickFailed(describe(error)) from error
            raise

    def _take_letters(self, transaction: Transaction[S], _now: datetime) -> list[Output]:
        taken = transaction.take_requested(
            self._settings.replay_letters_max, self._settings.replay_bytes_max
        )
        return [dead_letters.replay_output(self._service.replay_topic, replay) for replay in taken]

    def _work(self, transaction: Transaction[S], now: datetime) -> list[Output]:
        events = (
            self._service.tick(now, transaction.session) if self._service.tick is not None else ()
        )
        time = rfc3339(now)
        return [event.encode(time=time, traceparent=str(tracing.new())) for event in events]
