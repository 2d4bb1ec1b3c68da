"""A worker as a process of its own, for benchmarks. It reports its commits with their times, and
its memory.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Collection
from pathlib import Path

import psutil
from typing_extensions import override

from services.runtime import process
from services.runtime.observability.telemetry import BatchSummary, Telemetry
from services.runtime.records import LaneKey
from services.runtime.settings import LaneSettings, Servers, load
from tests.benchmarks.lane_service import with_outputs, without_outputs


class JsonLinesTelemetry(Telemetry):
    """Writes a JSON line for each commit (time, records, lanes), and one each second with the
    resident bytes.
    """

    def __init__(self, path: Path) -> None:
        self._out = path.open("w", buffering=1)
        self._self = psutil.Process()
        self._next = 0.0

    def _write(self, **values: object) -> None:
        self._out.write(json.dumps({"at": time.time(), **values}) + "\n")

    @override
    def committed(self, batch: BatchSummary) -> None:
        records = batch.effects + batch.duplicates + batch.superseded
        self._write(
            records=records, lanes=[f"{lane.topic}/{lane.partition}" for lane in batch.lanes]
        )

    @override
    def assigned(self, lanes: Collection[LaneKey]) -> None:
        self._write(assigned=[f"{lane.topic}/{lane.partition}" for lane in lanes])

    @override
    def revoked(self, lanes: Collection[LaneKey]) -> None:
        self._write(revoked=[f"{lane.topic}/{lane.partition}" for lane in lanes])

    @override
    def iteration_done(self, *, is_ready: bool, reason: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            self._write(resident=self._self.memory_info().rss)


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--group", "--topic", "--to", "--report"):
        parser.add_argument(name, required=name != "--to")
    parser.add_argument("--batch", type=int, default=1_000)
    options = parser.parse_args()
    if options.to:
        service = with_outputs(options.group, options.topic, options.to)
    else:
        service = without_outputs(options.group, options.topic)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _frame: stopping.append(signum))
    settings = LaneSettings(batch_records_max=options.batch)
    worker = process.build(
        service, load(Servers), settings, JsonLinesTelemetry(Path(options.report))
    )
    while not stopping:
        worker.step()
    return 0 if worker.stop() else 1


if __name__ == "__main__":
    raise SystemExit(main())
