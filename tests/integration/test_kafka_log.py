"""The client's side of an assignment, on the real broker: where a lane begins is the loop's word and nobody else's."""

from __future__ import annotations

import time
from collections.abc import Collection

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from services.runtime.kafka import KafkaLog
from services.runtime.records import LaneKey

PARTITIONS, RECORDS, START = 8, 200, 63


class Named:
    """Remembers the lanes that were named ours."""

    def __init__(self) -> None:
        self.new: list[LaneKey] = []

    def assigned(self, lanes: Collection[LaneKey]) -> None:
        self.new += lanes

    def revoked(self, lanes: Collection[LaneKey]) -> None:
        """Nothing is held here."""

    def lost(self, lanes: Collection[LaneKey]) -> None:
        """As revoked."""


@pytest.fixture
def filled(bootstrap_servers: str, prefix: str) -> str:
    topic = f"{prefix}.in"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        made.result()
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for number in range(PARTITIONS * RECORDS):
        producer.produce(topic, value=b"x" * 100, partition=number % PARTITIONS)
    assert producer.flush(20) == 0
    return topic


@pytest.mark.parametrize("turn", range(5))
def test_a_lane_begins_where_the_loop_says_however_late_the_brokers_answers_are(
    bootstrap_servers: str, prefix: str, filled: str, turn: int
) -> None:
    """A script of this shape saw lanes stay silent when on_assign named OFFSET_END: its answer came after `start_at`, and won."""
    log, named = KafkaLog(bootstrap_servers, f"{prefix}-{turn}", "test", delivery_timeout_ms=5_000), Named()
    log.subscribe([filled], named)
    seen: dict[LaneKey, list[int]] = {}
    until = time.monotonic() + 15
    while sum(map(len, seen.values())) < PARTITIONS * (RECORDS - START) and time.monotonic() < until:
        for lane, records in log.fetch(100, 0.02).records.items():
            seen.setdefault(lane, []).extend(record.offset for record in records)
        for lane in named.new:
            log.start_at(lane, START)
        named.new.clear()
    log.close(1.0)
    assert seen == {LaneKey(filled, partition): list(range(START, RECORDS)) for partition in range(PARTITIONS)}
