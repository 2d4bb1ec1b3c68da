"""Logs written by other clients or changed by brokers, and failovers of the database: everything is
worked, once.
"""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from services.runtime.records import LaneKey
from tests.protocol.laws.concurrent_laws import alone
from tests.protocol.laws.kafka_system import KafkaSystem
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.system import lane, start_both_stages, story, wait_until_owned
from tests.protocol.laws.test_lane_laws import stops
from tests.support.raw_batches import blanks_that_cannot_be_unpacked, produce

SMALL = 2**10


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_of_every_compression_are_worked(kafka_system: KafkaSystem, codec: str) -> None:
    system = kafka_system
    topic = system.names.inputs[0]
    system.start("second")
    system.start("first")
    system.compress(codec)
    system.send(*story(1, 200, keys=20), topic=topic)
    system.settle()
    check(system.state())


def test_a_zstd_frame_without_its_length_is_worked(kafka_system: KafkaSystem) -> None:
    """Java's producer writes such records. They are not our events, so they become dead letters."""
    system = kafka_system
    topic = system.names.inputs[0]
    system.start("first")
    produce(
        system.bootstrap_servers,
        topic,
        0,
        blanks_that_cannot_be_unpacked(b"some-key", SMALL, records=3),
    )
    system.until("three dead letters", lambda: len(system.dead_letters()) == 3)
    assert {dead_letter.value for dead_letter in system.dead_letters()} == {b" " * SMALL}
    assert not stops(system)


def test_tombstones_and_records_without_a_key_are_dead_letters_and_harm_no_neighbour(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    topic = system.names.inputs[0]
    system.start("second")
    system.start("first")
    system.send(*story(1, 10), topic=topic)
    system.send_bytes(topic, None, key=b"some-key")
    system.send_bytes(topic, None)
    system.send_bytes(topic, b"", headers=[("h", None)])
    system.send(*story(2, 10), topic=topic)
    system.settle()
    assert len(system.dead_letters()) == 3
    check(system.state())


def test_offset_gaps_that_compaction_leaves_are_skipped_and_counted(
    kafka_system: KafkaSystem,
) -> None:
    """The broker's cleaner skips the last segment, and a segment is closed by the record after
    it.
    """
    system = kafka_system
    topic = system.names.inputs[0]
    settings = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
    }
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for answer in system.admin.incremental_alter_configs([resource]).values():
        answer.result(10)
    producer = Producer({"bootstrap.servers": system.bootstrap_servers})
    for key in [b"one-key"] * 5 + [b"another", b"the-last"]:
        producer.produce(topic, b"no event", key, 0)
        assert producer.flush(20) == 0
        system.run(0.2)
    place = LaneKey(topic, 0)
    end = system.broker.partition_offsets(topic)[place.partition].high_watermark
    system.until("the cleaner came", lambda: len(_kept(system, place)) < end, seconds=90)
    wait_until_owned(system, system.start("first"))
    system.until("the lane is at the end", lambda: lane(system, "first", *place).next_offset == end)
    row = lane(system, "first", *place)
    assert row.gaps > 0
    assert (row.dead + row.gaps, row.conservation_gap) == (end, 0)


def _kept(system: KafkaSystem, place: LaneKey) -> list[int]:
    return [
        record.offset
        for record in system.records(place.topic)
        if record.partition == place.partition
    ]


@alone
def test_a_database_that_is_read_only_for_a_while_is_waited_for(kafka_system: KafkaSystem) -> None:
    """A failover: the former primary takes no writes for some seconds. No record is dead-lettered,
    nothing is lost.
    """
    system = kafka_system
    member = start_both_stages(system)
    system.send(*story(1, 20))
    system.settle()
    try:
        _read_only(system, is_read_only=True)
        system.send(*story(2, 20))
        system.until("it is not ready", lambda: bool(member.readyz()))
    finally:
        _read_only(system, is_read_only=False)
    system.settle()
    assert not system.dead_letters()
    assert not stops(system)
    check(system.state())


def _read_only(system: KafkaSystem, *, is_read_only: bool) -> None:
    """Of the whole server, for running sessions too."""
    system.database.execute(
        (
            f"alter system set default_transaction_read_only = {'on' if is_read_only else 'off'}"
        ).encode()
    )
    system.database.execute(b"select pg_reload_conf()")
