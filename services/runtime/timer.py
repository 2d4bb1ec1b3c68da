"""Work with no input: replays that an operator asked for, and the service's own tick. Each tick is one commit of `@timer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from schemas.envelope import Output
from services.runtime import letters, trace, unpublished
from services.runtime.batch import LanesLost
from services.runtime.database import Fault
from services.runtime.errors import TickFailed
from services.runtime.lane import Lane, State
from services.runtime.logs import describe
from services.runtime.ports import Advance, Ledger, Transaction
from services.runtime.service import Service
from services.runtime.settings import LaneSettings

S = TypeVar("S")


class Timer(Generic[S]):
    """Ticks when its lane is ours, everything that it said before is acknowledged, and there is something to do."""

    def __init__(
        self,
        service: Service[Any, S],
        ledger: Ledger[S],
        fault: Callable[[BaseException], Fault],
        settings: LaneSettings,
        clock: Callable[[], float],
    ) -> None:
        self._service, self._ledger, self._fault = service, ledger, fault
        self._settings, self._clock = settings, clock
        self._next = 0.0

    def due(self, lane: Lane | None) -> bool:
        return lane is not None and lane.may_commit and self._clock() >= self._next

    def tick(self, lane: Lane) -> list[Output]:
        """Outputs of what it committed, to be published. Raises LanesLost, TickFailed, or what the ledger raises.

        Crash: a letter turns `replayed` in the commit that puts its bytes into the row; the next owner publishes them.
        """
        outputs: list[Output] = []
        full = False
        if self._ledger.letters_requested():
            outputs = self._commit(lane, self._replay)
            full = bool(outputs)
        elif self._service.tick is not None:
            outputs = self._commit(lane, self._work)
        if not full:  # else the next bunch goes as soon as this one is acknowledged
            self._next = self._clock() + self._settings.tick_interval_ms / 1_000
        return outputs

    def failed(self) -> None:
        self._next = self._clock() + self._settings.outage_backoff_max_ms / 1_000

    def _commit(self, lane: Lane, work: Callable[[Transaction[S], Any], list[Output]]) -> list[Output]:
        with self._ledger.transaction() as transaction:
            locked = transaction.lock([lane.claim])
            if locked.lost:
                raise LanesLost(locked.lost)
            outputs = work(transaction, locked.now)
            stored = unpublished.encode(outputs)
            transaction.advance([Advance(lane.claim, lane.expected + 1, stored, 0, 1, 0, 0, 0)])
            transaction.commit()
        if lane.state is State.RUNNING:
            lane.expected += 1
        return outputs

    def _replay(self, transaction: Transaction[S], _now: Any) -> list[Output]:
        taken = transaction.take_requested(self._settings.replay_letters_max, self._settings.replay_bytes_max)
        return [letters.replay_output(self._service.replay_topic, replay) for replay in taken]

    def _work(self, transaction: Transaction[S], now: Any) -> list[Output]:
        assert self._service.tick is not None
        try:
            events = self._service.tick(now, transaction.session)
        except Exception as error:
            if self._fault(error) is Fault.RECORD:
                raise TickFailed(describe(error)) from error
            raise
        time = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return [event.encode(time=time, traceparent=str(trace.new())) for event in events]
