"""Timestamps of a topic's records, on the real broker: `stubline migrate` sets their type, and a
worker reports producers' timestamps.
"""

from __future__ import annotations

import time
from dataclasses import replace

from confluent_kafka import Producer

from schemas.topics import Topic
from services.runtime.kafka.client import KafkaClient
from services.runtime.kafka.topics import (
    LOG_APPEND_TIME,
    TIMESTAMP_TYPE,
    BrokerAdmin,
    TopicDifference,
)
from services.runtime.ports import FetchResult
from tests.integration.test_kafka_log import Named

# by which a producer's clock is behind; much more, and retention would take its records
AN_HOUR_MS = 3_600_000
WAIT_S = 60.0


def fetched(servers: str, topic: str, count: int) -> list[FetchResult]:
    """The fetches that brought records, until so many are here."""
    log, named, fetches = (
        KafkaClient(servers, f"{topic}.group", "test", delivery_timeout_ms=5_000),
        Named(),
        list[FetchResult](),
    )
    log.subscribe([topic], named)
    until = time.monotonic() + WAIT_S
    while sum(len(records) for fetch in fetches for records in fetch.records.values()) < count:
        assert time.monotonic() < until
        fetch = log.fetch(100, 0.05)
        fetches += [fetch] if fetch.records else []
        for lane in named.new:
            log.start_at(lane, 0)
        named.new.clear()
    log.close(1.0)
    return fetches


def test_a_topic_with_producers_timestamps_is_reported_and_repaired(
    bootstrap_servers: str, prefix: str
) -> None:
    claimed_ms = round(time.time() * 1_000) - AN_HOUR_MS
    broker, producer = (
        BrokerAdmin(bootstrap_servers),
        Producer({"bootstrap.servers": bootstrap_servers}),
    )
    before = Topic(f"{prefix}.a.v1", "key", "test", partitions=1)
    wanted = replace(before, is_stamped_by_broker=True)
    broker.repair([before])
    producer.produce(before.name, value=b"claimed", timestamp=claimed_ms)
    assert producer.flush(WAIT_S) == 0
    finding = TopicDifference(before.name, TIMESTAMP_TYPE, LOG_APPEND_TIME, "CreateTime")
    assert broker.compare([wanted]) == [finding]
    assert broker.repair([wanted]) == [finding]
    began_ms = time.time() * 1_000
    producer.produce(before.name, value=b"stamped", timestamp=claimed_ms)
    assert producer.flush(WAIT_S) == 0
    fetches = fetched(bootstrap_servers, before.name, 2)
    assert {topic for fetch in fetches for topic in fetch.producer_stamped} == {before.name}
    claimed, stamped = [
        record for fetch in fetches for records in fetch.records.values() for record in records
    ]
    assert claimed.timestamp_ms == claimed_ms
    assert stamped.timestamp_ms >= began_ms - 60_000
