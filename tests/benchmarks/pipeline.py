"""Benchmark B: orders through ingest, approval and issuer as processes, and the issuer beside raw
inserts of its rows.

`python -m tests.benchmarks.pipeline --orders 200000` runs it alone, on a stack of its own unless
the environment names servers.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import orjson
import psutil
import psycopg
from confluent_kafka import Producer
from psycopg.conninfo import make_conninfo

from deploy.local.stack import Stack
from schemas import callbacks
from services.issuer.commands import CampaignCommands
from services.issuer.rules.campaigns import CampaignDefinition
from services.runtime.admin.commands import OperatorCommand
from services.runtime.admin.migrate import migrate
from services.runtime.postgres import connection as database
from tests.benchmarks import raw_tickets
from tests.benchmarks.report import MeasuredFigure, show

STAGES = ("ingest", "approval", "issuer")
TICKETS_PER_ORDER = 2
ORDERS_PER_SECOND, DRAINED_S, SHARE_OF_RAW, GROWTH = 5_000, 5.0, 0.6, 1.10
SETTLED_ORDERS = 20_000  # memory is compared with what it is then
WAIT_S = 900.0
PROGRESS = """
select consumer_group, sum(effects)::bigint, sum(dead + duplicates + superseded)::bigint,
    sum(abs(conservation_gap))::bigint
