"""Bench of the door: each source's callbacks a second on one core, beside FastAPI merely reading
the same bodies, in turn.

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
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks.report import Figure, median, show
from tests.support.vendors import VENDORS, paypal

LEAST_PER_SECOND, LEAST_SHARE, P99_MS = 2_000, 0.4, 50.0
START_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def pinned(
    command: Sequence[str], environment: Mapping[str, str], ready: str
) -> Iterator[psutil.Process]:
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


def load(
    port: int, seconds: float, kind: str = "woocommerce", rate: float = 0.0
) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.http_load",
        "--port",
        str(port),
        "--path",
        f"/hooks/{kind}",
    ]
    command += ["--kind", kind, "--seconds", str(seconds), "--rate", str(rate)]
    told: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return told


def door_environment(servers: str, folder: Path, port: int) -> dict[str, str]:
    """Every source, each with its vendor's secret and no limit of its own."""
    sources = folder / "sources.toml"
    paypal.share(folder)
    os.environ[paypal.FOLDER] = str(folder)  # the door and the load are processes of their own
    blocks = list[str]()
    for kind, vendor in VENDORS.items():
        (folder / kind).write_text(vendor.secret, "utf-8")
        options = {
            **vendor.options,
            **({"orders_of": "shop"} if vendor.source.needs_orders_of else {}),
        }
        if kind == paypal.VENDOR.kind:
            options["roots"] = paypal.FILES[-1]
        lines = [f'kind = "{kind}"', f'secrets = ["file:{kind}"]', "rate_max = 1_000_000"]
        blocks.append(
            "\n".join(
                [
                    f"[sources.{kind}]",
                    *lines,
                    *(f"{name} = {json.dumps(it)}" for name, it in options.items()),
                ]
            )
        )
    sources.write_text("\n".join(blocks), "utf-8")
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "STUBLINE_INGEST_SOURCES_FILE": str(sources),
        "STUBLINE_INGEST_WEBHOOK_PORT": str(port),
    }


@dataclass
class Seen:
    """Of one source: what the load saw at full speed, and at half of it; and the process's resident
    bytes.
    """

    full: list[dict[str, float]] = field(default_factory=list)
    half: list[dict[str, float]] = field(default_factory=list)
    resident: int = 0

    @property
    def rate(self) -> float:
        return median([told["rate"] for told in self.full])

    def figures(self, kind: str, limit: float) -> list[Figure]:
        p99 = median([told["p99_ms"] for told in self.half])
        refused = sum(told["refused"] for told in self.full + self.half)
        beside = f"{self.rate / limit:.0%} of {limit:,.0f}/s, FastAPI merely reading these bodies"
        asked = f">= {LEAST_PER_SECOND:,}/s and >= {LEAST_SHARE:.0%}, none refused"
        met = self.rate >= max(LEAST_PER_SECOND, LEAST_SHARE * limit) and not refused
        return [
            Figure(f"door, {kind}, one core", f"{self.rate:,.0f}/s", beside, asked, met),
            Figure(
                f"door, {kind}, at half of it",
                f"p99 {p99:.0f} ms",
                f"{self.rate / 2:,.0f}/s",
                "< 50 ms",
                p99 < P99_MS,
            ),
        ]


def measure_door(servers: str, folder: Path, seconds: float, kind: str, seen: Seen) -> None:
    """A process of its own, at full speed and then at half."""
    port, health_port = free_port(), free_port()
    command = [sys.executable, "-m", "tests.benchmarks.door_process"]
    environment = door_environment(servers, folder, port) | {
        "STUBLINE_INGEST_WEBHOOK_HEALTH_PORT": str(health_port)
    }
    with pinned(command, environment, f"http://127.0.0.1:{health_port}/readyz") as process:
        seen.full.append(load(port, seconds, kind))
        seen.half.append(load(port, seconds, kind, seen.full[-1]["rate"] / 2))
        seen.resident = max(seen.resident, process.memory_info().rss)


def measure_bare(seconds: float, kind: str) -> float:
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.bare_door", "--port", str(port)]
    with pinned(command, os.environ, f"http://127.0.0.1:{port}/hooks/shop"):
        return load(port, seconds, kind)["rate"]


def figures(servers: str, *, seconds: float = 3.0, runs: int = 3) -> list[Figure]:
    """The topic of the callbacks must exist: `stubline migrate`."""
    found, resident = list[Figure](), 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in VENDORS:
            bare, seen = list[float](), Seen()
            for _ in range(runs):
                bare.append(measure_bare(seconds, kind))
                measure_door(servers, Path(folder), seconds, kind, seen)
            found += seen.figures(kind, median(bare))
            resident = max(resident, seen.resident)
    return [*found, Figure("door, resident", f"{resident / 2**20:.0f} MB", "", "printed")]


if __name__ == "__main__":
    show("Door", figures(os.environ["KAFKA_BOOTSTRAP_SERVERS"]))
