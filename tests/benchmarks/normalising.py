"""Bench of normalising: WooCommerce bodies a second on one core, beside orjson merely parsing them,
measured in turn.
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
from tests.benchmarks.report import Figure, median
from tests.support.callbacks import SAMPLE, record

LEAST_PER_SECOND = 20_000
ROUNDS_PER_RUN = 5


def bodies(count: int) -> list[bytes]:
    """The whole sample as PHP writes it, each of another order, second, buyer and payment."""
    found = []
    for number in range(100_000, 100_000 + count):
        paid = [{"id": number, "key": "_stripe_intent_id", "value": f"pi_{number}"}]
        order = {
            **SAMPLE,
            "id": number,
            "number": str(number),
            "date_modified_gmt": f"2026-11-{number // 86_400 % 28 + 1:02d}T15:{number // 60 % 60:02d}:{number % 60:02d}",
            "billing": {**SAMPLE["billing"], "email": f"buyer{number}@example.org"},
            "transaction_id": f"ch_{number}",
            "meta_data": paid,
            "line_items": [
                {**line, "id": number * 10 + at} for at, line in enumerate(SAMPLE["line_items"])
            ],
        }
        found.append(json.dumps(order, separators=(",", ":")).replace("/", "\\/").encode())
    return found


@contextmanager
def as_a_worker() -> Iterator[None]:
    """On one core, and as a service sets its memory up."""
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


def rate(work: Callable[[Any], object], all_of: Sequence[Any]) -> float:
    """By the processor's time: what others do on the machine meanwhile is not counted, only what
    they take of its caches.
    """
    began = time.thread_time()
    for each in all_of:
        work(each)
    return len(all_of) / (time.thread_time() - began)


def figures(*, runs: int = 3, count: int = 4_000) -> list[Figure]:
    raw = bodies(count)
    records = [record(body, order=str(100_000 + at)) for at, body in enumerate(raw)]
    received = [vendors.received_callback(read_event(it.headers, it.value), it) for it in records]
    parsed, normalised, read, cleaned = list[float](), list[float](), list[float](), list[float]()
    with as_a_worker():
        rate(vendors.parse, records)
        for _ in range(runs * ROUNDS_PER_RUN):
            parsed.append(rate(orjson.loads, raw))
            normalised.append(rate(woocommerce.normalise, received))
            read.append(rate(vendors.parse, records))
            cleaned.append(rate(woocommerce_cards.without_cards, raw))
    limit, ours, whole = median(parsed), median(normalised), median(read)
    beside = f"{limit:,.0f}/s orjson merely parses the JSON"
    asked = f">= {LEAST_PER_SECOND:,}/s"
    return [
        Figure(
            "normalising, WooCommerce bodies on one core",
            f"{ours:,.0f}/s",
            beside,
            asked,
            ours >= LEAST_PER_SECOND,
        ),
        Figure("normalising, share of parsing alone", f"{ours / limit:.0%}", beside, "printed"),
        Figure("reading the record too: headers, envelope", f"{whole:,.0f}/s", beside, "printed"),
        Figure(
            "looking for card data, at the door",
            f"{1e6 / median(cleaned):.1f} us a body",
            "",
            "printed",
        ),
    ]
