"""Delivery as it runs: the lane as a process on Kafka, a sender beside it, an operator with
`stubline`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from deploy.local.servers import named_by_environment
from deploy.local.stack import Stack
from schemas.envelope import Snapshot
from schemas.orders import DeliveriesChanged
from services.runtime.admin.migrate import migrate
from tests.support.deliveries import ROOT, Deliveries, decided, deliveries, issued
from tests.support.processes import module_command

pytestmark = pytest.mark.slow
ORDER = "shop:727"
DEAD_LETTERS = "select id, state from runtime.dead_letters order by id"


class DeliveryStack:
    """A stack of its own: the names of topics are those of production."""

    def __init__(self, stack: Stack, site: Deliveries, folder: Path) -> None:
        self.stack, self.site, self._folder = stack, site, folder
        self._lanes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        own = {
            name: content
            for name, content in os.environ.items()
            if not name.startswith("STUBLINE_")
        }
        return own | {
            "KAFKA_BOOTSTRAP_SERVERS": self.stack.bootstrap_servers,
            "DATABASE_URL": self.site.database_url,
        }

    def start_lane(self) -> subprocess.Popen[bytes]:
        with (self._folder / f"lane-{len(self._lanes)}.log").open("wb") as log:
            command = module_command("services.delivery")
            lane = subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=log, stderr=log)
        self._lanes.append(lane)
        return lane

    def close(self) -> None:
        for lane in self._lanes:
            lane.kill()
            lane.wait(120)

    def publish(self, *events: Snapshot) -> None:
        producer = Producer(
            {"bootstrap.servers": self.stack.bootstrap_servers, "partitioner": "murmur2_random"}
        )
        for event in events:
            output = event.encode(time="2026-11-21T12:00:00Z")
            producer.produce(output.topic, output.value, output.key, headers=list(output.headers))
        assert producer.flush(20) == 0

    def published(self, topic: str, seconds: float = 120.0) -> list[Any]:
        """The first records of a topic that stand there, as soon as there is one."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.stack.bootstrap_servers,
                "group.id": "looks",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([topic])
        try:
            first = consumer.consume(1, timeout=seconds)
            return [*first, *consumer.consume(100, timeout=1.0)]
        finally:
            consumer.close()

    def stubline(self, *words: str) -> Any:
        command = [str(Path(sys.executable).with_name("stubline")), *words, "--json"]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def delivery(tmp_path: Path) -> Iterator[DeliveryStack]:
    if named_by_environment():
        pytest.skip("needs topics of its own, and the environment's servers may hold somebody's")
    with Stack.temporary() as stack:
        migrate(stack.database_url, stack.bootstrap_servers, post=True)
        with deliveries(stack.database_url, stack.smtp, tmp_path) as site:
            running = DeliveryStack(stack, site, tmp_path)
            yield running
            running.close()


def test_from_the_topics_to_the_mailbox_and_back_from_the_dead(delivery: DeliveryStack) -> None:
    site = delivery.site
    site.mail.behave("permfail")
    lane = delivery.start_lane()
    site.start()
    delivery.publish(issued(ORDER, 1, "Active", "Active"), decided(ORDER, 1))
    site.until("the job is dead", lambda: site.states() == ["dead"])
    copies = delivery.published("stubline.delivery.dead.v1")
    assert [dict(copy.headers())["stubline-code"] for copy in copies] == [
        b"delivery-policy-refused"
    ]
    [first] = site.rows(DEAD_LETTERS)
    delivery.stubline("dead", "replay", str(first["id"]))
    # The job is due again, which is all that its replay requests; a job that fails again opens a
    # letter of its own.
    states = ["resolved", "open"]
    site.until(
        "a second letter is open",
        lambda: [row["state"] for row in site.rows(DEAD_LETTERS)] == states,
    )
    second = site.rows(DEAD_LETTERS)[1]
    site.mail.behave("accept")
    delivery.stubline("dead", "replay", str(second["id"]))
    site.until_sent()
    states = ["resolved", "resolved"]
    site.until(
        "both dead letters are resolved",
        lambda: [row["state"] for row in site.rows(DEAD_LETTERS)] == states,
    )
    assert len(site.mail.mails()) == 1

    events = [
        DeliveriesChanged.read(record.headers(), record.value())
        for record in delivery.published(DeliveriesChanged.topic)
    ]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    site.until(
        "all is published",
        lambda: site.rows("select from delivery.orders where dirty_since is not null") == [],
    )
    shown = delivery.stubline("deliveries", "show", ORDER)
    assert (shown["buyer_email"], shown["decision"]) == ("ada@example.org", "released")
    assert [job["status"] for job in shown["jobs"]] == ["sent"]
    assert [
        job["order_id"] for job in delivery.stubline("deliveries", "list", "--state", "sent")
    ] == [ORDER]
    gaps = "select coalesce(sum(abs(conservation_gap)), 0)::int as gap from runtime.lanes"
    assert site.rows(gaps) == [{"gap": 0}]
    lane.terminate()
    assert lane.wait(120) == 0
