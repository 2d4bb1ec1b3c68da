"""Records and batches that are larger than they look: what they turn into is bounded, and their
neighbours go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from services.runtime.admin.commands import (
    AdminCommands,
    AdminQueries,
    DeadLetterSelection,
    OperatorCommand,
)
from services.runtime.admin.refusals import DeadLetterNotReplayable, OutputDropRefused
from services.runtime.errors import OutputRefused, RecordTooLarge, RecordUnreadable
from services.runtime.loop.parsing import VALUE_BYTES_KEPT
from services.runtime.records import RECORD_BYTES_MAX, LaneKey
from tests.protocol.laws.kafka_system import KafkaSystem
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.system import lane, start_both_stages, story
from tests.protocol.laws.test_lane_laws import stops
from tests.protocol.laws.test_process_laws import limit
from tests.protocol.toy.events import ToyInput
from tests.support.raw_batches import blanks_that_cannot_be_unpacked, produce

MIB = 2**20


@pytest.mark.parametrize("size", [9 * MIB, 40 * MIB])
@pytest.mark.parametrize("where", ["value", "key", "header"])
def test_a_record_that_is_large_only_when_unpacked_is_a_dead_letter_and_its_neighbours_go_on(
    kafka_system: KafkaSystem, size: int, where: str
) -> None:
    """It has nine kilobytes when compressed. Unbounded, the dead letter's copy would stop the lane,
    and its replay the timer's.
    """
    system = kafka_system
    topic, other = system.names.inputs
    system.start("second")
    system.start("first")
    system.send(*story(1, 20), topic=topic, partition=0)
    produce_compressed(system, topic, **{where: b" " * size})
    system.send(*story(2, 20), topic=topic, partition=0)
    system.send(*story(3, 20), topic=other)
    system.settle()
    assert not stops(system)
    (dead_letter,) = system.dead_letters()
    assert dead_letter.code == RecordTooLarge.code
    row = AdminQueries(system.database).dead_letter(dead_letter.id)
    value = b" " * size if where == "value" else b"v"
    assert (row["value_bytes"], row["value_sha256"]) == (len(value), hashlib.sha256(value).digest())
    assert row["value"] == value[:VALUE_BYTES_KEPT]
    assert len(row["key"]) + len(row["headers"]) < 2**15
    assert (dead_letter.topic, dead_letter.partition) == (topic, 0)
    assert not system.records(system.names.dead["first"]), (
        "a part of a record is never published as a copy of it"
    )
    lane_row = lane(system, "first", topic)
    assert (lane_row.effects, lane_row.dead, lane_row.conservation_gap) == (40, 1, 0)
    with pytest.raises(DeadLetterNotReplayable):
        system.request_replays([dead_letter.id])
    assert AdminCommands(system.database, OperatorCommand("ada", uuid4())).replay(
        DeadLetterSelection(code=dead_letter.code)
    ).details == {"dead_letters": []}


def test_the_largest_record_that_can_be_worked_can_be_dead_lettered_and_replayed(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    topic = system.names.inputs[0]
    system.start("second")
    system.start("first")
    headers = [(f"h{number}", b"x" * 1_000) for number in range(100)]
    room = sum(len(name) + len(content) + 8 for name, content in headers) + len(b"some-key")
    system.send_bytes(topic, b"{" * (RECORD_BYTES_MAX - room), key=b"some-key", headers=headers)
    system.settle()
    (dead_letter,) = system.dead_letters()
    assert dead_letter.code != RecordTooLarge.code
    system.request_replays([dead_letter.id])
    system.until(
        "the replay failed as the record did", lambda: system.dead_letters()[0].attempts == 2
    )
    system.settle()
    check(system.state())
    assert not stops(system)


def test_a_batch_that_the_client_cannot_unpack_stops_its_lane_and_a_skip_goes_past_it(
    kafka_system: KafkaSystem,
) -> None:
    """Without the stop there would be a ready process, an error of the client twice a second, and
    an unread partition.
    """
    system = kafka_system
    topic, other = system.names.inputs
    member = start_both_stages(system)
    system.send(*story(1, 20), topic=topic, partition=0)
    packed = blanks_that_cannot_be_unpacked(b"some-key", 40 * MIB, records=3)
    first = produce(system.bootstrap_servers, topic, 0, packed)
    system.send(*story(2, 20), topic=topic, partition=0)
    system.send(*story(3, 20), topic=other)
    system.until("the lane stops", lambda: stops(system) == {RecordUnreadable.code})
    system.until(
        "the others go on",
        lambda: sum(row.effects for row in system.lanes("first") if row.lane.topic == other) == 20,
    )
    row = lane(system, "first", topic)
    assert (row.next_offset, row.effects) == (first, 20)
    (text,) = system.rows("select stopped_text from runtime.lanes where stopped_code is not null")[
        0
    ]
    assert f"go on at {first + 3}" in text
    assert member.readyz() == f"{RecordUnreadable.code}: {topic} 0"
    offsets = system.broker.partition_offsets(topic)[0]
    AdminCommands(system.database, OperatorCommand("ada", uuid4())).skip(
        system.names.groups["first"],
        LaneKey(topic, 0),
        to=first + 3,
        offsets=offsets,
        reason="unreadable",
    )
    system.settle()
    row = lane(system, "first", topic)
    assert (row.effects, row.gaps, row.conservation_gap) == (40, 3, 0)
    system.until("it is ready again", lambda: not member.readyz())


def test_a_batch_that_a_disk_damaged_is_never_parsed_and_stops_its_lane(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    topic = system.names.inputs[0]
    system.send(*story(1, 3), topic=topic, partition=0)
    system.send(ToyInput("damaged", "some-key", "add", "1"), topic=topic, partition=0)
    system.send(*story(2, 3), topic=topic, partition=0)
    segment = system.segment_of(LaneKey(topic, 0))
    at = segment.read_bytes().index(b"damaged")
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(b"DAMAGED")
    system.start("second")
    system.start("first")
    system.until("the lane stops", lambda: stops(system) == {RecordUnreadable.code})
    assert lane(system, "first", topic).next_offset == 3
    (text,) = system.rows("select stopped_text from runtime.lanes where stopped_code is not null")[
        0
    ]
    assert "go on at 4" in text
    assert not system.dead_letters()


def test_a_refused_output_can_be_dropped_and_only_that_one(kafka_system: KafkaSystem) -> None:
    system = kafka_system
    topic, group = system.names.inputs[0], system.names.groups["first"]
    start_both_stages(system)
    with limited(system, system.names.outputs["first"], 3_000):
        large, small = (
            ToyInput("0", "key-large", "add", "0" * 900),
            ToyInput("x", "key-small", "add", "1"),
        )
        inputs = [ToyInput(f"{n}", "key-large", "add", f"{n:0>900}") for n in range(4)]
        system.send(large, *inputs, small, topic=topic, partition=0)
        system.until("a stopped lane", lambda: stops(system) == {OutputRefused.code})
        key = LaneKey(topic, 0)
        outputs = AdminQueries(system.database).outputs(group, key)
        (text,) = system.rows(
            "select stopped_text from runtime.lanes where stopped_code is not null"
        )[0]
        number = next(at for at, output in enumerate(outputs) if output.key == b"key-large")
        assert text.startswith(f"output {number}: ")
        with pytest.raises(OutputDropRefused):
            AdminCommands(system.database, OperatorCommand("ada", uuid4())).drop_output(
                group, key, number + 1, "it is not refused"
            )
        done = AdminCommands(system.database, OperatorCommand("ada", uuid4())).drop_output(
            group, key, number, "too large"
        )
        assert done.details["dropped"]["key"] == "key-large"
        assert (
            done.details["dropped"]["sha256"]
            == hashlib.sha256(outputs[number].value or b"").hexdigest()
        )
        assert done.details["left"] == len(outputs) - 1
        system.until("no stopped lane", lambda: not stops(system))
        system.until(
            "the lane has no outputs left", lambda: not lane(system, "first", topic).has_outbox
        )
        published = [record.value for record in system.records(system.names.outputs["first"])]
        assert outputs[number].value not in published
        assert {output.value for output in outputs} - {outputs[number].value} <= set(published)
        with pytest.raises(OutputDropRefused):
            AdminCommands(system.database, OperatorCommand("ada", uuid4())).drop_output(
                group, key, 0, "it is not stopped"
            )


def test_what_an_open_transaction_holds_back_is_no_lag_and_is_shown(
    kafka_system: KafkaSystem,
) -> None:
    """A dead producer's transaction holds its partition until the broker ends it."""
    system = kafka_system
    topic = system.names.inputs[0]
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 10), topic=topic, partition=0)
    system.settle()
    producer = Producer(
        {"bootstrap.servers": system.bootstrap_servers, "transactional.id": f"open-{topic}"}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, b"held back", b"some-key", partition=0)
    assert producer.flush(20) == 0
    labels = f'{{group="{system.names.groups["first"]}",partition="0",topic="{topic}"}}'
    gauge = f"stubline_lane_uncommitted_records{labels} 1"
    system.until("it is shown", lambda: gauge in member.metrics())
    offsets = system.broker.ends([LaneKey(topic, 0)])[LaneKey(topic, 0)]
    assert (offsets.end_offset, offsets.high_watermark) == (10, 11)
    assert f"stubline_lane_lag_records{labels} 0" in member.metrics()
    assert "lane waits for an open transaction" in member.log()
    producer.abort_transaction(20)
    system.settle()
    assert lane(system, "first", topic).next_offset == 12
    system.until(
        "it is shown no longer",
        lambda: "stubline_lane_uncommitted_records{" not in member.metrics(),
    )


def produce_compressed(
    system: KafkaSystem,
    topic: str,
    *,
    value: bytes = b"v",
    key: bytes = b"some-key",
    header: bytes = b"h",
) -> None:
    producer = Producer(
        {
            "bootstrap.servers": system.bootstrap_servers,
            "compression.type": "gzip",
            "message.max.bytes": 90_000_000,
        }
    )
    producer.produce(topic, value=value, key=key, headers=[("h", header)], partition=0)
    assert producer.flush(20) == 0


@contextmanager
def limited(system: KafkaSystem, topic: str, message_bytes_max: int) -> Iterator[None]:
    """The broker takes no larger batches of the topic."""
    limit(system, topic, message_bytes_max)
    try:
        yield
    finally:
        limit(system, topic, 8 * MIB)
