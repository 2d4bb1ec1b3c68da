"""The whole content of topics, as records."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, TopicPartition

from services.runtime.kafka.messages import fetch_result
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.records import LaneKey, Record

READ_WITHIN_S = 120.0


def read_logs(bootstrap_servers: str, topics: Collection[str]) -> dict[LaneKey, list[Record]]:
    """Read every partition, from its first record to the end that it has now."""
    broker = BrokerAdmin(bootstrap_servers)
    ends = {
        LaneKey(topic, number): (offsets.low_watermark, offsets.high_watermark)
        for topic in topics
        for number, offsets in broker.partition_offsets(topic).items()
    }
    return read_lanes(bootstrap_servers, ends)


def read_lanes(
    bootstrap_servers: str, ends: Mapping[LaneKey, tuple[int, int]]
) -> dict[LaneKey, list[Record]]:
    """Read these partitions between the (low, high) that are given."""
    logs: dict[LaneKey, list[Record]] = {lane: [] for lane in ends}
    wanted = {lane for lane, (low, high) in ends.items() if high > low}
    settings = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "readers",
        "enable.auto.commit": False,
        "log_level": 0,
    }
    with closing(Consumer(settings | {"enable.partition.eof": True})) as consumer:
        consumer.assign([TopicPartition(*lane, ends[lane][0]) for lane in wanted])
        end = time.monotonic() + READ_WITHIN_S
        while wanted:
            assert time.monotonic() < end, f"cannot read {wanted}"
            messages = consumer.consume(1_000, 0.2)
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    wanted.discard(LaneKey(message.topic() or "", message.partition() or 0))
            for lane, records in fetch_result(
                [message for message in messages if message.error() is None]
            ).records.items():
                logs[lane] += records
    return logs
