"""`python -m tests.support.sabotaged issuer`: a service as it is, with traps at the points of a
batch's life.

SABOTAGE names them from the start, the file SABOTAGE_FILE at any time, both as
tests/protocol/toy/sabotage.py reads them. Beside the points of its telemetry there are `parse`,
`handle`, `tick`, `in_flight`: an output is with the producer and hardly on the wire, and
`delivered`: the report of its delivery, where `fail` answers that it failed. What acts is noted
beside the file first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from typing_extensions import override

from schemas.envelope import Output
from services.runtime import process
from services.runtime.errors import BrokerUnavailable, StublineError
from services.runtime.kafka.client import KafkaClient
from services.runtime.loop.ports import DeliveryCallback
from services.runtime.service import Service
from services.runtime.settings import LaneSettings
from tests.protocol.toy.sabotage import Sabotage, Saboteur, Switches, act

T = TypeVar("T")
run_service = process.run


class DeliveryFailed(Sabotage):
    """Stands for a delivery report that is an error."""


class Trap(Switches):
    """What the file says now. A file that was written anew counts anew."""

    def __init__(self, file: Path) -> None:
        super().__init__("", self._spring)
        self._file, self._written, self._point = file, 0, ""

    @override
    def at(self, point: str) -> None:
        if self._file.exists() and (written := self._file.stat().st_mtime_ns) != self._written:
            self._written = written
            super().__init__(self._file.read_text("utf-8"), self._spring)
        self._point = point
        super().at(point)

    def _spring(self, action: str) -> None:
        with self._file.with_suffix(".sprung").open("a", encoding="utf-8") as sprung:
            sprung.write(f"{self._point}:{action}\n")
        if action == "fail":
            raise DeliveryFailed("as the test asked")
        act(action)


class TrappedLog(KafkaClient):
    """Its reports of deliveries pass a trap, in the client's own callback."""

    switches: ClassVar[Switches]

    @override
    def produce(self, output: Output, on_delivery: DeliveryCallback) -> None:
        def delivered(error: StublineError | None) -> None:
            try:
                self.switches.at("delivered")
            except DeliveryFailed as failed:
                error = BrokerUnavailable(f"delivery failed: {failed}")
            on_delivery(error)

        super().produce(output, delivered)
        self.switches.at("in_flight")


def passing(switches: Switches, point: str, call: Callable[..., T]) -> Callable[..., T]:
    def passed(*arguments: Any) -> T:
        switches.at(point)
        return call(*arguments)

    return passed


def run(service: Service[Any, Any], settings: LaneSettings, *, switches: Switches) -> int:
    trapped = replace(
        service,
        parse=passing(switches, "parse", service.parse),
        handle=passing(switches, "handle", service.handle),
        tick=service.tick and passing(switches, "tick", service.tick),
    )
    return run_service(trapped, settings, telemetry=partial(Saboteur, switches=switches))


def main() -> int:
    file = os.environ.get("SABOTAGE_FILE")
    switches = Trap(Path(file)) if file else Switches(os.environ["SABOTAGE"])
    TrappedLog.switches = switches
    vars(process)["KafkaClient"] = TrappedLog  # the one place where a process gets its log from
    process.run = partial(run, switches=switches)
    return int(import_module(f"services.{sys.argv[1]}.__main__").main())


if __name__ == "__main__":
    raise SystemExit(main())
