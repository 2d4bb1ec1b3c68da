"""Benchmark of ingest's worker in a storm: WooCommerce orders that name their payments, with and
without duplicates.

The records of each round wait in Kafka when the worker starts, so that both rounds are worked the
same way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import TypeAlias

import orjson
import psycopg
from confluent_kafka import Producer

from schemas import callbacks
from tests.benchmarks.pipeline import PipelineSite, other_database
from tests.benchmarks.report import MeasuredFigure, median
from tests.support.callbacks import woo_order

SHARE_OF_DUPLICATES, LEAST = 0.3, 0.9
WAIT_S = 300.0
# Key, value and headers.
Published: TypeAlias = tuple[bytes, bytes, list[tuple[str, str | bytes | None]]]
PROGRESS = """
select coalesce(sum(effects), 0)::bigint, coalesce(sum(duplicates + superseded), 0)::bigint,
    coalesce(sum(dead), 0)::bigint
from runtime.lanes where consumer_group = 'stubline.ingest' and topic <> '@timer'
"""


def callback_records(numbers: Sequence[int], slug: str) -> list[Published]:
    """Return records as the webhook endpoint publishes them."""
    at = datetime.now(UTC).isoformat()
    records = list[Published]()
    for number in numbers:
        event = callbacks.received(
            orjson.dumps(woo_order(id=number)),
            source=slug,
            key=f"{slug}:{number}",
            kind=callbacks.WOOCOMMERCE,
            reception_id=f"{slug}-{len(records)}",
            content_type="application/json",
            callbacktopic="order.updated",
        ).encode(time=at)
        records.append((event.key or b"", event.value or b"", list(event.headers)))
    return records


def stormy(orders: int, rng: Random) -> list[int]:
    """Return so many order numbers, three of ten of which are repeats, mostly recent ones."""
    numbers, unique = list[int](), 0
    for _ in range(orders):
        if numbers and rng.random() < SHARE_OF_DUPLICATES:
            numbers.append(numbers[-rng.randint(1, min(len(numbers), 5_000))])
        else:
            numbers.append(unique)
            unique += 1
    return numbers


def publish(servers: str, records: Sequence[Published]) -> None:
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 10, "partitioner": "murmur2_random"}
    )
    for place, (key, value, headers) in enumerate(records):
        while True:
            try:
                producer.produce(callbacks.TOPIC, value=value, key=key, headers=headers)
                break
            except BufferError:
                producer.poll(0.05)
        if place % 100 == 0:
            producer.poll(0)
    producer.flush()


def worked(site: PipelineSite, before: int, records: int) -> tuple[float, int]:
    """Return the worker's records a second from its first commit to its last, and how many of them
    were repeats.

    The first `before` records of the topic are from earlier rounds: they are worked and not timed.
    """
    with site.stages("ingest"), psycopg.connect(site.database_url, autocommit=True) as connection:
        started_at, first, until = 0.0, 0, time.monotonic() + WAIT_S
        while True:
            effects, repeats, dead = connection.execute(PROGRESS).fetchone() or (0, 0, 0)
            done = effects + repeats + dead
            if not started_at and done > before:
                started_at, first = time.monotonic(), done
            if done >= before + records:
                return (done - first) / (time.monotonic() - started_at), repeats
            if time.monotonic() > until:
                raise TimeoutError(f"{done} of {before + records} records were worked")
            time.sleep(0.02)


def figures(
    servers: str, database_url: str, *, orders: int = 60_000, runs: int = 3
) -> list[MeasuredFigure]:
    """Measure on topics that nothing else uses."""
    plain, storm, repeats = list[float](), list[float](), 0
    rng = Random(5)
    with other_database(database_url) as url:
        site, before = PipelineSite(servers, url), 0
        for run in range(runs):
            for rates, numbers, slug in (
                (plain, list(range(orders)), f"plain-{run}"),
                (storm, stormy(orders, rng), f"storm-{run}"),
            ):
                publish(servers, callback_records(numbers, slug))
                rate, repeats = worked(site, before, orders)
                rates.append(rate)
                before += orders
    calm, rough = median(plain), median(storm)
    share = rough / calm
    return [
        MeasuredFigure(
            "ingest's worker, orders that name their payments",
            f"{calm:,.0f}/s",
            "one process",
            "printed",
        ),
        MeasuredFigure(
            "ingest's worker in a storm of 30 % duplicates",
            f"{rough:,.0f}/s",
            f"{calm:,.0f}/s without; {repeats:,} were repeats",
            f">= {LEAST:.0%} of it: {share:.0%}",
            share >= LEAST,
        ),
    ]
