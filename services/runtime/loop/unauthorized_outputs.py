"""Tracks the lanes whose outputs the broker refuses because a right to write is missing. Meanwhile
the process is not ready, with that reason, and its other lanes go on.

Nothing is lost meanwhile: the outputs are in the lane's row. The lane is acquired again after a
growing delay, which publishes them once more, until the right is granted (model/: rule 8, outbox
until acknowledged).
"""

from __future__ import annotations

from typing import Generic, TypeVar

from services.runtime.errors import OutputUnauthorized
from services.runtime.failures.backoff import ExponentialDelay
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import LaneState
from services.runtime.records import LaneKey

S = TypeVar("S")
RETRY_MAX_S = 10.0  # each try publishes again what the row holds for other topics


class UnauthorizedOutputs(Generic[S]):
    """Remembers a lane until all its outputs are acknowledged, or until it is no longer ours."""

    def __init__(self, context: WorkerContext[S], assignment: Assignment[S]) -> None:
        self._assignment, self._telemetry = assignment, context.telemetry
        self._rng = context.rng
        self._delay = ExponentialDelay(context.settings.acquire_backoff_min_ms / 1_000, RETRY_MAX_S)
        self._failures: dict[LaneKey, int] = {}  # refusals in a row, by lane

    @property
    def code(self) -> str:
        """The error code while a lane's outputs are refused; empty: none are."""
        return OutputUnauthorized.code if self._failures else ""

    def delay_s(self, key: LaneKey, error: OutputUnauthorized) -> float:
        """Remember the refusal and report it. Return the seconds until the lane is acquired
        again.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = self._delay.delay_s(failures, self._rng())
        self._telemetry.backing_off(error, failures, delay_s)
        return delay_s

    def forget_published(self) -> None:
        """Forget the lanes whose outputs are all acknowledged, and those that stopped or left."""
        self._failures = {key: count for key, count in self._failures.items() if self._waits(key)}

    def _waits(self, key: LaneKey) -> bool:
        lane = self._assignment.lanes.get(key)
        if lane is None or lane.state is LaneState.STOPPED:
            return False
        return lane.state is LaneState.ACQUIRE or lane.pending_acks is not None
