"""Finds the poison records of a batch that failed: halves of it are tried in savepoints that are
always rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from services.runtime.errors import Poison, UnexpectedError
from services.runtime.loop.batch import LanesFenced, LaneSlice, RecordsFailed
from services.runtime.loop.commit import call_handler, output_too_large, prepared_records
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import PreparedRecord, RecordPosition
from services.runtime.observability.logs import describe
from services.runtime.ports import Transaction
from services.runtime.records import Dead, Effect

S = TypeVar("S")


class PoisonBisector(Generic[S]):
    """Finds the records that fail by themselves. Its transaction is never committed."""

    def __init__(self, context: WorkerContext[S]) -> None:
        self._service, self._lane_store = context.service, context.lane_store
        self._classify, self._clock = context.classify, context.clock
        self._telemetry = context.telemetry
        self._deadline_s = context.settings.bisect_deadline_ms / 1_000

    def find(
        self,
        slices: Sequence[LaneSlice],
        known_dead: Mapping[RecordPosition, Dead],
        dead_max: int,
    ) -> dict[RecordPosition, Dead]:
        """Return the records that fail by themselves; none if the batch fails only as a whole.

        Stops at the deadline, or once it has found `dead_max`: enough to open the breaker. Raises
        LanesFenced.
        """
        until = self._clock() + self._deadline_s
        suspects = [
            prepared
            for prepared in prepared_records(slices)
            if prepared.position not in known_dead and not isinstance(prepared.event, Dead)
        ]
        dead: dict[RecordPosition, Dead] = {}
        with self._lane_store.transaction() as transaction:
            locked = transaction.lock([lane_slice.expected for lane_slice in slices])
            if locked.fenced:
                raise LanesFenced(locked.fenced)
            untried = [suspects] if len(suspects) == 1 else _halves(suspects)
            while untried and len(dead) < dead_max and (self._clock() < until or not dead):
                group = untried.pop()
                error = self._try(transaction, group)
                if error is None:
                    continue
                if len(group) == 1:
                    dead[group[0].position] = self._dead_outcome(group[0], error)
                else:
                    untried += _halves(group)
        return dead

    def _try(
        self, transaction: Transaction[S], group: Sequence[PreparedRecord]
    ) -> BaseException | None:
        """Return the error with which a group of records fails, or None."""
        try:
            with transaction.rolled_back():
                events = [prepared.event for prepared in group]
                outcomes = call_handler(self._service, self._classify, events, transaction.session)
        except RecordsFailed as error:
            return error.__cause__
        effects = [outcome for outcome in outcomes if isinstance(outcome, Effect)]
        return output_too_large(
            event.encode(time="", traceparent=None)
            for effect in effects
            for event in effect.outputs
        )

    def _dead_outcome(self, prepared: PreparedRecord, error: BaseException) -> Dead:
        if isinstance(error, Poison):
            return Dead(error)
        record = prepared.record
        self._telemetry.record_failed((record.topic, record.partition, record.offset), error)
        return Dead(UnexpectedError(describe(error)), unexpected=True)


def _halves(records: Sequence[PreparedRecord]) -> list[Sequence[PreparedRecord]]:
    middle = len(records) // 2
    return [half for half in (records[:middle], records[middle:]) if half]
