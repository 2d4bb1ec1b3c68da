"""Laws that need real processes, a real network, a real broker and a real database to be broken."""

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
from services.runtime.process import EX_FATAL, EX_LEFT, EX_OK
from services.runtime.records import TIMER
from services.runtime.settings import EX_CONFIG
from tests.protocol.laws.alongside import alone
from tests.protocol.laws.kafka_world import ROOT, KafkaWorld
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.member import Process
from tests.protocol.laws.test_lane_laws import MENDED, buried, stops
from tests.protocol.laws.world import lane, story, wait_until_owned
from tests.protocol.toy.events import Input
from tests.support.proxy import Proxy

TAKEOVER_S = 8.0  # session timeout, and two seconds


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as found:
        yield found


# A process that rests.


@alone
def test_a_process_stopped_inside_its_transaction_holds_nobody_up(kafka_world: KafkaWorld) -> None:
    """The rows are free before the next owner comes; what it does when it wakes fails."""
    world = kafka_world
    world.start("second")
    zombie = world.start("first", at="transaction_begun:stop:3")
    feed_until_stopped(world, zombie)
    stopped_at = time.monotonic()
    heir = world.start("first")
    wait_until_owned(world, heir)
    assert time.monotonic() - stopped_at < TAKEOVER_S + 2  # the heir's own start is in it
    zombie.resume()
    world.send(*story(2, 60))
    world.settle()
    assert zombie.is_alive
    check(world.evidence())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_process_that_rested_through_its_session_wakes_and_its_late_outputs_do_no_harm(
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


# A network that loses things.


@alone
def test_a_commit_whose_answer_is_lost_counts_once(kafka_world: KafkaWorld, proxy: Proxy) -> None:
    world = kafka_world
    world.start("second")
    world.proxy = proxy
    world.start("first")
    for turn in range(4):
        world.send(*story(turn, 20))
        world.run(0.4)
        proxy.lose_answer()
        world.send(*story(10 + turn, 20))
        world.run(0.4)
        proxy.lose_commit()
    world.send(*story(20, 20))
    world.settle()
    assert proxy.answers_lost >= 2
    assert proxy.commits_lost >= 2
    assert not world.letters()
    check(world.evidence())


@alone
def test_a_delivery_that_fails_is_made_again(kafka_world: KafkaWorld) -> None:
    """The broker rests for longer than the producer waits: what was committed is produced again
    from its row.
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
    assert '"published_again": 0' in member.log()
    check(world.evidence())


def test_an_output_that_the_broker_refuses_stops_its_lane_and_is_published_when_that_is_mended(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    world.start("second")
    member = world.start("first")
    wait_until_owned(world, member)
    limit(world, world.names.said["first"], 3_000)
    world.send(
        *[Input(f"{n}", "key-large", "add", f"{n:0>900}") for n in range(4)],
        topic=world.names.inputs[0],
    )
    world.until("a stopped lane", lambda: stops(world) == {"lane-output-refused"})
    world.send(*story(1, 40), topic=world.names.inputs[1])
    world.settle()
    limit(world, world.names.said["first"], 8 * 2**20)
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
    world.until("a stopped lane", lambda: stops(world) == {"lane-unpublished-unreadable"})
    kept = world.rows("select outbox from runtime.lanes where stopped_code is not null")
    assert kept == [(b"\x09 from the future",)]


# What the broker withholds. Of a topic that is not there the client says nothing at all.


def test_a_topic_that_we_may_not_read_is_said_until_we_may_and_the_others_go_on(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    a, b = world.names.inputs
    world.start("second")
    member = world.start("first")
    wait_until_owned(world, member)
    with world.forbidden(ResourceType.TOPIC, a):
        world.until("it says so", lambda: member.readyz() == "input-refused")
        world.send(*story(2, 20), topic=b)
        world.until(
            "the other is worked",
            lambda: sum(it.effects for it in world.lanes("first") if it.lane[0] == b) == 20,
        )
        world.run(2.0)  # asked anew some times
        assert member.readyz() == "input-refused"
    world.until("it is ready", lambda: not member.readyz())
    world.send(*story(1, 20), topic=a)
    world.settle()
    lines = [it for it in member.log().splitlines() if '"code": "input-refused"' in it]
    assert [("waiting" in it, "ready again" in it) for it in lines] == [
        (True, False),
        (False, True),
    ]
    check(world.evidence())


def test_a_topic_that_is_not_there_is_said_until_it_is(kafka_world: KafkaWorld) -> None:
    world = kafka_world
    a, b = world.names.inputs
    world.admin.delete_topics([b])[b].result(60)
    world.start("second")
    member = world.start("first")
    world.until("it says so", lambda: member.readyz() == "input-missing")
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


def test_a_member_whose_group_is_taken_from_it_ends_and_says_why(kafka_world: KafkaWorld) -> None:
    """The client calls it fatal: it never fetches again, and says nothing more."""
    world = kafka_world
    world.start("second")
    member = world.start("first")
    wait_until_owned(world, member)
    world.send(*story(1, 20))
    with world.forbidden(ResourceType.GROUP, world.names.groups["first"]):
        assert member.wait(120) == EX_FATAL
        assert '"code": "consumer-failed"' in member.log()
        heir = world.start("first")
        world.until("it says so", lambda: heir.readyz() == "input-refused")
    world.send(*story(2, 20))
    world.settle()
    assert not heir.readyz()
    check(world.evidence())


# Ends.


@alone
def test_a_process_asked_to_end_under_load_ends_in_time_with_nothing_left(
    kafka_world: KafkaWorld,
) -> None:
    world = kafka_world
    world.start("second")
    member = world.start("first")
    wait_until_owned(world, member)
    world.send(*story(1, 3_000, keys=50))
    world.run(0.3)
    began = time.monotonic()
    assert member.stop() == EX_OK
    assert time.monotonic() - began < 5.0
    assert not [it for it in world.lanes("first") if it.has_unpublished]
    evidence = world.evidence()
    published = {it.header("ce_id") for it in evidence.log_of(world.names.said["first"])}
    assert len(published) == len(evidence.snapshots) > 0
    heir = world.start("first")
    wait_until_owned(
        world, heir, seconds=4.0
    )  # it left the group: nobody waits for its session to end
    world.settle()
    check(world.evidence())


@alone
def test_a_process_asked_to_end_while_the_broker_is_away_says_that_something_is_left(
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
        assert member.stop() == EX_LEFT
        assert time.monotonic() - began < 8.0
    world.start("first")
    world.settle()
    check(world.evidence())


def test_a_setting_that_nobody_knows_ends_the_start_with_one_line(
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


# Rows that others hold, and work without a record.


def test_a_row_that_somebody_locks_makes_a_batch_wait_and_nobody_is_blamed(
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
    assert not world.letters()
    check(world.evidence())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_replay_survives_the_death_of_whoever_gives_it_back(
    kafka_world: KafkaWorld, point: str
) -> None:
    world = kafka_world
    letters = buried(world, 6, then=None)
    world.ask_for(letters)
    victim = world.start("first", release=MENDED, at=f"{point}:kill:1")
    world.until("its end", lambda: not victim.is_alive)
    assert lane(world, "first", *TIMER).next_offset == (0 if point == "committing" else 1)
    world.start("first", release=MENDED)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert len(evidence.inputs) == 6


def test_markers_of_transactions_are_stepped_over_and_counted(kafka_world: KafkaWorld) -> None:
    """A log may also end in one: then the lane rests, with nothing left to read."""
    world = kafka_world
    topic, _ = world.names.inputs
    world.start("second")
    world.start("first")
    for turn in range(3):
        world.send_in_transaction(*story(turn, 10), topic=topic)
        world.send_in_transaction(*story(100 + turn, 10), topic=topic, abort=True)
        world.send(*story(10 + turn, 10), topic=topic)
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
    """As feed_until_dead, for a process that a sabotage stops."""
    for turn in range(400):
        if member.is_stopped:
            return
        world.send(*story(0, 8, name=f"feed{turn}"))
        world.run(0.05)
    raise AssertionError(world.told())


def limit(world: KafkaWorld, topic: str, message_bytes_max: int) -> None:
    entry = ConfigEntry(
        "max.message.bytes", str(message_bytes_max), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for answer in world.admin.incremental_alter_configs([resource]).values():
        answer.result(60)
    world.run(0.5)
