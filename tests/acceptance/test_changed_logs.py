"""Topics change under the pipeline: they grow, are created again, and lose records. These tests
have servers of their own, because that cannot be undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from deploy.local.programs import ENDPOINT, STAGES
from deploy.local.stack import Stack
from schemas.topics import GROUPS
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.records import LaneKey
from tests.acceptance.evening import evening, expect, more
from tests.support.logs import read_logs
from tests.support.stubline import BoughtOrder, Stubline, piped
from tests.support.trapped import until

PARTITIONS_AT_START = 4  # `stubline migrate` makes eight of them
FLOW = ("callbacks.received.v1", "orders.observed.v1", "orders.decided.v1", "tickets.changed.v1")
# In the sequence in which orders reach them.
READERS = [(group.name, topic) for topic in FLOW for group in GROUPS if topic in group.topics]
STOPPED = """
    select consumer_group, topic, partition, next_offset, stopped_code from runtime.lanes
    where stopped_code is not null
    order by consumer_group, topic, partition
"""


@pytest.fixture(scope="module")
def stack_of_its_own() -> Iterator[Stack]:
    with Stack.temporary() as stack:
        yield stack


@pytest.fixture(scope="module")
def stubline(
    stack_of_its_own: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stubline]:
    """Orders flow through topics as an earlier release made them."""
    with piped(
        stack_of_its_own, tmp_path_factory.mktemp("changed"), partitions=PARTITIONS_AT_START
    ) as stubline:
        yield stubline


@pytest.fixture
def broker(stubline: Stubline) -> BrokerAdmin:
    return BrokerAdmin(stubline.store.bootstrap_servers)


@pytest.fixture
def admin(stubline: Stubline) -> AdminClient:
    return AdminClient({"bootstrap.servers": stubline.store.bootstrap_servers, "log_level": 0})


def test_partitions_that_are_added_while_records_flow_are_read_from_their_first_record(
    stubline: Stubline, broker: BrokerAdmin
) -> None:
    """Each service comes back to partitions that it never had, with records in them."""
    assert {topic.partitions for topic in broker.existing(FLOW).values()} == {PARTITIONS_AT_START}
    wanted, programs = evening(stubline, orders=8), stubline.services.programs
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda stage: programs[stage].stop(), STAGES))
        migrated = pool.submit(stubline.command, "migrate")
        until("migrated", migrated.done, more(stubline, wanted))
    assert migrated.result().returncode == 0
    # A producer reads the number of a topic's partitions every ten seconds, and when it starts.
    programs[ENDPOINT].stop()
    programs[ENDPOINT].start()
    wanted += evening(stubline, orders=24)
    for stage, topic in zip(STAGES, FLOW, strict=True):
        new = [
            extent.high_watermark
            for number, extent in broker.partition_offsets(topic).items()
            if number >= PARTITIONS_AT_START
        ]
        assert any(new), f"{topic} has records in its new partitions"
        programs[stage].start()
        until_caught_up(stubline, f"stubline.{stage}", topic)
    expect(stubline, wanted)


def until_caught_up(stubline: Stubline, group: str, topic: str) -> None:
    lanes = (
        "select count(*) from runtime.lanes where consumer_group = %(group)s and topic = %(topic)s"
    )

    def is_so() -> bool:
        return (
            stubline.value(lanes, group=group, topic=topic) > PARTITIONS_AT_START
            and not stubline.store.stages()[group].lag
        )

    until(f"{group} caught up with {topic}", is_so)


def test_topics_that_were_deleted_and_created_again_stop_their_lanes_until_an_operator_accepts_them(
    stubline: Stubline, broker: BrokerAdmin, admin: AdminClient
) -> None:
    """All topics of the stream at once. Stage after stage stops, and goes on where the new topic
    begins.
    """
    before = evening(stubline, orders=12)
    expect(stubline, before)
    for answer in admin.delete_topics(list(FLOW)).values():
        answer.result(60)
    until("the topics are deleted", lambda: not broker.existing(FLOW))
    assert stubline.command("migrate").returncode == 0
    wanted = evening(stubline, orders=12)
    for group, topic in READERS:
        until_stopped(stubline, group, topic, "lane-topic-recreated")
        accepted = stubline.command("lanes", "accept-topic", group, topic)
        assert accepted.returncode == 0, accepted.stderr
    expect(stubline, before + wanted, incomplete_topics=FLOW)


def test_what_retention_took_and_a_later_snapshot_repeats_is_not_missed_once_an_operator_skips_it(
    stubline: Stubline, broker: BrokerAdmin, admin: AdminClient
) -> None:
    """Each service stands still in turn while one order goes on. Of what it has not read, only the
    last record stays.
    """
    order, (skipped,) = (
        stubline.paid_order(2),
        stubline.rows("select sum(gaps)::int as offsets from runtime.lanes"),
    )
    stubline.report(order)
    stubline.settle()
    for stage, unread in reversed(tuple(zip(STAGES, FLOW, strict=True))):
        stubline.services.programs[stage].stop()
        for status in ("cancelled", "completed"):
            report_until_published(stubline, broker, order, status, unread)
    forget_all_but_the_last(stubline, broker, admin, order)
    for stage in STAGES:
        stubline.services.programs[stage].start_soon()
    for group, topic in READERS:
        until_stopped(stubline, group, topic, "lane-offset-out-of-range")
    lanes, skipped_offsets = stubline.rows(STOPPED), skipped["offsets"]
    assert len(lanes) == len(READERS)
    for row in lanes:
        lane = row["consumer_group"], row["topic"], row["partition"]
        skipped_offsets += (
            broker.partition_offsets(row["topic"])[row["partition"]].low_watermark
            - row["next_offset"]
        )
        done = stubline.command("lanes", "skip", *lane, "--reason", "retention took them")
        assert done.returncode == 0, done.stderr
    expect(stubline, [(order, 2)], incomplete_topics=FLOW, skipped_offsets=skipped_offsets)
    assert skipped_offsets > skipped["offsets"]


def until_stopped(stubline: Stubline, group: str, topic: str, code: str) -> None:
    """Wait until lanes of the group at that topic are stopped, and with that code alone."""

    def codes() -> set[str]:
        lanes = [
            row
            for row in stubline.rows(STOPPED)
            if (row["consumer_group"], row["topic"]) == (group, topic)
        ]
        return {lane["stopped_code"] for lane in lanes}

    until(f"{group} stops at {topic}", lambda: codes() == {code})


def report_until_published(
    stubline: Stubline, broker: BrokerAdmin, order: BoughtOrder, status: str, topic: str
) -> None:
    high = end_of(broker, topic)
    stubline.report(order, status)
    until(f"{topic} has {status}", lambda: end_of(broker, topic) > high)


def end_of(broker: BrokerAdmin, topic: str) -> int:
    return sum(extent.high_watermark for extent in broker.partition_offsets(topic).values())


def forget_all_but_the_last(
    stubline: Stubline, broker: BrokerAdmin, admin: AdminClient, order: BoughtOrder
) -> None:
    """Delete the records of the order's partitions, but for the last of each."""
    logs = read_logs(stubline.store.bootstrap_servers, FLOW)
    lanes = {
        LaneKey(record.topic, record.partition)
        for log in logs.values()
        for record in log
        if record.key == order.order_id.encode()
    }
    assert {lane.topic for lane in lanes} == set(FLOW)
    ends = [
        TopicPartition(
            *lane, broker.partition_offsets(lane.topic)[lane.partition].high_watermark - 1
        )
        for lane in lanes
    ]
    for answer in admin.delete_records(ends).values():
        answer.result(60)
