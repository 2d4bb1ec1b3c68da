"""The dependencies of a worker's parts: handed in once, so that a test can hand in others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.runtime.failures.classification import FailureKind
from services.runtime.observability.telemetry import Telemetry
from services.runtime.ports import BrokerClient, LaneStore
from services.runtime.service import Service
from services.runtime.settings import LaneSettings

S = TypeVar("S")


@dataclass(frozen=True)
class WorkerContext(Generic[S]):
    """All that a worker uses besides its own state.

    `clock` is monotonic, `wall_clock` is the time of day, both in seconds. `rng` returns a number
    from 0 to 1, for jitter. `classify` returns the kind of failure that an exception is.
    """

    service: Service[Any, S]
    broker: BrokerClient
    lane_store: LaneStore[S]
    settings: LaneSettings
    telemetry: Telemetry
    classify: Callable[[BaseException], FailureKind]
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    rng: Callable[[], float]
