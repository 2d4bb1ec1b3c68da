"""Work with no input: replays that an operator asked for, and the service's own tick. Each tick is one commit of `@timer`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from schemas.envelope import Output
from services.runtime import letters, trace, unpublished
from services.runtime.batch import LanesLost
from services.runtime.database import Fault
from services.runtime.errors import TickFailed
from services.runtime.lane import Lane
from services.runtime.logs import describe
from services.runtime.means import Means
from services.runtime.ports import Advance, Transaction
from services.runtime.service import Tick
from services.runtime.telemetry import BatchDone

S = TypeVar("S")


class Timer(Generic[S]):
    """Ticks when its lane is ours, everything that it said before is acknowledged, and there is something to do."""

    def __init__(self, means: Means[S]) -> None:
        self._service, self._ledger, self._fault = means.service, means.ledger, means.fault
        self._settings, self._telemetry, self._clock = means.settings, means.telemetry, means.clock
        self._next = 0.0

    def due(self, lane: Lane | None) -> bool:
        return lane is not None and lane.may_commit and self._clock() >= self._next

    def tick(self, lane: Lane) -> list[Output] | None:
        """Outputs of what it committed, to be published; None when there was nothing to commit, so that the row still holds
        what it held. Raises LanesLost, TickFailed, or what the ledger raises.

        Crash: a letter turns `replayed` in the commit that puts its bytes into the row; the next owner publishes them.
        """
        outputs: list[Output] | None = None
        full = False
        if self._ledger.letters_requested():
            outputs = self._commit(lane, self._replay)
            full = bool(outputs)
        elif (tick := self._service.tick) is not None:
            outputs = self._commit(lane, lambda transaction, now: self._work(tick, transaction, now))
        if not full:  # else the next bunch goes as soon as this one is acknowledged
            self._next = self._clock() + self._settings.tick_interval_ms / 1_000
        return outputs

    def failed(self) -> None:
        self._next = self._clock() + self._settings.outage_backoff_max_ms / 1_000

    def _commit(self, lane: Lane, work: Callable[[Transaction[S], datetime], list[Output]]) -> list[Output]:
        begun = self._clock()
        with self._ledger.transaction() as transaction:
            locked = transaction.lock([lane.claim])
            if locked.lost:
                raise LanesLost(locked.lost)
            outputs = work(transaction, locked.now)
            stored = unpublished.encode(outputs)
            transaction.advance([Advance(lane.claim, lane.expected + 1, stored, 0, 1, 0, 0, 0)])
            self._telemetry.committing([lane.key])
            transaction.commit()
        lane.expected += 1
        lane.commit_at = self._clock()
        self._telemetry.committed(BatchDone([lane.key], 1, 0, 0, {}, len(outputs), lane.commit_at - begun, {}))
        return outputs

    def _replay(self, transaction: Transaction[S], _now: datetime) -> list[Output]:
        taken = transaction.take_requested(self._settings.replay_letters_max, self._settings.replay_bytes_max)
        return [letters.replay_output(self._service.replay_topic, replay) for replay in taken]

    def _work(self, tick: Tick[S], transaction: Transaction[S], now: datetime) -> list[Output]:
        try:
            events = tick(now, transaction.session)
        except Exception as error:
            if self._fault(error) is Fault.RECORD:
                raise TickFailed(describe(error)) from error
            raise
        time = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return [event.encode(time=time, traceparent=str(trace.new())) for event in events]
