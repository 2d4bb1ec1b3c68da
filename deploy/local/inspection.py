"""`make tail` and `make lag`: the records of a topic as they come, and the lag of each lane."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import psycopg
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from psycopg.rows import class_row
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from deploy.local.process import StackError
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.topics import BrokerAdmin, PartitionOffsets
from services.runtime.records import TIMER, LaneKey

LANES = """
select consumer_group, topic, partition, epoch, next_offset,
    outbox is not null as has_outbox, stopped_code
from runtime.lanes order by consumer_group, topic, partition
"""


@dataclass(frozen=True)
class LaneProgress:
    consumer_group: str
    topic: str
    partition: int
    epoch: int
    next_offset: int
    has_outbox: bool
    stopped_code: str | None


def tail(cluster: KafkaCluster, topic: str, *, last: int) -> None:
    """Print the last records of each partition, then new ones until Ctrl-C. Joins no group and
    commits nothing.
    """
    own: dict[str, object] = {
        "group.id": cluster.with_prefix("stubline.tail"),
        "enable.auto.commit": False,
        "log_level": 2,
    }
    consumer = Consumer(cluster.client_settings(own))
    topic = cluster.with_prefix(topic)
    known = consumer.list_topics(topic, timeout=10).topics[topic]
    if known.error is not None:
        raise StackError(f"{topic}: {known.error.str()}")
    partitions = [TopicPartition(topic, number) for number in sorted(known.partitions)]
    for partition in partitions:
        low, high = consumer.get_watermark_offsets(partition, timeout=10)
        partition.offset = max(low, high - last)
    consumer.assign(partitions)
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


def lag(cluster: KafkaCluster, database_url: str) -> None:
    """Print each lane's lag by its row in `runtime.lanes`; the offsets in Kafka may be older."""
    with psycopg.connect(database_url, connect_timeout=5) as connection:
        try:
            lanes = connection.cursor(row_factory=class_row(LaneProgress)).execute(LANES).fetchall()
        except psycopg.errors.UndefinedTable:
            raise StackError("this database has no lanes yet; run: make migrate") from None
    keys = {LaneKey(lane.topic, lane.partition) for lane in lanes}
    Console().print(lag_table(lanes, BrokerAdmin(cluster).ends(keys - {TIMER})))


def lag_table(lanes: list[LaneProgress], ends: Mapping[LaneKey, PartitionOffsets]) -> Table:
    columns = ("group", "topic", "partition", "epoch", "next offset", "lag", "state")
    table = Table(*columns, title=time.strftime("%H:%M:%S"))
    for lane in lanes:
        offsets = ends.get(LaneKey(lane.topic, lane.partition))
        numbers = (lane.partition, lane.epoch, lane.next_offset)
        unread = "no such partition"
        if offsets is not None:
            unread = str(max(0, offsets.end_offset - lane.next_offset))
        cells = (*map(str, numbers), unread, state(lane, offsets))
        table.add_row(lane.consumer_group, lane.topic, *cells)
    return table


def state(lane: LaneProgress, offsets: PartitionOffsets | None) -> str:
    words = [lane.stopped_code or ("outputs to publish" if lane.has_outbox else "")]
    if offsets is not None and offsets.end_offset < offsets.high_watermark:
        words.append(
            f"waits for an open transaction ({offsets.high_watermark - offsets.end_offset})"
        )
    return " ".join(words).strip()
