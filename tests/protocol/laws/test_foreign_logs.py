"""Logs written by other clients or changed by brokers, and failovers of the database: everything is
worked, once.
"""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from services.runtime.records import LaneKey
from tests.protocol.laws.alongside import alone
from tests.protocol.laws.kafka_world import KafkaWorld
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.test_lane_laws import stops
from tests.protocol.laws.world import lane, start_both_stages, story, wait_until_owned
from tests.support.raw_batches import blanks_that_cannot_be_unpacked, produce

SMALL = 2**10


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_of_every_compression_are_worked(kafka_world: KafkaWorld, codec: str) -> None:
    world = kafka_world
    topic = world.names.inputs[0]
    world.start("second")
    world.start("first")
    world.compress(codec)
    world.send(*story(1, 200, keys=20), topic=topic)
    world.settle()
    check(world.evidence())


def test_a_zstd_frame_without_its_length_is_worked(kafka_world: KafkaWorld) -> None:
    """Java's producer writes such records. They are not our events, so they become dead letters."""
    world = kafka_world
    topic = world.names.inputs[0]
    world.start("first")
    produce(
        world.bootstrap_servers,
        topic,
        0,
        blanks_that_cannot_be_unpacked(b"some-key", SMALL, records=3),
    )
    world.until("three dead letters", lambda: len(world.dead_letters()) == 3)
    assert {dead_letter.value for dead_letter in world.dead_letters()} == {b" " * SMALL}
    assert not stops(world)


def test_tombstones_and_records_without_a_key_are_dead_letters_and_harm_no_neighbour(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    topic = world.names.inputs[0]
    world.start("second")
    world.start("first")
    world.send(*story(1, 10), topic=topic)
    world.send_bytes(topic, None, key=b"some-key")
    world.send_bytes(topic, None)
    world.send_bytes(topic, b"", headers=[("h", None)])
    world.send(*story(2, 10), topic=topic)
    world.settle()
    assert len(world.dead_letters()) == 3
    check(world.evidence())


def test_holes_that_compaction_leaves_are_stepped_over_and_counted(kafka_world: KafkaWorld) -> None:
    """The broker's cleaner skips the last segment, and a segment is closed by the record after
    it.
    """
    world = kafka_world
    topic = world.names.inputs[0]
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
    for answer in world.admin.incremental_alter_configs([resource]).values():
        answer.result(10)
    producer = Producer({"bootstrap.servers": world.bootstrap_servers})
    for key in [b"one-key"] * 5 + [b"another", b"the-last"]:
        producer.produce(topic, b"no event", key, 0)
        assert producer.flush(20) == 0
        world.run(0.2)
    place = LaneKey(topic, 0)
    end = world.broker.extents(topic)[place.partition].high
    world.until("the cleaner came", lambda: len(_kept(world, place)) < end, seconds=90)
    wait_until_owned(world, world.start("first"))
    world.until("the lane is at the end", lambda: lane(world, "first", *place).next_offset == end)
    found = lane(world, "first", *place)
    assert found.gaps > 0
    assert (found.dead + found.gaps, found.conservation_gap) == (end, 0)


def _kept(world: KafkaWorld, place: LaneKey) -> list[int]:
    return [
        record.offset
        for record in world.records(place.topic)
        if record.partition == place.partition
    ]


@alone
def test_a_database_that_is_read_only_for_a_while_is_waited_for(kafka_world: KafkaWorld) -> None:
    """A failover: the former primary takes no writes for some seconds. No record is dead-lettered,
    nothing is lost.
    """
    world = kafka_world
    member = start_both_stages(world)
    world.send(*story(1, 20))
    world.settle()
    try:
        _read_only(world, is_read_only=True)
        world.send(*story(2, 20))
        world.until("it is not ready", lambda: bool(member.readyz()))
    finally:
        _read_only(world, is_read_only=False)
    world.settle()
    assert not world.dead_letters()
    assert not stops(world)
    check(world.evidence())


def _read_only(world: KafkaWorld, *, is_read_only: bool) -> None:
    """Of the whole server, for running sessions too."""
    world.database.execute(
        (
            f"alter system set default_transaction_read_only = {'on' if is_read_only else 'off'}"
        ).encode()
    )
    world.database.execute(b"select pg_reload_conf()")
