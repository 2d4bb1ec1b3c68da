"""`python -m tests.support.sabotaged issuer`: a service with traps at the points of a batch's life.

SABOTAGE names the traps from the start, the file SABOTAGE_FILE at any time, both in the form of
tests/protocol/toy/sabotage.py. Beside the points of the telemetry there are `parse`, `handle`,
`tick`, `in_flight` (an output was handed to the producer and is hardly on the wire) and `delivered`
(the report of its delivery, which `fail` turns into a failure). Each trap that acts is first noted
in a file beside SABOTAGE_FILE.
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
from services.runtime.ports import DeliveryCallback
from services.runtime.service import Service
from services.runtime.settings import LaneSettings
from tests.protocol.toy.sabotage import Sabotage, Saboteur, Switches, act

T = TypeVar("T")
run_service = process.run


class DeliveryFailed(Sabotage):
    """A delivery report that is an error."""


class FileTrap(Switches):
    """The traps of the file as it is now. A file that is written again begins its counts again."""

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
            raise DeliveryFailed("as the test requested")
        act(action)


class TrappedKafkaClient(KafkaClient):
    """A client whose delivery reports pass a trap, in the client's own callback."""

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
    switches = FileTrap(Path(file)) if file else Switches(os.environ["SABOTAGE"])
    TrappedKafkaClient.switches = switches
    # The one place where a process gets its client from.
    vars(process)["KafkaClient"] = TrappedKafkaClient
    process.run = partial(run, switches=switches)
    return int(import_module(f"services.{sys.argv[1]}.__main__").main())


if __name__ == "__main__":
    raise SystemExit(main())
