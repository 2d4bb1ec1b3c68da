"""What a person wants to see of the servers: records as they come, and how far each lane is
behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from psycopg.rows import class_row
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from deploy.local.process import StackError
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.records import TIMER, LaneKey

LANES = """
select consumer_group, topic, partition, epoch, next_offset,
    outbox is not null as has_outbox, stopped_code
from runtime.lanes order by consumer_group, topic, partition
"""


@dataclass(frozen=True)
class Lane:
    consumer_group: str
    topic: str
    partition: int
    epoch: int
    next_offset: int
    has_outbox: bool
    stopped_code: str | None


def tail(bootstrap_servers: str, topic: str, *, last: int) -> None:
    """Prints the last records of each partition, then new ones until Ctrl-C. Joins no group and
    commits nothing.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "stubline.tail",
            "enable.auto.commit": False,
            "log_level": 2,
        }
    )
    known = consumer.list_topics(topic, timeout=10).topics[topic]
    if known.error is not None:
        raise StackError(f"{topic}: {known.error.str()}")
    parts = [TopicPartition(topic, number) for number in sorted(known.partitions)]
    for part in parts:
        low, high = consumer.get_watermark_offsets(part, timeout=10)
        part.offset = max(low, high - last)
    consumer.assign(parts)
    try:
        for record in records(consumer):
            show(record)
    finally:
        consumer.close()


def records(consumer: Consumer) -> Iterator[Message]:
    while True:
        for record in consumer.consume(100, timeout=0.5):
            if (error := record.error()) is not None:
                raise KafkaException(error)
            yield record


def show(record: Message) -> None:
    _, milliseconds = record.timestamp()
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    print(f"{moment}  {record.partition()}@{record.offset()}  key={text(record.key())}")
    headers = record.headers() or []
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        print(f"    {name}: {text(value)}")
    print(f"    {text(record.value())}", flush=True)


def text(value: str | bytes | None) -> str:
    """Readable, and harmless to a terminal."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return "-" if value is None else "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)


def lag(bootstrap_servers: str, database_url: str) -> None:
    """Lag by the rows of `runtime.lanes`, which decide, not by the offsets in Kafka, which are a
    hint.
    """
    with psycopg.connect(database_url, connect_timeout=5) as connection:
        try:
            lanes = connection.cursor(row_factory=class_row(Lane)).execute(LANES).fetchall()
        except psycopg.errors.UndefinedTable:
            raise StackError("this database has no lanes yet; run: make migrate") from None
    keys = {LaneKey(lane.topic, lane.partition) for lane in lanes}
    ends = BrokerAdmin(bootstrap_servers).ends(keys - {TIMER})
    table = Table(
        "group",
        "topic",
        "partition",
        "epoch",
        "next offset",
        "lag",
        "state",
        title=time.strftime("%H:%M:%S"),
    )
    for lane in lanes:
        extent = ends.get(LaneKey(lane.topic, lane.partition))
        behind = (
            "no such partition"
            if extent is None
            else str(max(0, extent.readable - lane.next_offset))
        )
        state = lane.stopped_code or ("outbox" if lane.has_outbox else "")
        if extent is not None and extent.readable < extent.high:
            state = (
                f"{state} waits for an open transaction ({extent.high - extent.readable})".strip()
            )
        place = (
            lane.consumer_group,
            lane.topic,
            str(lane.partition),
            str(lane.epoch),
            str(lane.next_offset),
        )
        table.add_row(*place, behind, state)
    Console().print(table)