from runtime.lanes where topic <> '@timer' group by consumer_group
"""


@dataclass
class PipelineRun:
    """One run: when each stage began and ended, and its memory."""

    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    resident: dict[str, int] = field(default_factory=dict)
    gap: int = 0
    others: int = 0

    def rate(self, stage: str, orders: int) -> float:
        return orders / (self.ended[stage] - self.started[stage])


@dataclass(frozen=True)
class PipelineSite:
    servers: str
    database_url: str

    @contextmanager
    def stages(self, *names: str) -> Iterator[dict[str, psutil.Process]]:
        """Run the services as an installation does, with their default settings."""
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "DATABASE_URL": self.database_url,
        }
        environment |= {f"STUBLINE_{name.upper()}_LOG_LEVEL": "ERROR" for name in names}
        running = {
            name: subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=environment)
            for name in names
        }
        try:
            yield {name: psutil.Process(process.pid) for name, process in running.items()}
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)
            for process in running.values():
                process.wait(30)

    def watch(self, processes: Mapping[str, psutil.Process], orders: int) -> PipelineRun:
        """Watch until every stage has worked that many orders."""
        run, until = PipelineRun(), time.monotonic() + WAIT_S
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while len(run.ended) < len(processes):
                now = time.monotonic()
                dead = [
                    name
                    for name, process in processes.items()
                    if process.status() == psutil.STATUS_ZOMBIE
                ]
                if now > until or dead:
                    raise TimeoutError(
                        f"stages that are done: {sorted(run.ended)}; processes that ended: {dead}"
                    )
                for group, effects, others, gap in connection.execute(PROGRESS).fetchall():
                    self._note(run, group.rpartition(".")[2], effects, orders, processes)
                    run.others, run.gap = run.others + others, run.gap + gap
                time.sleep(0.1)
        return run

    @staticmethod
    def _note(
        run: PipelineRun,
        stage: str,
        effects: int,
        orders: int,
        processes: Mapping[str, psutil.Process],
    ) -> None:
        if stage not in processes or not effects:
            return
        run.started.setdefault(stage, time.monotonic())
        run.resident[stage] = processes[stage].memory_info().rss
        if effects >= min(SETTLED_ORDERS, orders // 2):
            run.settled.setdefault(stage, run.resident[stage])
        if effects >= orders:
            run.ended.setdefault(stage, time.monotonic())

    def apply(self) -> None:
        content = {
            "id": "bench",
            "name": "Bench",
            "sources": ["bench"],
            "skus": ["BENCH"],
            "prefix": "B-",
            "padding": 7,
        }
        with database.connect(self.database_url, name="bench") as connection:
            CampaignCommands(connection, OperatorCommand("bench", uuid4())).apply(
                [CampaignDefinition.model_validate(content)]
            )


def native(number: int, at: str) -> bytes:
    """Return a paid order as a storefront publishes it."""
    return orjson.dumps(
        {
            "source": "bench",
            "order_id": str(number),
            "number": f"#{number}",
            "status": "completed",
            "modified_at": at,
            "currency": "EUR",
            "total_minor": 2_000,
            "paid_at": at,
            "buyer": {"name": "Ada Example", "email": f"buyer{number}@example.org"},
            "lines": [
                {
                    "line_id": "1",
                    "product_id": "7",
                    "sku": "BENCH",
                    "name": "Raffle ticket",
                    "quantity": TICKETS_PER_ORDER,
                    "total_minor": 2_000,
                }
            ],
        }
    )


def publish(servers: str, numbers: range, per_second: float | None = None) -> None:
    """Publish as fast as the broker takes them, or at a rate."""
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 10, "partitioner": "murmur2_random"}
    )
    at = datetime.now(UTC).isoformat()
    started_at = time.monotonic()
    for done, number in enumerate(numbers):
        event = callbacks.received(
            native(number, at),
            source="bench",
            key=f"bench:{number}",
            kind=callbacks.NATIVE,
            reception_id=f"bench-{number}",
            content_type="application/json",
        ).encode(time=at)
        while True:
            try:
                producer.produce(
                    event.topic, value=event.value, key=event.key, headers=list(event.headers)
                )
                break
            except BufferError:
                producer.poll(0.05)
        if done % 100 == 0:
            producer.poll(0)
            if per_second and (ahead := started_at + done / per_second - time.monotonic()) > 0:
                time.sleep(ahead)
    producer.flush()


def sustained(site: PipelineSite, orders: int) -> list[MeasuredFigure]:
    """Measure all stages at once; all orders wait in Kafka when the services start."""
    publish(site.servers, range(orders))
    with site.stages(*STAGES) as processes:
        run = site.watch(processes, orders)
        rate = orders / (max(run.ended.values()) - min(run.started.values()))
        pace = min(ORDERS_PER_SECOND, rate * 0.9)
        streamed = orders // 4
        publish(site.servers, range(orders, orders + streamed), pace)
        last = time.monotonic()
        site.watch(processes, orders + streamed)
        drained = time.monotonic() - last
        growth = max(processes[name].memory_info().rss / run.settled[name] for name in STAGES)
    stages = ", ".join(f"{name} {run.rate(name, orders):,.0f}/s" for name in STAGES)
    least = f">= {ORDERS_PER_SECOND:,}/s"
    resident = ", ".join(f"{name} {run.resident[name] / 2**20:.0f} MB" for name in STAGES)
    met = rate >= ORDERS_PER_SECOND
    return [
        MeasuredFigure(
            f"{orders:,} orders, {TICKETS_PER_ORDER} tickets each",
            f"{rate:,.0f}/s",
            stages,
            least,
            met,
        ),
        MeasuredFigure(
            "last record to lag zero of all groups",
            f"{drained:.1f} s",
            f"{streamed:,} orders at {pace:,.0f}/s",
            f"<= {DRAINED_S:.0f} s",
            drained <= DRAINED_S,
        ),
        MeasuredFigure(
            f"memory since {SETTLED_ORDERS:,} orders",
            f"{growth - 1:+.1%}",
            resident,
            f"<= {GROWTH - 1:+.0%}",
            growth <= GROWTH,
        ),
        MeasuredFigure("conservation gap", str(run.gap), "", "0", run.gap == 0),
    ]


def alone(site: PipelineSite, orders: int) -> list[MeasuredFigure]:
    """Measure the same decisions through an issuer that runs alone, in a database of its own; then
    raw inserts of its rows.
    """
    with other_database(site.database_url) as url:
        beside = PipelineSite(site.servers, url)
        beside.apply()
        with beside.stages("issuer") as processes:
            run = beside.watch(processes, orders)
        rate = run.rate("issuer", orders)
        raw = raw_tickets.rate(url, orders)
    share = rate / raw
    return [
        MeasuredFigure(
            "issuer alone",
            f"{rate:,.0f}/s",
            f"{raw:,.0f} orders/s raw inserts of the same rows",
            f">= {SHARE_OF_RAW:.0%}: {share:.0%}",
            share >= SHARE_OF_RAW,
        )
    ]


@contextmanager
def other_database(url: str) -> Iterator[str]:
    name = f"bench_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        try:
            other = make_conninfo(url, dbname=name)
            migrate(other)
            yield other
        finally:
            connection.execute(f"drop database {name} with (force)".encode())


def figures(servers: str, database_url: str, *, orders: int = 200_000) -> list[MeasuredFigure]:
    """Measure on a migrated database and topics that nothing else uses."""
    site = PipelineSite(servers, database_url)
    site.apply()
    return sustained(site, orders) + alone(site, orders)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=200_000)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        if not {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"} <= os.environ.keys():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stubline-bench-"))
            os.environ.update(stack.enter_context(Stack(Path(folder))).environment)
        servers, url = os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["DATABASE_URL"]
        migrate(url, servers)
        rows = figures(servers, url, orders=options.orders)
    show("Pipeline", rows)
    return 0 if all(figure.is_met is not False for figure in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
