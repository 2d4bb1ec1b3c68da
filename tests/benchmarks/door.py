"""Bench of the door: signed callbacks a second on one core, beside FastAPI merely reading the body, measured in turn.

The server is pinned to one core; the load, the broker and all else have the others.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.benchmarks.report import Figure, median, show

SECRET = "s3cr3t-of-the-bench"
LEAST_PER_SECOND, LEAST_SHARE = 2_000, 0.4
START_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def pinned(command: Sequence[str], environment: Mapping[str, str], ready: str) -> Iterator[psutil.Process]:
    """A server on the last core, until it is left."""
    core = max(psutil.Process().cpu_affinity() or [0])
    child = subprocess.Popen(command, env=dict(environment), stderr=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    process.cpu_affinity([core])
    try:
        await_answer(ready)
        yield process
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)


def await_answer(url: str) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - an address of ours
                return
        except OSError as error:
            if getattr(error, "code", None) in {404, 405}:
                return  # it answers, and that is all that is asked
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def load(port: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.http_load", "--port", str(port), "--path", "/hooks/shop"]
    command += ["--secret", SECRET, "--seconds", str(seconds)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def door_environment(servers: str, folder: Path, port: int) -> dict[str, str]:
    sources = folder / "sources.toml"
    sources.write_text(
        '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:BENCH_SECRET"]\nrate_max = 1_000_000\n', "utf-8"
    )
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "BENCH_SECRET": SECRET,
        "STUBLINE_INGEST_SOURCES_FILE": str(sources),
        "STUBLINE_INGEST_DOOR_PORT": str(port),
    }


def measure_door(servers: str, folder: Path, seconds: float) -> tuple[dict[str, float], float]:
    """What the load saw, and the resident bytes afterwards."""
    port = free_port()
    command = [sys.executable, "-m", "services.ingest.door"]
    with pinned(command, door_environment(servers, folder, port), f"http://127.0.0.1:{port}/readyz") as process:
        return load(port, seconds), process.memory_info().rss


def measure_bare(seconds: float) -> dict[str, float]:
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.bare_door", "--port", str(port)]
    with pinned(command, os.environ, f"http://127.0.0.1:{port}/hooks/shop"):
        return load(port, seconds)


def figures(servers: str, *, seconds: float = 5.0, runs: int = 3) -> list[Figure]:
    """The topic of the callbacks must exist: `stubline migrate`."""
    door, bare, residents = list[dict[str, float]](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            bare.append(measure_bare(seconds)["rate"])
            told, resident = measure_door(servers, Path(folder), seconds)
            door.append(told)
            residents.append(resident)
    rate, limit = median([told["rate"] for told in door]), median(bare)
    p50, p99 = (median([told[name] for told in door]) for name in ("p50_ms", "p99_ms"))
    refused = sum(told["refused"] for told in door)
    beside = f"{limit:,.0f}/s FastAPI merely reads the body"
    return [
        Figure("door, signed callbacks on one core", f"{rate:,.0f}/s", beside, ">= 2,000/s", rate >= LEAST_PER_SECOND),
        Figure(
            "door, share of the bare framework", f"{rate / limit:.0%}", beside, ">= 40 %", rate >= LEAST_SHARE * limit
        ),
        Figure("door, answered after the acknowledgement", f"p50 {p50:.0f} ms", f"p99 {p99:.0f} ms", "64 at once"),
        Figure("door, refused under load", f"{refused:,.0f}", "", "none", not refused),
        Figure("door, resident", f"{max(residents) / 2**20:.0f} MB", "", "printed"),
    ]


if __name__ == "__main__":
    show("Door", figures(os.environ["KAFKA_BOOTSTRAP_SERVERS"]))
