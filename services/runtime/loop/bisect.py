"""Which record is it? A batch that failed is tried in parts, in savepoints that are always rolled
back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from services.runtime.errors import Poison, UnexpectedError
from services.runtime.loop.batch import LaneSlice, LanesLost, RecordsFailed
from services.runtime.loop.commit import call_handler, output_too_large, prepared_records
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import PreparedRecord, RecordPosition
from services.runtime.loop.ports import Transaction
from services.runtime.observability.logs import describe
from services.runtime.records import Dead, Effect

S = TypeVar("S")


class PoisonBisector(Generic[S]):
    """Finds the records that fail by themselves. Its transaction is never committed."""

    def __init__(self, means: WorkerContext[S]) -> None:
        self._service, self._ledger, self._fault = means.service, means.ledger, means.fault
        self._telemetry, self._clock = means.telemetry, means.clock
        self._deadline_s = means.settings.bisect_deadline_ms / 1_000

    def find(
        self, parts: Sequence[LaneSlice], verdicts: Mapping[RecordPosition, Dead], enough: int
    ) -> dict[RecordPosition, Dead]:
        """Stops at the deadline, or once it has found `enough` to pull the brake. Empty: they fail
        only together.
        """
        until = self._clock() + self._deadline_s
        suspects = [
            entry
            for entry in prepared_records(parts)
            if entry.place not in verdicts and not isinstance(entry.event, Dead)
        ]
        found: dict[RecordPosition, Dead] = {}
        with self._ledger.transaction() as transaction:
            locked = transaction.lock([part.claim for part in parts])
            if locked.lost:
                raise LanesLost(locked.lost)
            untried = [suspects] if len(suspects) == 1 else _halves(suspects)
            while untried and len(found) < enough and (self._clock() < until or not found):
                group = untried.pop()
                error = self._try(transaction, group)
                if error is None:
                    continue
                if len(group) == 1:
                    found[group[0].place] = self._verdict(group[0], error)
                else:
                    untried += _halves(group)
        return found

    def _try(
        self, transaction: Transaction[S], group: Sequence[PreparedRecord]
    ) -> BaseException | None:
        try:
            with transaction.trial():
                events = [entry.event for entry in group]
                outcomes = call_handler(self._service, self._fault, events, transaction.session)
        except RecordsFailed as error:
            return error.__cause__
        effects = [outcome for outcome in outcomes if isinstance(outcome, Effect)]
        return output_too_large(
            said.encode(time="", traceparent=None) for effect in effects for said in effect.outputs
        )

    def _verdict(self, entry: PreparedRecord, error: BaseException) -> Dead:
        if isinstance(error, Poison):
            return Dead(error)
        record = entry.record
        self._telemetry.unexpected((record.topic, record.partition, record.offset), error)
        return Dead(UnexpectedError(describe(error)), unexpected=True)


def _halves(entries: Sequence[PreparedRecord]) -> list[Sequence[PreparedRecord]]:
    middle = len(entries) // 2
    return [half for half in (entries[:middle], entries[middle:]) if half]
