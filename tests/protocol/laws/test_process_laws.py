"""Laws that only real processes, networks, brokers and databases can put to the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from schemas.topics import Topic
from services.runtime.process import EX_OK, EX_SOFTWARE, EX_TEMPFAIL
from services.runtime.records import TIMER
from services.runtime.settings import EX_CONFIG
from tests.protocol.laws.alongside import alone
from tests.protocol.laws.kafka_world import ROOT, KafkaWorld
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.member import Process
from tests.protocol.laws.test_lane_laws import FIXED, dead_lettered, stops
from tests.protocol.laws.world import lane, start_both_stages, story, wait_until_owned
from tests.protocol.toy.events import Input
from tests.support.proxy import Proxy

TAKEOVER_S = 8.0  # session timeout, and two seconds


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as found:
        yield found


# Processes that are stopped for a while.


@alone
def test_a_process_stopped_inside_its_transaction_blocks_no_other(kafka_world: KafkaWorld) -> None:
    """Its rows are unlocked before the next owner starts, and once resumed it changes nothing."""
    world = kafka_world
    world.start("second")
    zombie = world.start("first", at="transaction_begun:stop:3")
    feed_until_stopped(world, zombie)
    stopped_at = time.monotonic()
    next_owner = world.start("first")
    wait_until_owned(world, next_owner)
    assert time.monotonic() - stopped_at < TAKEOVER_S + 2  # includes the start of the next owner
    zombie.resume()
    world.send(*story(2, 60))
    world.settle()
    assert zombie.is_alive
    check(world.evidence())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_process_that_resumes_after_its_session_does_no_harm_with_its_late_outputs(
    kafka_world: KafkaWorld, point: str
) -> None:
    world = kafka_world
    world.start("second")
    zombie = world.start("first", at=f"{point}:stop:4")
    feed_until_stopped(world, zombie)
    wait_until_owned(world, world.start("first"))
    world.send(*story(2, 60))
    world.settle()
    zombie.resume()
    world.send(*story(3, 60))
    world.run(1.0)
    world.settle()
    assert zombie.is_alive
    check(world.evidence())


# Networks that lose requests and responses.


@alone
def test_a_commit_whose_response_is_lost_counts_once(kafka_world: KafkaWorld, proxy: Proxy) -> None:
    world = kafka_world
    world.start("second")
    world.proxy = proxy
    world.start("first")
    for number in range(4):
        world.send(*story(number, 20))
        world.run(0.4)
        proxy.lose_answer()
        world.send(*story(10 + number, 20))
        world.run(0.4)
        proxy.lose_commit()
    world.send(*story(20, 20))
    world.settle()
    assert proxy.answers_lost >= 2
    assert proxy.commits_lost >= 2
    assert not world.dead_letters()
    check(world.evidence())


@alone
def test_a_failed_delivery_is_repeated(kafka_world: KafkaWorld) -> None:
    """The broker is stopped for longer than the producer waits: what was committed is produced
    again from its row.
    """
    world = kafka_world
    world.start("second")
    member = world.start("first", at="committed:stop:4", delivery_timeout_ms=1_000)
    feed_until_stopped(world, member)
    with world.broker_paused():
        member.resume()
        world.run(2.5)
    world.send(*story(1, 60))
    world.settle()
    assert member.is_alive
    assert '"republished": 0' in member.log()
    check(world.evidence())


def test_an_output_that_the_broker_refuses_stops_its_lane_and_is_published_once_that_is_fixed(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    start_both_stages(world)
    limit(world, world.names.outputs["first"], 3_000)
    world.send(
        *[Input(f"{n}", "key-large", "add", f"{n:0>900}") for n in range(4)],
        topic=world.names.inputs[0],
    )
    world.until("a stopped lane", lambda: stops(world) == {"lane-output-refused"})
    world.send(*story(1, 40), topic=world.names.inputs[1])
    world.settle()
    limit(world, world.names.outputs["first"], 8 * 2**20)
    for it in world.lanes("first"):
        if it.stopped_code:
            world.rewind("first", it.lane, it.next_offset)
    world.until("no stopped lane", lambda: not stops(world))
    world.settle()
    check(world.evidence())


def test_outputs_that_a_later_release_wrote_stop_the_lane_until_it_is_back(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    world.start("second")
    member = world.start("first")
    world.send(*story(1, 20))
    world.settle()
    assert member.stop() == EX_OK
    later = (
        "update runtime.lanes set outbox = %s where topic = %s and partition = 0 returning epoch"
    )
    world.rows(later, b"\x09 from the future", world.names.inputs[0])
    world.start("first")
    world.until("a stopped lane", lambda: stops(world) == {"lane-outbox-unreadable"})
    kept = world.rows("select outbox from runtime.lanes where stopped_code is not null")
    assert kept == [(b"\x09 from the future",)]


# Inputs that the broker withholds. The client does not report a topic that does not exist.


def test_a_topic_that_we_may_not_read_is_reported_until_we_may_and_the_others_go_on(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    a, b = world.names.inputs
    member = start_both_stages(world)
    with world.forbidden(ResourceType.TOPIC, a):
        world.until("it reports it", lambda: member.readyz() == "input-refused")
        world.send(*story(2, 20), topic=b)
        world.until(
            "the other is worked",
            lambda: sum(it.effects for it in world.lanes("first") if it.lane[0] == b) == 20,
        )
        world.run(2.0)  # it is checked again several times
        assert member.readyz() == "input-refused"
    world.until("it is ready", lambda: not member.readyz())
    world.send(*story(1, 20), topic=a)
    world.settle()
    lines = [it for it in member.log().splitlines() if '"code": "input-refused"' in it]
    assert [("retrying after error" in it, "ready again" in it) for it in lines] == [
        (True, False),
        (False, True),
    ]
    check(world.evidence())


def test_a_topic_that_does_not_exist_is_reported_until_it_does(kafka_world: KafkaWorld) -> None:
    world = kafka_world
    a, b = world.names.inputs
    world.admin.delete_topics([b])[b].result(60)
    world.start("second")
    member = world.start("first")
    world.until("it reports it", lambda: member.readyz() == "input-missing")
    world.send(*story(1, 20), topic=a)
    world.until(
        "the other is worked",
        lambda: sum(it.effects for it in world.lanes("first") if it.lane[0] == a) == 20,
    )
    world.broker.repair([Topic(b, "key", "tests", partitions=2)])
    world.until("it is ready", lambda: not member.readyz())
    world.send(*story(2, 20), topic=b)
    world.settle()
    check(world.evidence())


def test_a_member_that_loses_its_right_to_the_group_ends_with_a_code(
    kafka_world: KafkaWorld,
) -> None:
    """The client calls it fatal: it never fetches again, and reports nothing more."""
    world = kafka_world
    member = start_both_stages(world)
    world.send(*story(1, 20))
    with world.forbidden(ResourceType.GROUP, world.names.groups["first"]):
        assert member.wait(120) == EX_SOFTWARE
        assert '"code": "consumer-failed"' in member.log()
        next_owner = world.start("first")
        world.until("it reports it", lambda: next_owner.readyz() == "input-refused")
    world.send(*story(2, 20))
    world.settle()
    assert not next_owner.readyz()
    check(world.evidence())


# Stopping.


@alone
def test_a_process_stopped_under_load_ends_in_time_with_nothing_left(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    member = start_both_stages(world)
    world.send(*story(1, 3_000, keys=50))
    world.run(0.3)
    began = time.monotonic()
    assert member.stop() == EX_OK
    assert time.monotonic() - began < 5.0
    assert not [it for it in world.lanes("first") if it.has_outbox]
    evidence = world.evidence()
    published = {it.header("ce_id") for it in evidence.log_of(world.names.outputs["first"])}
    assert len(published) == len(evidence.snapshots) > 0
    next_owner = world.start("first")
    wait_until_owned(
        world, next_owner, seconds=4.0
    )  # it left the group, so no member waits for its session to end
    world.settle()
    check(world.evidence())


@alone
def test_a_process_stopped_without_a_broker_reports_that_outputs_are_left(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    world.start("second")
    member = world.start("first", at="committed:stop:4", stop_deadline_ms=2_000)
    feed_until_stopped(world, member)
    with world.broker_paused():
        member.resume()
        world.run(0.3)
        began = time.monotonic()
        assert member.stop() == EX_TEMPFAIL
        assert time.monotonic() - began < 8.0
    world.start("first")
    world.settle()
    check(world.evidence())


def test_an_unknown_setting_ends_the_start_with_one_line(
    database_url: str, bootstrap_servers: str
) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "STUBLINE_TOY_BATCH_RECORD_MAX": "7",
    }
    command = [sys.executable, "-m", "tests.protocol.toy", "first"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == EX_CONFIG
    (line,) = done.stderr.splitlines()
    assert "STUBLINE_TOY_BATCH_RECORDS_MAX" in line


# Rows that others lock, and work without a record.


def test_a_locked_row_makes_a_batch_wait_and_dead_letters_nothing(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    world.start("second")
    world.start("first", lock_timeout_ms=300)
    world.send(Input("1", "key-locked", "release"))
    world.settle()
    with psycopg.connect(world.database_url) as other:
        other.execute("select from toy.firsts where key = 'key-locked' for update")
        world.send(Input("2", "key-locked", "add", "c1"), *story(1, 20))
        world.run(2.5)
    world.settle()
    assert not world.dead_letters()
    check(world.evidence())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_replay_survives_the_death_of_the_process_that_publishes_it(
    kafka_world: KafkaWorld, point: str
) -> None:
    world = kafka_world
    dead_letters = dead_lettered(world, 6, then=None)
    world.request_replays(dead_letters)
    victim = world.start("first", release=FIXED, at=f"{point}:kill:1")
    world.until("its end", lambda: not victim.is_alive)
    assert lane(world, "first", *TIMER).next_offset == (0 if point == "committing" else 1)
    world.start("first", release=FIXED)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert len(evidence.inputs) == 6


def test_markers_of_transactions_are_stepped_over_and_counted(kafka_world: KafkaWorld) -> None:
    """A log may also end in a marker: then the lane is idle, with nothing left to read."""
    world = kafka_world
    topic, _ = world.names.inputs
    world.start("second")
    world.start("first")
    for number in range(3):
        world.send_in_transaction(*story(number, 10), topic=topic)
        world.send_in_transaction(*story(100 + number, 10), topic=topic, abort=True)
        world.send(*story(10 + number, 10), topic=topic)
    world.send_in_transaction(*story(20, 10), topic=topic)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert len(evidence.inputs) == 70
    assert sum(it.gaps for it in world.lanes("first") if it.lane.topic == topic) > 30


def test_a_client_at_the_end_of_a_log_of_markers_does_not_spin(kafka_world: KafkaWorld) -> None:
    world = kafka_world
    topic, _ = world.names.inputs
    world.start("second")
    member = world.start("first")
    world.send_in_transaction(*story(1, 4), topic=topic)
    world.settle()
    world.run(3.0)
    assert member.log().count("lane assigned again") <= 4


def feed_until_stopped(world: KafkaWorld, member: Process) -> None:
    """Like feed_until_dead, for a process that a sabotage stops."""
    for number in range(400):
        if member.is_stopped:
            return
        world.send(*story(0, 8, name=f"feed{number}"))
        world.run(0.05)
    raise AssertionError(world.logs_tail())


def limit(world: KafkaWorld, topic: str, message_bytes_max: int) -> None:
    entry = ConfigEntry(
        "max.message.bytes", str(message_bytes_max), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for answer in world.admin.incremental_alter_configs([resource]).values():
        answer.result(60)
    world.run(0.5)
