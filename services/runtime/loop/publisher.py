"""Publishes outputs: they are produced after their commit, and counted until every one is
acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from schemas.envelope import Output
from services.runtime.errors import OutputRefused, Stop, StublineError
from services.runtime.loop.lane import Lane, PendingAcks
from services.runtime.observability.telemetry import Telemetry
from services.runtime.ports import BrokerClient
from services.runtime.records import TIMER


@dataclass(slots=True)
class SettledDeliveries:
    """Lanes with a failed delivery: `failed` are to be published again from their rows, `refused`
    can never be published.
    """

    failed: list[tuple[Lane, StublineError]] = field(default_factory=list)
    refused: list[tuple[Lane, Stop]] = field(default_factory=list)


class OutputPublisher:
    """Hands outputs to the producer and evaluates their delivery reports.

    A failed delivery is no acknowledgement: its lane is acquired again, which publishes the
    outputs from the row.
    """

    def __init__(
        self, broker: BrokerClient, telemetry: Telemetry, clock: Callable[[], float]
    ) -> None:
        self._broker, self._telemetry, self._clock = broker, telemetry, clock

    def send(self, lane: Lane, outputs: Sequence[Output]) -> None:
        """Produce a lane's outputs. The lane commits nothing until `settle` finds them all
        acknowledged.
        """
        lane.row_holds_outputs = bool(outputs)
        if not outputs:
            lane.pending_acks = None
            self._done(lane)
            return
        pending = lane.pending_acks = PendingAcks(len(outputs), self._clock())
        for number, output in enumerate(outputs):
            self._broker.produce(output, partial(pending.report, number=number))

    def settle(self, lanes: Iterable[Lane]) -> SettledDeliveries:
        """Release the lanes whose outputs are all acknowledged, and return those that failed."""
        settled = SettledDeliveries()
        for lane in lanes:
            pending = lane.pending_acks
            if pending is None:
                continue
            if isinstance(pending.error, Stop):
                settled.refused.append(
                    (lane, OutputRefused(f"output {pending.failed}: {pending.error.cause}"))
                )
            elif pending.error is not None:
                settled.failed.append((lane, pending.error))
            elif pending.remaining == 0:
                lane.pending_acks = None
                self._done(lane)
        return settled

    def await_acks(self, lanes: Sequence[Lane], wait_s: float, until: float | None = None) -> None:
        """Wait until everything is acknowledged, or until the youngest waiting output is `wait_s`
        old. `until`: a fixed deadline instead.
        """
        while waiting := [
            lane.pending_acks
            for lane in lanes
            if lane.pending_acks and lane.pending_acks.remaining and not lane.pending_acks.error
        ]:
            end = until if until is not None else max(pending.since for pending in waiting) + wait_s
            left = end - self._clock()
            if left <= 0:
                return
            self._broker.poll_deliveries(min(left, 0.01))

    def _done(self, lane: Lane) -> None:
        self._telemetry.published(lane.key)
        if lane.key != TIMER:
            self._broker.commit_group_offsets({lane.key: lane.next_offset})
