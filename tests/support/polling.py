"""Polls driven as the lane drives them: a tick in a transaction, vendors polled by real threads,
callbacks decided as they come.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas.callbacks import TOPIC
from schemas.text import rfc3339
from services.clients.http import BoundedHttpClient
from services.ingest import vendors
from services.ingest.config.sources_file import SourceConfig
from services.ingest.poller.scheduler import REPORT_S, PollScheduler
from services.ingest.poller.workers import PollWorkers
from services.ingest.vendors.shared.poll import PollConfig
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Outcome, Record
from tests.support.ingest import work
from tests.support.vendors import fake_stripe, fake_woocommerce
from tests.support.vendors.fake_stripe import FakeStripe
from tests.support.vendors.fake_woocommerce import FakeWooCommerce

WAIT_S = 120.0


def woo_shop(vendor: FakeWooCommerce, slug: str = "shop", **more: Any) -> SourceConfig:
    poll = PollConfig(slug, vendor.url, fake_woocommerce.KEY, fake_woocommerce.SECRET)._replace(
        **more
    )
    return SourceConfig(slug, vendors.WEBHOOK_SOURCES["woocommerce"], (), poll=poll)


def stripe_shop(
    vendor: FakeStripe, slug: str = "payments", orders_of: str = "shop"
) -> SourceConfig:
    return SourceConfig(
        slug,
        vendors.WEBHOOK_SOURCES["stripe"],
        (),
        orders_of=orders_of,
        poll=PollConfig(slug, vendor.url, fake_stripe.KEY, orders_of=orders_of),
    )


def client() -> BoundedHttpClient:
    """Faster than a vendor would like it."""
    return BoundedHttpClient(per_second=500, answer_s=2.0, wait_s=1.0)


@dataclass
class Poller:
    """One process: `records` is what it has published, each after its commit."""

    session: Session
    configs: Sequence[SourceConfig]
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers = PollWorkers(client=client)
        self._skipped_s = 0.0
        self.scheduler = PollScheduler(
            {config.slug: config for config in self.configs}, self.workers, clock=self.clock
        )

    def clock(self) -> float:
        return time.monotonic() + self._skipped_s

    def report(self) -> None:
        """Tick once the interval between two reports is over."""
        self._skipped_s += REPORT_S
        self.tick()

    def tick(self, *, commits: bool = True) -> int:
        """Return how many callbacks it published. Without a commit there are none."""
        events = self.scheduler.tick(datetime.now(UTC), self.session)
        if not commits:
            self.session.rollback()
            return 0
        self.session.commit()
        for event in events:
            at = rfc3339(datetime.now(UTC))
            output = event.encode(time=at, traceparent=None)
            assert output.topic == TOPIC
            self.records.append(
                Record(TOPIC, 0, len(self.records), 0, output.key, output.value, output.headers)
            )
        return len(events)

    def await_results(self) -> None:
        until = time.monotonic() + WAIT_S
        while self.workers.busy - {result.request.config.slug for result in self.workers.results}:
            assert time.monotonic() < until, "a vendor was polled, and no result came"
            time.sleep(0.005)

    def settle(self) -> list[Record]:
        """Tick until nothing is due. Return what was published since."""
        begin = len(self.records)
        until = time.monotonic() + WAIT_S
        while True:
            self.tick()
            if not self.workers.busy:
                return self.records[begin:]
            self.await_results()
            assert time.monotonic() < until, "it polls for ever"

    def poll_again(self) -> list[Record]:
        """As if the interval were over."""
        self.session.execute(b"update ingest.polls set next_at = now()")
        self.session.execute(b"update ingest.polled_sources set circuit_open_until = now()")
        self.session.commit()
        return self.settle()

    def handle(self, records: Sequence[Record]) -> list[Outcome]:
        return work(self.session, *records) if records else []

    def rows(self, statement: str) -> list[Any]:
        fetched = self.session.execute(statement.encode()).fetchall()
        self.session.rollback()
        return fetched
