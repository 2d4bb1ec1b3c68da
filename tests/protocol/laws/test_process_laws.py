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
from tests.protocol.laws.concurrent_laws import alone
from tests.protocol.laws.kafka_system import ROOT, KafkaSystem
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.stage_process import StageProcess
from tests.protocol.laws.system import lane, start_both_stages, story, wait_until_owned
from tests.protocol.laws.test_lane_laws import FIXED, dead_lettered, stops
from tests.protocol.toy.events import ToyInput
from tests.support.proxy import Proxy

TAKEOVER_S = 8.0  # session timeout, and two seconds


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as running:
        yield running


# Processes that are stopped for a while.


@alone
def test_a_process_stopped_inside_its_transaction_blocks_no_other(
    kafka_system: KafkaSystem,
) -> None:
    """Its rows are unlocked before the next owner starts, and once resumed it changes nothing."""
    system = kafka_system
    system.start("second")
    zombie = system.start("first", at="transaction_begun:stop:3")
    feed_until_stopped(system, zombie)
    stopped_at = time.monotonic()
    next_owner = system.start("first")
    wait_until_owned(system, next_owner)
    assert time.monotonic() - stopped_at < TAKEOVER_S + 2  # includes the start of the next owner
    zombie.resume()
    system.send(*story(2, 60))
    system.settle()
    assert zombie.is_alive
    check(system.state())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_process_that_resumes_after_its_session_does_no_harm_with_its_late_outputs(
    kafka_system: KafkaSystem, point: str
) -> None:
    system = kafka_system
    system.start("second")
    zombie = system.start("first", at=f"{point}:stop:4")
    feed_until_stopped(system, zombie)
    wait_until_owned(system, system.start("first"))
    system.send(*story(2, 60))
    system.settle()
    zombie.resume()
    system.send(*story(3, 60))
    system.run(1.0)
    system.settle()
    assert zombie.is_alive
    check(system.state())


# Networks that lose requests and responses.


@alone
def test_a_commit_whose_response_is_lost_counts_once(
    kafka_system: KafkaSystem, proxy: Proxy
) -> None:
    system = kafka_system
    system.start("second")
    system.proxy = proxy
    system.start("first")
    for number in range(4):
        system.send(*story(number, 20))
        system.run(0.4)
        proxy.lose_answer()
        system.send(*story(10 + number, 20))
        system.run(0.4)
        proxy.lose_commit()
    system.send(*story(20, 20))
    system.settle()
    assert proxy.answers_lost >= 2
    assert proxy.commits_lost >= 2
    assert not system.dead_letters()
    check(system.state())


@alone
def test_a_failed_delivery_is_repeated(kafka_system: KafkaSystem) -> None:
    """The broker is stopped for longer than the producer waits: what was committed is produced
    again from its row.
    """
    system = kafka_system
    system.start("second")
    member = system.start("first", at="committed:stop:4", delivery_timeout_ms=1_000)
    feed_until_stopped(system, member)
    with system.broker_paused():
        member.resume()
        system.run(2.5)
    system.send(*story(1, 60))
    system.settle()
    assert member.is_alive
    assert '"republished": 0' in member.log()
    check(system.state())


def test_an_output_that_the_broker_refuses_stops_its_lane_and_is_published_once_that_is_fixed(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    start_both_stages(system)
    limit(system, system.names.outputs["first"], 3_000)
    system.send(
        *[ToyInput(f"{n}", "key-large", "add", f"{n:0>900}") for n in range(4)],
        topic=system.names.inputs[0],
    )
    system.until("a stopped lane", lambda: stops(system) == {"lane-output-refused"})
    system.send(*story(1, 40), topic=system.names.inputs[1])
    system.settle()
    limit(system, system.names.outputs["first"], 8 * 2**20)
    for row in system.lanes("first"):
        if row.stopped_code:
            system.rewind("first", row.lane, row.next_offset)
    system.until("no stopped lane", lambda: not stops(system))
    system.settle()
    check(system.state())


def test_outputs_that_a_later_release_wrote_stop_the_lane_until_it_is_back(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 20))
    system.settle()
    assert member.stop() == EX_OK
    later = (
        "update runtime.lanes set outbox = %s where topic = %s and partition = 0 returning epoch"
    )
    system.rows(later, b"\x09 from the future", system.names.inputs[0])
    system.start("first")
    system.until("a stopped lane", lambda: stops(system) == {"lane-outbox-unreadable"})
    kept = system.rows("select outbox from runtime.lanes where stopped_code is not null")
    assert kept == [(b"\x09 from the future",)]


# Inputs that the broker does not serve. The client does not report a topic that does not exist.


