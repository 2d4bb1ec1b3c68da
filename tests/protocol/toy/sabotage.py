"""Kills, stops or breaks a process from within, at a named point of a batch.

Production code has no such switch: it is in a telemetry that only tests pass.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from typing_extensions import override

from services.runtime.observability.health import Health
from services.runtime.observability.logging_telemetry import LoggingTelemetry
from services.runtime.observability.telemetry import BatchSummary, Telemetry
from services.runtime.records import LaneKey


class Sabotage(RuntimeError):
    """Raised at a point that the test named."""


@dataclass(frozen=True, slots=True)
class Switch:
    """`POINT:ACTION:N` acts at the N-th time (1 without N). Several are separated by commas."""

    point: str
    action: str
    count: int

    @classmethod
    def read(cls, text: str) -> list[Switch]:
        parts = [one.split(":") for one in text.split(",") if one]
        return [cls(part[0], part[1], int(part[2]) if len(part) > 2 else 1) for part in parts]


def act(action: str) -> None:
    """Do it to this process, now."""
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise Sabotage("as the test requested")
        case _:
            raise ValueError(action)


class Switches:
    """Counts how often each point was passed, and acts at the named ones."""

    def __init__(self, text: str, do: Callable[[str], None] = act) -> None:
        self._switches, self._do, self._counts = Switch.read(text), do, Counter[str]()

    def at(self, point: str) -> None:
        self._counts[point] += 1
        for switch in self._switches:
            if (switch.point, switch.count) == (point, self._counts[point]):
                self._do(switch.action)


class Points(Telemetry):
    """Acts at the named points, after the event was reported."""

    switches: Switches

    @override
    def transaction_begun(self, lanes: Collection[LaneKey]) -> None:
        super().transaction_begun(lanes)
        self.switches.at("transaction_begun")

    @override
    def committing(self, lanes: Collection[LaneKey]) -> None:
        super().committing(lanes)
        self.switches.at("committing")

    @override
    def committed(self, batch: BatchSummary) -> None:
        super().committed(batch)
        self.switches.at("committed")

    @override
    def produced(self, lanes: Collection[LaneKey]) -> None:
        super().produced(lanes)
        self.switches.at("produced")

    @override
    def published(self, lane: LaneKey) -> None:
        super().published(lane)
        self.switches.at("published")

    @override
    def acquired(self, lane: LaneKey, epoch: int, offset: int, republished: int) -> None:
        super().acquired(lane, epoch, offset, republished)
        self.switches.at("acquired")

    @override
    def assigned(self, lanes: Collection[LaneKey]) -> None:
        super().assigned(lanes)
        self.switches.at("assigned")

    @override
    def revoked(self, lanes: Collection[LaneKey]) -> None:
        super().revoked(lanes)
        self.switches.at("revoked")

    @override
    def lost(self, lanes: Collection[LaneKey]) -> None:
        super().lost(lanes)
        self.switches.at("lost")


class Saboteur(Points, LoggingTelemetry):
    """Logs as LoggingTelemetry does, and acts at the named points."""

    def __init__(self, group: str, health: Health, switches: Switches) -> None:
        super().__init__(group, health)
        self.switches = switches


class QuietSaboteur(Points):
    """For tests in memory: it keeps what laws check, and logs nothing."""

    def __init__(self, switches: Switches) -> None:
        self.switches = switches
        self.failures: list[BaseException] = []
        self.batches: list[BatchSummary] = []
        self.readiness: list[tuple[bool, str]] = []  # each that differs from the one before
        self.stops: dict[LaneKey, str] = {}  # the text of each lane's last stop

    @override
    def backing_off(self, error: BaseException, attempt: int, wait_s: float) -> None:
        self.failures.append(error)

    @override
    def stopped(self, lane: LaneKey, code: str, text: str) -> None:
        self.stops[lane] = text

    @override
    def iteration_done(self, *, is_ready: bool, reason: str) -> None:
        if [(is_ready, reason)] != self.readiness[-1:]:
            self.readiness.append((is_ready, reason))

    @override
    def committed(self, batch: BatchSummary) -> None:
        self.batches.append(batch)
        super().committed(batch)
