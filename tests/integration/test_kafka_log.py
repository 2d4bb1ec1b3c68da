"""The client's side of an assignment, on the real broker: only the loop decides where a lane
begins.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from services.runtime.kafka.client import KafkaClient
from services.runtime.records import LaneKey

PARTITIONS, RECORDS, START = 8, 200, 63


class Named:
    """Remembers the assigned lanes."""

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
    for created in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        created.result()
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for number in range(PARTITIONS * RECORDS):
        producer.produce(topic, value=b"x" * 100, partition=number % PARTITIONS)
    assert producer.flush(20) == 0
    return topic


@pytest.mark.parametrize("number", range(5))
def test_a_lane_begins_where_the_loop_starts_it_however_late_the_brokers_responses_are(
    bootstrap_servers: str, prefix: str, filled: str, number: int
) -> None:
    """A script of this shape saw lanes stay silent when on_assign named OFFSET_END: its answer came
    after `start_at`, and won.
    """
    log, named = (
        KafkaClient(bootstrap_servers, f"{prefix}-{number}", "test", delivery_timeout_ms=5_000),
        Named(),
    )
    log.subscribe([filled], named)
    seen: dict[LaneKey, list[int]] = {}
    until = time.monotonic() + 15
    while (
        sum(map(len, seen.values())) < PARTITIONS * (RECORDS - START) and time.monotonic() < until
    ):
        for lane, records in log.fetch(100, 0.02).records.items():
            seen.setdefault(lane, []).extend(record.offset for record in records)
        for lane in named.new:
            log.start_at(lane, START)
        named.new.clear()
    log.close(1.0)
    assert seen == {
        LaneKey(filled, partition): list(range(START, RECORDS)) for partition in range(PARTITIONS)
    }


def test_a_partition_that_the_client_fetches_no_more_has_its_true_end_by_a_request(
    bootstrap_servers: str, prefix: str, filled: str
) -> None:
    """Its cached end no longer moves, so it would never show a lag. Once assigned again, it fetches
    on.
    """
    log, named, lane = (
        KafkaClient(bootstrap_servers, f"{prefix}-deaf", "test", delivery_timeout_ms=5_000),
        Named(),
        LaneKey(filled, 0),
    )
    log.subscribe([filled], named)
    read = drain(log, named, lane, RECORDS)
    log.pause([lane])  # without the loop
    assert drain(log, named, lane, 1, seconds=0.5) == []  # the present fetch ends
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for _ in range(3):
        producer.produce(filled, value=b"more", partition=0)
    assert producer.flush(20) == 0
    assert drain(log, named, lane, 1, seconds=1.0) == []
    assert log.ends(lane) == (0, RECORDS)
    answers = log.request_ends([lane])
    until = time.monotonic() + 10
    while not answers() and time.monotonic() < until:
        time.sleep(0.02)
    assert answers() == {lane: RECORDS + 3}
    log.start_at(lane, RECORDS)
    more = drain(log, named, lane, 3)
    log.close(1.0)
    assert (len(read), more) == (RECORDS, [RECORDS, RECORDS + 1, RECORDS + 2])


def drain(
    log: KafkaClient, named: Named, lane: LaneKey, count: int, seconds: float = 15.0
) -> list[int]:
    """Offsets of what comes of one lane, until there are so many or the time is over. New lanes
    begin at 0.
    """
    offsets: list[int] = []
    until = time.monotonic() + seconds
    while len(offsets) < count and time.monotonic() < until:
        offsets += [record.offset for record in log.fetch(100, 0.02).records.get(lane, ())]
        for new in named.new:
            log.start_at(new, 0)
        named.new.clear()
    return offsets
