"""The webhook endpoint as a process, and what it published to Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import httpx
from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas.callbacks import TOPIC
from schemas.topics import TOPICS
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.records import Record
from tests.support.callbacks import signed
from tests.support.processes import module_command

ROOT = Path(__file__).resolve().parents[2]
SECRET, OLD_SECRET = "s3cr3t-of-the-shop", "what-it-had-last-year"
START_S = 120.0


class WebhookEndpointProcess:
    """Serves one WooCommerce shop, `slug`, and one whose secret is missing, `{slug}-bare`. Ends
    with its test, however that ends.
    """

    def __init__(
        self,
        servers: str,
        slug: str,
        folder: Path,
        *,
        clock_ahead_s: float = 0.0,
        **settings: object,
    ) -> None:
        """`clock_ahead_s`: how far its machine's clock is ahead of everybody else's."""
        self.slug, self._servers, self._folder = slug, servers, folder
        skewed = ["tests.support.skewed_webhook_endpoint", str(clock_ahead_s)]
        self._module = skewed if clock_ahead_s else ["services.ingest.webhooks"]
        self.log_file = folder / "webhooks.log"
        sources = folder / "sources.toml"
        shop = (
            f'[sources.{slug}]\nkind = "woocommerce"\nsecrets = ["env:WEBHOOK_OLD", '
            '"env:WEBHOOK_SECRET"]\n'
        )
        sources.write_text(
            shop + f'[sources.{slug}-bare]\nkind = "woocommerce"\nsecrets = ["env:NOT_SET"]\n',
            "utf-8",
        )
        given = {
            "SOURCES_FILE": sources,
            "WEBHOOK_PORT": 0,
            **{name.upper(): value for name, value in settings.items()},
        }
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "WEBHOOK_OLD": OLD_SECRET,
            "WEBHOOK_SECRET": SECRET,
            **{f"STUBLINE_INGEST_{name}": str(value) for name, value in given.items()},
        }

    def start(self, *, await_ready: bool = True) -> None:
        self.log_file = self._folder / f"webhooks-{time.monotonic_ns()}.log"  # of this start alone
        with self.log_file.open("ab") as out:
            self.child = subprocess.Popen(
                module_command(*self._module),
                stderr=out,
                env=self.environment,
                cwd=ROOT,
            )
        until = time.monotonic() + START_S
        while not (
            opened := [line for line in self.log_lines() if line.get("event") == "listening"]
        ):
            assert self.child.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{opened[-1]['port']}", timeout=30)
        self.health = httpx.Client(
            base_url=f"http://127.0.0.1:{opened[-1]['health_port']}", timeout=30
        )
        while await_ready and self.health.get("/readyz").status_code != 200:
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def __enter__(self) -> Self:
        BrokerAdmin(self._servers).repair([topic for topic in TOPICS if topic.name == TOPIC])
        self.mark()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.health.close()
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(60)

    def mark(self) -> None:
        """What is kept from now on counts."""
        self.begin = {
            number: extent.high_watermark
            for number, extent in BrokerAdmin(self._servers).partition_offsets(TOPIC).items()
        }

    def send(
        self,
        body: bytes,
        *,
        callback_type: str = "order.updated",
        secret: str = SECRET,
        **headers: str,
    ) -> httpx.Response:
        more = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.client.post(
            f"/hooks/{self.slug}", content=body, headers=signed(body, secret, callback_type) | more
        )

    def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(120)

    def metrics(self) -> str:
        """What Prometheus would read. The endpoint adds up what it answered about once a second."""
        return self.health.get("/metrics").text

    def until_metric(self, line: str, seconds: float = START_S) -> None:
        """Waits until the metrics hold this line, or the beginning of one."""
        until = time.monotonic() + seconds
        while line not in (exposed := self.metrics()):
            assert time.monotonic() < until, exposed
            time.sleep(0.05)

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(60)
        self.client.close()

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def log_lines(self) -> list[dict[str, object]]:
        return [
            json.loads(line)
            for line in self.log().splitlines()
            if line.startswith("{") and line.endswith("}")
        ]

    def records(self) -> list[Record]:
        """Return what was published for this endpoint's shop since the mark."""
        ends = {
            number: extent.high_watermark
            for number, extent in BrokerAdmin(self._servers).partition_offsets(TOPIC).items()
        }
        wanted = {number for number, high in ends.items() if high > self.begin.get(number, 0)}
        settings = {
            "bootstrap.servers": self._servers,
            "group.id": "webhook tests",
            "enable.auto.commit": False,
        }
        consumer = Consumer(settings | {"enable.partition.eof": True, "log_level": 0})
        records: list[Record] = []
        try:
            consumer.assign(
                [TopicPartition(TOPIC, number, self.begin.get(number, 0)) for number in wanted]
            )
            until = time.monotonic() + 120
            while wanted:
                assert time.monotonic() < until
                for message in consumer.consume(1_000, 0.2):
                    error = message.error()
                    if error is not None and error.code() == KafkaError._PARTITION_EOF:
                        wanted.discard(message.partition() or 0)
                    elif error is None:
                        key, value = message.key(), message.value()
                        assert isinstance(key, bytes | None)
                        assert isinstance(value, bytes | None)
                        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
                        at = message.partition() or 0, message.offset() or 0, message.timestamp()[1]
                        records.append(Record(TOPIC, *at, key, value, headers))
        finally:
            consumer.close()
        return [
            record for record in records if (record.key or b"").startswith(f"{self.slug}:".encode())
        ]
