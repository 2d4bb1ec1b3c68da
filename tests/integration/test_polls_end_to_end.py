"""Polls as they run: the worker as a process on Kafka and PostgreSQL, a shop that lost its
webhooks, and kill -9.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from deploy.local.servers import named_by_environment
from deploy.local.stack import Stack
from schemas.orders import OrderObserved
from services.runtime.admin.migrate import migrate
from services.runtime.kafka.topics import BrokerAdmin
from tests.support.callbacks import record
from tests.support.processes import module_command
from tests.support.vendors import fake_woocommerce
from tests.support.vendors.fake_woocommerce import FakeWooCommerce
from tests.support.webhook_endpoint import ROOT

pytestmark = pytest.mark.slow
WAIT_S = 120.0
SOURCES = """
[sources.shop]
kind = "woocommerce"
secrets = ["env:NOT_NEEDED_BY_THE_WORKER"]
[sources.shop.poll]
url = "{url}"
key = "env:SHOP_KEY"
secret = "env:SHOP_SECRET"
every_s = 1
"""


def has_more_requests(shop: FakeWooCommerce, before: int) -> bool:
    return len(shop.requests) > before


class PollStack:
    """A worker that is killed and restarted, and its shop."""

    def __init__(self, stack: Stack, shop: FakeWooCommerce, folder: Path) -> None:
        self.stack, self.shop, self._folder = stack, shop, folder
        self.sources = folder / "sources.toml"
        self.sources.write_text(SOURCES.format(url=shop.url), "utf-8")
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("STUBLINE_")},
            **self.stack.environment,
            "STUBLINE_INGEST_SOURCES_FILE": str(self.sources),
            "SHOP_KEY": fake_woocommerce.KEY,
            "SHOP_SECRET": fake_woocommerce.SECRET,
        }
        with (self._folder / f"worker-{len(self._workers)}.log").open("wb") as log:
            command = module_command("services.ingest")
            self._workers.append(
                subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
            )

    def kill(self) -> None:
        self._workers[-1].kill()
        self._workers[-1].wait(120)

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait(120)

    def log(self) -> str:
        return "".join(
            path.read_text("utf-8", "replace") for path in sorted(self._folder.glob("worker-*.log"))
        )

    def rows(self, statement: str) -> list[Any]:
        with psycopg.connect(self.stack.database_url, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def orders(self) -> set[str]:
        return {name for (name,) in self.rows("select order_id from ingest.orders")}

    def duplicates(self) -> int:
        duplicates: int = self.rows("select coalesce(sum(duplicates), 0)::int from runtime.lanes")[
            0
        ][0]
        return duplicates

    def observed(self) -> int:
        return sum(
            extent.high_watermark - extent.low_watermark
            for extent in BrokerAdmin(self.stack.bootstrap_servers)
            .partition_offsets(OrderObserved.topic)
            .values()
        )

    def until(self, what: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not ready():
            assert time.monotonic() < end, f"{what}: {self.log()[-4_000:]}"
            time.sleep(0.05)

    def respond(self, number: int) -> None:
        """Publish the shop's callback as the webhook endpoint does."""
        sent_record = record(
            json.dumps(self.shop.body(number)).encode(),
            order=str(number),
            reception_id=f"r-{number}",
        )
        producer = Producer(
            {"bootstrap.servers": self.stack.bootstrap_servers, "partitioner": "murmur2_random"}
        )
        producer.produce(
            sent_record.topic, sent_record.value, sent_record.key, headers=list(sent_record.headers)
        )
        assert producer.flush(20) == 0


@pytest.fixture
def polling(tmp_path: Path) -> Iterator[PollStack]:
    if named_by_environment():
        pytest.skip("needs topics of its own, and the environment's servers may hold somebody's")
    with Stack.temporary() as stack, FakeWooCommerce() as shop:
        migrate(stack.database_url, stack.bootstrap_servers, post=True)
        running = PollStack(stack, shop, tmp_path)
        yield running
        running.close()
        assert shop.faults == []


def test_lost_webhooks_are_found_received_ones_add_nothing_and_a_death_loses_none(
    polling: PollStack,
) -> None:
    shop, now = polling.shop, int(time.time())
    shop.add_webhook("shop")
    polling.start()
    polling.until(
        "the first poll", lambda: any(request.path.endswith("/orders") for request in shop.requests)
    )
    assert polling.orders() == set()

    shop.put(1, now)  # and its webhook is lost
    polling.until("the lost order is found", lambda: polling.orders() == {"shop:1"})

    shop.put(2, now + 1)
    polling.respond(2)  # its webhook came
    polling.until("both are known", lambda: polling.orders() == {"shop:1", "shop:2"})
    polling.until("the poll has found it too", lambda: polling.duplicates() == 1)
    time.sleep(3)  # some intervals
    assert polling.duplicates() == 1
    assert polling.observed() == 2

    for number in range(100, 600):
        shop.put(number, now + 2 + number // 150)
    for _ in range(3):  # between request, response and commit, wherever it is
        before = len(shop.requests)
        polling.until("it sends a request", partial(has_more_requests, shop, before))
        polling.kill()
        polling.start()
    wanted = {"shop:1", "shop:2", *(f"shop:{number}" for number in range(100, 600))}
    polling.until("every order is found", lambda: polling.orders() == wanted)
    time.sleep(3)
    assert polling.observed() == 502
