"""Benchmark of normalising: WooCommerce bodies a second on one core, beside orjson that only parses
them.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import psutil

from schemas.envelope import read_event
from services.ingest import vendors
from services.ingest.vendors.woocommerce import cards as woocommerce_cards
from services.ingest.vendors.woocommerce import webhook as woocommerce
from services.runtime.process import collect_rarely
from tests.benchmarks.report import MeasuredFigure, median
from tests.support.callbacks import SAMPLE, record

LEAST_PER_SECOND = 20_000
ROUNDS_PER_RUN = 5


def bodies(count: int) -> list[bytes]:
    """Return the sample as PHP writes it, each of another order, second, buyer and payment."""
    encoded = []
    for number in range(100_000, 100_000 + count):
        day = number // 86_400 % 28 + 1
        paid = [{"id": number, "key": "_stripe_intent_id", "value": f"pi_{number}"}]
        order = {
            **SAMPLE,
            "id": number,
            "number": str(number),
            "date_modified_gmt": f"2026-11-{day:02d}T15:{number // 60 % 60:02d}:{number % 60:02d}",
            "billing": {**SAMPLE["billing"], "email": f"buyer{number}@example.org"},
            "transaction_id": f"ch_{number}",
            "meta_data": paid,
            "line_items": [
                {**line, "id": number * 10 + at} for at, line in enumerate(SAMPLE["line_items"])
            ],
        }
        encoded.append(json.dumps(order, separators=(",", ":")).replace("/", "\\/").encode())
    return encoded


@contextmanager
def as_a_worker() -> Iterator[None]:
    """Run on one core, with the garbage collector as a service sets it."""
    process, thresholds = psutil.Process(), gc.get_threshold()
    before = process.cpu_affinity() or [0]
    process.cpu_affinity([max(before)])
    collect_rarely()
    try:
        yield
    finally:
        process.cpu_affinity(before)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def rate(work: Callable[[Any], object], values: Sequence[Any]) -> float:
    """Return values a second of this thread's processor time, which other processes do not
    disturb.
    """
    started_at = time.thread_time()
    for value in values:
        work(value)
    return len(values) / (time.thread_time() - started_at)


def figures(*, runs: int = 3, count: int = 4_000) -> list[MeasuredFigure]:
    raw = bodies(count)
    records = [record(body, order=str(100_000 + at)) for at, body in enumerate(raw)]
    received = [
        vendors.received_callback(read_event(record.headers, record.value), record)
        for record in records
    ]
    parsed, normalised, read, cleaned = list[float](), list[float](), list[float](), list[float]()
    with as_a_worker():
        rate(vendors.parse, records)
        for _ in range(runs * ROUNDS_PER_RUN):
            parsed.append(rate(orjson.loads, raw))
            normalised.append(rate(woocommerce.normalise, received))
            read.append(rate(vendors.parse, records))
            cleaned.append(rate(woocommerce_cards.without_cards, raw))
    limit, ours, read_rate = median(parsed), median(normalised), median(read)
    beside = f"{limit:,.0f}/s orjson only parses the JSON"
    least = f">= {LEAST_PER_SECOND:,}/s"
    return [
        MeasuredFigure(
            "normalising, WooCommerce bodies on one core",
            f"{ours:,.0f}/s",
            beside,
            least,
            ours >= LEAST_PER_SECOND,
        ),
        MeasuredFigure(
            "normalising, share of parsing alone", f"{ours / limit:.0%}", beside, "printed"
        ),
        MeasuredFigure(
            "reading the record too: headers, envelope", f"{read_rate:,.0f}/s", beside, "printed"
        ),
        MeasuredFigure(
            "blanking card data, at the webhook endpoint",
            f"{1e6 / median(cleaned):.1f} us a body",
            "",
            "printed",
        ),
    ]
