"""Outputs on their way to Kafka: produced after the commit, counted until every one is
acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from schemas.envelope import Output
from services.runtime.errors import OutputRefused, Stop
from services.runtime.loop.lane import Lane, PendingAcks
from services.runtime.loop.ports import BrokerClient
from services.runtime.observability.telemetry import Telemetry
from services.runtime.records import TIMER


@dataclass(slots=True)
class SettledDeliveries:
    """Lanes whose delivery failed: `again` from the row, or `refused` for good."""

    again: list[Lane] = field(default_factory=list)
    refused: list[tuple[Lane, Stop]] = field(default_factory=list)


class OutputPublisher:
    """A failed delivery is not an acknowledgement: its lane is given up and acquired again, which
    produces it from the row.
    """

    def __init__(self, log: BrokerClient, telemetry: Telemetry, clock: Callable[[], float]) -> None:
        self._log, self._telemetry, self._clock = log, telemetry, clock

    def send(self, lane: Lane, outputs: Sequence[Output]) -> None:
        """Hands the lane's outputs to the producer; the lane commits nothing until `settle` has
        seen them acknowledged.
        """
        lane.row_holds_outputs = bool(outputs)
        if not outputs:
            lane.outbox = None
            self._done(lane)
            return
        outbox = lane.outbox = PendingAcks(len(outputs), self._clock())
        for place, output in enumerate(outputs):
            self._log.produce(output, partial(outbox.answer, place=place))

    def settle(self, lanes: Iterable[Lane]) -> SettledDeliveries:
        """What the answers so far mean."""
        settled = SettledDeliveries()
        for lane in lanes:
            outbox = lane.outbox
            if outbox is None:
                continue
            if isinstance(outbox.error, Stop):
                settled.refused.append(
                    (lane, OutputRefused(f"output {outbox.failed}: {outbox.error.cause}"))
                )
            elif outbox.error is not None:
                settled.again.append(lane)
            elif outbox.remaining == 0:
                lane.outbox = None
                self._done(lane)
        return settled

    def await_answers(
        self, lanes: Sequence[Lane], wait_s: float, until: float | None = None
    ) -> None:
        """Until all is acknowledged, or an outbox is older than `wait_s`: then its lane is left
        out. `until`: a fixed end.
        """
        while waiting := [
            lane.outbox
            for lane in lanes
            if lane.outbox and lane.outbox.remaining and not lane.outbox.error
        ]:
            end = until if until is not None else max(outbox.since for outbox in waiting) + wait_s
            left = end - self._clock()
            if left <= 0:
                return
            self._log.deliveries(min(left, 0.01))

    def _done(self, lane: Lane) -> None:
        self._telemetry.published(lane.key)
        if lane.key != TIMER:
            self._log.hint({lane.key: lane.expected})
