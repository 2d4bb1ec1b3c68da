"""Benchmark A: what the runtime costs, how fast a dead owner is replaced, and what a rebalance does
to lanes that stay.

Rates are compared with a bare consume(n) -> produce of the same records on the same broker; both
are measured alternately.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.benchmarks.report import MeasuredFigure, median, percentile

RECORD_BYTES = 800
PARTITIONS = 4
SESSION_TIMEOUT_S = 6.0
GAP_LIMIT_S = 0.25
RESIDENT_LIMIT, FLAT = 120 * 2**20, 0.05


@dataclass
class LaneBenchmark:
    """One broker, one database, and a folder for the reports of the workers."""

    servers: str
    database_url: str
    folder: Path
    names: int = 0
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def topic(self, partitions: int = PARTITIONS, name: str = "") -> str:
        self.names += 1
        name = name or f"bench-{os.getpid()}-{self.names}"
        admin = AdminClient({"bootstrap.servers": self.servers})
        for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            future.result()
        return name

    def group(self) -> str:
        """Return the name of a new group, whose dead and replay topics exist."""
        self.names += 1
        group = f"bench-{os.getpid()}-{self.names}"
        for kind in ("dead", "replay"):
            self.topic(1, f"{group}.{kind}.v1")
        return group

    def fill(self, topic: str, records: int) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 20})
        half = os.urandom(RECORD_BYTES // 2)
        for number in range(records):
            while True:
                try:
                    producer.produce(topic, value=half + half, key=b"%d" % (number % 5_000))
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.flush()

    @contextmanager
    def worker(
        self, group: str, topic: str, to: str = "", batch: int = 1_000
    ) -> Iterator[WorkerReport]:
        self.names += 1
        report = WorkerReport(self.folder / f"worker-{self.names}.jsonl")
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "DATABASE_URL": self.database_url,
        }
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.lane_process",
            "--group",
            group,
            "--topic",
            topic,
        ]
        command += [
            "--report",
            str(report.path),
            "--batch",
            str(batch),
            *(["--to", to] if to else []),
        ]
        report.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            yield report
        finally:
            if report.process.poll() is None:
                report.process.send_signal(signal.SIGTERM)
                report.process.wait(30)


@dataclass
class WorkerReport:
    """What a worker has reported."""

    path: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def commits(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("records")]

    def resident(self) -> list[int]:
        return [line["resident"] for line in self.lines() if "resident" in line]

    def await_records(self, records: int, timeout_s: float = 120.0) -> None:
        until = time.monotonic() + timeout_s
        while sum(line["records"] for line in self.commits()) < records:
            if time.monotonic() > until or self.process.poll() is not None:
                raise TimeoutError(
                    f"the worker committed {sum(c['records'] for c in self.commits())} of {records}"
                )
            time.sleep(0.2)


def raw_rate(bench: LaneBenchmark, topic: str, to: str, records: int) -> float:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.raw_process",
        "--servers",
        bench.servers,
        "--topic",
        topic,
    ]
    command += ["--to", to, "--partitions", str(PARTITIONS), "--records", str(records)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def lane_rate(
    bench: LaneBenchmark, topic: str, records: int, to: str = ""
) -> tuple[float, list[int]]:
    """Return records per second from the first commit to the last, and resident bytes by second."""
    with bench.worker(bench.group(), topic, to) as report:
        report.await_records(records)
        commits = report.commits()
        worked = sum(commit["records"] for commit in commits[1:])
        return worked / (commits[-1]["at"] - commits[0]["at"]), report.resident()


def growth(resident: Sequence[int]) -> float:
    """Return how much memory has grown since it settled, as a share of what it was then."""
    third = len(resident) // 3
    return median(resident[-third:]) / median(resident[third : 2 * third]) - 1 if third else 0.0


def rates(bench: LaneBenchmark, records: int, runs: int) -> list[MeasuredFigure]:
    source, sink = bench.topic(), bench.topic()
    bench.fill(source, records)
    raw, without, outputs = list[float](), list[float](), list[float]()
    residents: list[list[int]] = []
    for _ in range(runs):
        raw.append(raw_rate(bench, source, sink, records))
        rate, resident = lane_rate(bench, source, records)
        without.append(rate)
        rate, resident = lane_rate(bench, source, records, sink)
        outputs.append(rate)
        residents.append(resident)
    limit, least, most = median(raw), median(without), max(map(max, residents))
    grown = max(map(growth, residents))
    beside = f"{limit:,.0f}/s raw consume -> produce"
    return [
        MeasuredFigure(
            "lane without outputs",
            f"{least:,.0f}/s",
            beside,
            f">= 50 %: {least / limit:.0%}",
            least >= limit / 2,
        ),
        MeasuredFigure(
            "lane with an output each",
            f"{median(outputs):,.0f}/s",
            beside,
            f"printed: {median(outputs) / limit:.0%}",
        ),
        MeasuredFigure(
            "resident, lane with outputs",
            f"{most / 2**20:.0f} MB",
            "",
            "< 120 MB",
            most < RESIDENT_LIMIT,
        ),
        MeasuredFigure(
            "its growth, a run's middle third to its last",
            f"{grown:+.1%}",
            "",
            f"<= {FLAT:+.0%}",
            grown <= FLAT,
        ),
    ]


@contextmanager
def steady(bench: LaneBenchmark, topic: str, per_second: int) -> Iterator[None]:
    """Publish at a steady rate, whatever consumes it."""
    ended = threading.Event()
    producer = Producer({"bootstrap.servers": bench.servers, "linger.ms": 2})

    def flow() -> None:
        number = 0
        while not ended.wait(0.01):
            for _ in range(per_second // 100):
                number += 1
                producer.produce(topic, value=b"x" * RECORD_BYTES, key=b"%d" % number)
            producer.poll(0)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        producer.flush()


def takeover(bench: LaneBenchmark) -> float:
    """Return the seconds from kill -9 to the first batch of another owner on a lane of the dead
    one.
    """
    topic, group = bench.topic(), bench.group()
    with (
        steady(bench, topic, 1_000),
        bench.worker(group, topic) as first,
        bench.worker(group, topic) as second,
    ):
        first.await_records(500)
        second.await_records(500)
        time.sleep(2)
        theirs = {lane for commit in first.commits()[-50:] for lane in commit["lanes"]}
        theirs -= {lane for commit in second.commits()[-20:] for lane in commit["lanes"]}
        killed = time.time()
        first.process.kill()
        first.process.wait()
        while True:
            moved = [
                c["at"] for c in second.commits() if c["at"] > killed and theirs & set(c["lanes"])
            ]
            if moved:
                return float(moved[0] - killed)
            if time.time() > killed + 30:
                raise TimeoutError("no process took the lanes over")
            time.sleep(0.05)


def commit_gaps(bench: LaneBenchmark) -> list[float]:
    """Return the seconds between commits of lanes that stay with their owner while another process
    joins and leaves.
    """
    topic, group = bench.topic(8), bench.group()
    with steady(bench, topic, 2_000), bench.worker(group, topic) as stays:
        stays.await_records(2_000)
        started_at = time.time()
        with bench.worker(group, topic) as comes:
            comes.await_records(1_000)
            time.sleep(1)
        time.sleep(2)
        ended = time.time()
        moved = {lane for line in stays.lines() for lane in line.get("revoked", [])}
        times = defaultdict[str, list[float]](list)
        for commit in stays.commits():
            for lane in commit["lanes"]:
                if lane not in moved and started_at <= commit["at"] <= ended:
                    times[lane].append(commit["at"])
    return [later - earlier for at in times.values() for earlier, later in pairwise(at)]


def figures(bench: LaneBenchmark, *, records: int = 200_000, runs: int = 3) -> list[MeasuredFigure]:
    rows = rates(bench, records, runs)
    seconds = median([takeover(bench) for _ in range(runs)])
    rows.append(
        MeasuredFigure(
            "kill -9 to the next owner's first batch",
            f"{seconds:.1f} s",
            f"session timeout {SESSION_TIMEOUT_S:.0f} s",
            "<= session timeout + 2 s",
            seconds <= SESSION_TIMEOUT_S + 2,
        )
    )
    gaps = [gap for _ in range(runs) for gap in commit_gaps(bench)]
    p99 = percentile(gaps, 0.99)
    longest = f"longest {max(gaps) * 1_000:.0f} ms of {len(gaps)}"
    rows.append(
        MeasuredFigure(
            "commit gap of unmoved lanes, p99",
            f"{p99 * 1_000:.0f} ms",
            longest,
            "< 250 ms",
            p99 < GAP_LIMIT_S,
        )
    )
    return rows


def open_bench(servers: str, database_url: str) -> LaneBenchmark:
    with psycopg.connect(database_url) as connection:
        connection.execute("select 1 from runtime.lanes limit 1")
    return LaneBenchmark(servers, database_url, Path(tempfile.mkdtemp(prefix="bench-")))
