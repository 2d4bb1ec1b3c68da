"""What the parts of a worker work with: handed in once, so that a test hands in others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.runtime.failures import FailureKind
from services.runtime.loop.ports import BrokerClient, Ledger
from services.runtime.observability.telemetry import Telemetry
from services.runtime.service import Service
from services.runtime.settings import LaneSettings

S = TypeVar("S")


@dataclass(frozen=True)
class WorkerContext(Generic[S]):
    """`clock` is monotonic, `wall` the time of day, both in seconds. `fault` says whose fault an
    error is.
    """

    service: Service[Any, S]
    log: BrokerClient
    ledger: Ledger[S]
    settings: LaneSettings
    telemetry: Telemetry
    fault: Callable[[BaseException], FailureKind]
    clock: Callable[[], float]
    wall: Callable[[], float]