def test_a_topic_that_we_may_not_read_is_reported_until_we_may_and_the_others_go_on(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    a, b = system.names.inputs
    member = start_both_stages(system)
    with system.forbidden(ResourceType.TOPIC, a):
        system.until("it reports it", lambda: member.readyz() == "input-refused")
        system.send(*story(2, 20), topic=b)
        system.until(
            "the other is worked",
            lambda: sum(row.effects for row in system.lanes("first") if row.lane[0] == b) == 20,
        )
        system.run(2.0)  # it is checked again several times
        assert member.readyz() == "input-refused"
    system.until("it is ready", lambda: not member.readyz())
    system.send(*story(1, 20), topic=a)
    system.settle()
    lines = [line for line in member.log().splitlines() if '"code": "input-refused"' in line]
    assert [("retrying after error" in line, "ready again" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]
    check(system.state())


def test_a_topic_that_does_not_exist_is_reported_until_it_does(kafka_system: KafkaSystem) -> None:
    system = kafka_system
    a, b = system.names.inputs
    system.admin.delete_topics([b])[b].result(60)
    system.start("second")
    member = system.start("first")
    system.until("it reports it", lambda: member.readyz() == "input-missing")
    system.send(*story(1, 20), topic=a)
    system.until(
        "the other is worked",
        lambda: sum(row.effects for row in system.lanes("first") if row.lane[0] == a) == 20,
    )
    system.broker.repair([Topic(b, "key", "tests", partitions=2)])
    system.until("it is ready", lambda: not member.readyz())
    system.send(*story(2, 20), topic=b)
    system.settle()
    check(system.state())


def test_a_member_that_loses_its_right_to_the_group_ends_with_a_code(
    kafka_system: KafkaSystem,
) -> None:
    """The client calls it fatal: it never fetches again, and reports nothing more."""
    system = kafka_system
    member = start_both_stages(system)
    system.send(*story(1, 20))
    with system.forbidden(ResourceType.GROUP, system.names.groups["first"]):
        assert member.wait(120) == EX_SOFTWARE
        assert '"code": "consumer-failed"' in member.log()
        next_owner = system.start("first")
        system.until("it reports it", lambda: next_owner.readyz() == "input-refused")
    system.send(*story(2, 20))
    system.settle()
    assert not next_owner.readyz()
    check(system.state())


# Stopping.


@alone
def test_a_process_stopped_under_load_ends_in_time_with_nothing_left(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    member = start_both_stages(system)
    system.send(*story(1, 3_000, keys=50))
    system.run(0.3)
    began = time.monotonic()
    assert member.stop() == EX_OK
    assert time.monotonic() - began < 5.0
    assert not [lane for lane in system.lanes("first") if lane.has_outbox]
    state = system.state()
    published = {record.header("ce_id") for record in state.log_of(system.names.outputs["first"])}
    assert len(published) == len(state.snapshots) > 0
    next_owner = system.start("first")
    wait_until_owned(
        system, next_owner, seconds=4.0
    )  # it left the group, so no member waits for its session to end
    system.settle()
    check(system.state())


@alone
def test_a_process_stopped_without_a_broker_reports_that_outputs_are_left(
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    system.start("second")
    member = system.start("first", at="committed:stop:4", stop_deadline_ms=2_000)
    feed_until_stopped(system, member)
    with system.broker_paused():
        member.resume()
        system.run(0.3)
        began = time.monotonic()
        assert member.stop() == EX_TEMPFAIL
        assert time.monotonic() - began < 8.0
    system.start("first")
    system.settle()
    check(system.state())


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
    kafka_system: KafkaSystem,
) -> None:
    system = kafka_system
    system.start("second")
    system.start("first", lock_timeout_ms=300)
    system.send(ToyInput("1", "key-locked", "release"))
    system.settle()
    with psycopg.connect(system.database_url) as other:
        other.execute("select from toy.firsts where key = 'key-locked' for update")
        system.send(ToyInput("2", "key-locked", "add", "c1"), *story(1, 20))
        system.run(2.5)
    system.settle()
    assert not system.dead_letters()
    check(system.state())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_replay_survives_the_death_of_the_process_that_publishes_it(
    kafka_system: KafkaSystem, point: str
) -> None:
    system = kafka_system
    dead_letters = dead_lettered(system, 6, then=None)
    system.request_replays(dead_letters)
    victim = system.start("first", release=FIXED, at=f"{point}:kill:1")
    system.until("its end", lambda: not victim.is_alive)
    assert lane(system, "first", *TIMER).next_offset == (0 if point == "committing" else 1)
    system.start("first", release=FIXED)
    system.settle()
    state = system.state()
    check(state)
    assert len(state.inputs) == 6


def test_markers_of_transactions_are_stepped_over_and_counted(kafka_system: KafkaSystem) -> None:
    """A log may also end in a marker: then the lane is idle, with nothing left to read."""
    system = kafka_system
    topic, _ = system.names.inputs
    system.start("second")
    system.start("first")
    for number in range(3):
        system.send_in_transaction(*story(number, 10), topic=topic)
        system.send_in_transaction(*story(100 + number, 10), topic=topic, abort=True)
        system.send(*story(10 + number, 10), topic=topic)
    system.send_in_transaction(*story(20, 10), topic=topic)
    system.settle()
    state = system.state()
    check(state)
    assert len(state.inputs) == 70
    assert sum(row.gaps for row in system.lanes("first") if row.lane.topic == topic) > 30


def test_a_client_at_the_end_of_a_log_of_markers_does_not_spin(kafka_system: KafkaSystem) -> None:
    system = kafka_system
    topic, _ = system.names.inputs
    system.start("second")
    member = system.start("first")
    system.send_in_transaction(*story(1, 4), topic=topic)
    system.settle()
    system.run(3.0)
    assert member.log().count("lane assigned again") <= 4


def feed_until_stopped(system: KafkaSystem, member: StageProcess) -> None:
    """Like feed_until_dead, for a process that a sabotage stops."""
    for number in range(400):
        if member.is_stopped:
            return
        system.send(*story(0, 8, name=f"feed{number}"))
        system.run(0.05)
    raise AssertionError(system.logs_tail())


def limit(system: KafkaSystem, topic: str, message_bytes_max: int) -> None:
    entry = ConfigEntry(
        "max.message.bytes", str(message_bytes_max), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for answer in system.admin.incremental_alter_configs([resource]).values():
        answer.result(60)
    system.run(0.5)
