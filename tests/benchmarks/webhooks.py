"""Benchmark of the webhook endpoint: each source's callbacks a second on one core, beside FastAPI
that only reads the same bodies.

The server is pinned to one core; the load, the broker and everything else have the others.
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

from tests.benchmarks.report import MeasuredFigure, median, show
from tests.support.vendors import VENDORS, paypal

LEAST_PER_SECOND, LEAST_SHARE, P99_MS = 2_000, 0.4, 50.0
START_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def pinned(
    command: Sequence[str], environment: Mapping[str, str], ready: str
) -> Iterator[psutil.Process]:
    """Run a server on the last core."""
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
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - an address of this machine
                return
        except OSError as error:
            if getattr(error, "code", None) in {404, 405}:
                return  # it answers, which is all that matters here
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
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


def endpoint_environment(servers: str, folder: Path, port: int) -> dict[str, str]:
    """Return its environment: every source, with its vendor's secret and no limit of its own."""
    sources = folder / "sources.toml"
    paypal.share(folder)
    os.environ[paypal.FOLDER] = str(folder)  # the endpoint and the load are processes of their own
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
                    *(f"{name} = {json.dumps(value)}" for name, value in options.items()),
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
class SourceFigures:
    """One source: what the load measured at full speed and at half of it, and the resident
    bytes.
    """

    full: list[dict[str, float]] = field(default_factory=list)
    half: list[dict[str, float]] = field(default_factory=list)
    resident: int = 0

    @property
    def rate(self) -> float:
        return median([run["rate"] for run in self.full])

    def figures(self, kind: str, limit: float) -> list[MeasuredFigure]:
        p99 = median([run["p99_ms"] for run in self.half])
        refused = sum(run["refused"] for run in self.full + self.half)
        beside = f"{self.rate / limit:.0%} of {limit:,.0f}/s, FastAPI only reading these bodies"
        limit_text = f">= {LEAST_PER_SECOND:,}/s and >= {LEAST_SHARE:.0%}, none refused"
        met = self.rate >= max(LEAST_PER_SECOND, LEAST_SHARE * limit) and not refused
        return [
            MeasuredFigure(
                f"webhooks, {kind}, one core", f"{self.rate:,.0f}/s", beside, limit_text, met
            ),
            MeasuredFigure(
                f"webhooks, {kind}, at half of it",
                f"p99 {p99:.0f} ms",
                f"{self.rate / 2:,.0f}/s",
                "< 50 ms",
                p99 < P99_MS,
            ),
        ]


def measure_endpoint(
    servers: str, folder: Path, seconds: float, kind: str, seen: SourceFigures
) -> None:
    """Measure a new process, at full speed and then at half."""
    port, health_port = free_port(), free_port()
    command = [sys.executable, "-m", "tests.benchmarks.webhooks_process"]
    environment = endpoint_environment(servers, folder, port) | {
        "STUBLINE_INGEST_WEBHOOK_HEALTH_PORT": str(health_port)
    }
    with pinned(command, environment, f"http://127.0.0.1:{health_port}/readyz") as process:
        seen.full.append(load(port, seconds, kind))
        seen.half.append(load(port, seconds, kind, seen.full[-1]["rate"] / 2))
        seen.resident = max(seen.resident, process.memory_info().rss)


def measure_bare(seconds: float, kind: str) -> float:
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.bare_fastapi", "--port", str(port)]
    with pinned(command, os.environ, f"http://127.0.0.1:{port}/hooks/shop"):
        return load(port, seconds, kind)["rate"]


def figures(servers: str, *, seconds: float = 3.0, runs: int = 3) -> list[MeasuredFigure]:
    """Measure every source. The topic of the callbacks must exist: `stubline migrate`."""
    rows, resident = list[MeasuredFigure](), 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in VENDORS:
            bare, seen = list[float](), SourceFigures()
            for _ in range(runs):
                bare.append(measure_bare(seconds, kind))
                measure_endpoint(servers, Path(folder), seconds, kind, seen)
            rows += seen.figures(kind, median(bare))
            resident = max(resident, seen.resident)
    return [
        *rows,
        MeasuredFigure("webhooks, resident", f"{resident / 2**20:.0f} MB", "", "printed"),
    ]


if __name__ == "__main__":
    show("Webhook endpoint", figures(os.environ["KAFKA_BOOTSTRAP_SERVERS"]))
