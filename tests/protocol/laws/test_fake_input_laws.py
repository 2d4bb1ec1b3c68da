"""Laws of the client's input, in memory: clients that jump, holes, ends of partitions, batches that
cannot be unpacked.
"""

from __future__ import annotations

import pytest

from services.runtime.errors import RecordUnreadable
from services.runtime.records import LaneKey
from tests.protocol.laws.fake_world import FakeMember, FakeWorld
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.world import lane, start_both_stages, story
from tests.protocol.toy.names import NAMES

A, B = NAMES.inputs


@pytest.mark.parametrize("where", ["back", "ahead", "end"])
def test_a_client_that_reads_on_elsewhere_skips_and_repeats_nothing(
    fake_world: FakeWorld, where: str
) -> None:
    world = fake_world
    world.start("second")
    member = world.start("first")
    world.send(*story(1, 20), topic=A, partition=0)
    world.settle()
    member.pause()
    world.send(*story(2, 20), topic=A, partition=0)
    member.client.jump(LaneKey(A, 0), {"back": 5, "ahead": 30, "end": 40}[where])
    member.resume()
    world.run(1.0)
    more = 0 if where == "end" else 10  # at the end no record comes that could show the gap
    world.send(*story(3, more), topic=A, partition=0)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert (lane(world, "first", A).effects, lane(world, "first", A).gaps) == (40 + more, 0)


def test_a_client_that_begins_elsewhere_after_one_assignment_skips_nothing(
    fake_world: FakeWorld,
) -> None:
    """As seen on Kafka under load: a hole is accepted when two assignments in a row meet it."""
    world = fake_world
    world.start("second")
    world.send(*story(1, 20), topic=A, partition=0)
    member = world.start("first")
    start_at = member.client.start_at

    def elsewhere(lane: LaneKey, offset: int) -> None:
        start_at(lane, offset)
        if lane == LaneKey(A, 0):
            member.client.jump(lane, 10)
            member.client.start_at = start_at  # type: ignore[method-assign]  # the next one is where it should be

    member.client.start_at = elsewhere  # type: ignore[method-assign]  # of one member's own client
    world.settle()
    check(world.evidence())
    assert (lane(world, "first", A).effects, lane(world, "first", A).gaps) == (20, 0)


def test_holes_in_a_log_are_stepped_over_and_counted(fake_world: FakeWorld) -> None:
    world = fake_world
    world.start("second")
    member = world.start("first")
    for number in range(4):
        world.send(*story(number, 5), topic=A, partition=0)
        for _ in range(number):
            world.broker.append_marker(LaneKey(A, 0))
    world.settle()
    world.run(3.0)
    check(world.evidence())
    found = lane(world, "first", A)
    assert (found.effects, found.gaps) == (
        20,
        6,
    )  # the last three too, though no record follows them
    assert found.next_offset == 26
    assert member.is_alive


def test_a_marker_after_each_record_costs_one_more_assignment_a_fetch_and_not_one_a_record(
    fake_world: FakeWorld,
) -> None:
    """A transactional producer of one order a transaction."""
    world = fake_world
    for record in story(1, 200, keys=20):
        world.send(record, topic=A, partition=0)
        world.broker.append_marker(LaneKey(A, 0))
    world.start("second")
    member = world.start("first")
    starts = watched_starts(member, LaneKey(A, 0))
    world.settle()
    world.run(3.0)
    check(world.evidence())
    found = lane(world, "first", A)
    assert (found.effects, found.gaps, found.next_offset) == (200, 200, 400)
    assert len(starts) <= 6


def watched_starts(member: FakeMember, key: LaneKey) -> list[int]:
    """The offsets at which a member's client is assigned to a lane, from now on."""
    start_at, starts = member.client.start_at, list[int]()

    def noted(lane: LaneKey, offset: int) -> None:
        if lane == key:
            starts.append(offset)
        start_at(lane, offset)

    member.client.start_at = noted  # type: ignore[method-assign]  # of one member's own client
    return starts


def test_a_lane_that_is_left_out_after_it_met_the_end_steps_over_no_record(
    fake_world: FakeWorld,
) -> None:
    """A hole at the end of the partition proves nothing about records that are read again."""
    world = fake_world
    world.start("second")
    member = world.start("first", acknowledgement_wait_ms=50)
    world.send(*story(1, 5), topic=A, partition=0)
    world.settle()
    world.broker.holds_requests = True
    world.send(*story(2, 5), topic=A, partition=0)
    world.run(0.2)
    world.send(*story(3, 5), topic=A, partition=0)
    world.broker.append_marker(LaneKey(A, 0))
    world.run(3.0)
    world.broker.holds_requests = False
    world.broker.land()
    world.settle()
    world.run(3.0)
    check(world.evidence())
    found = lane(world, "first", A)
    assert (found.effects, found.gaps, member.is_alive) == (15, 1, True)


def test_a_batch_that_the_client_cannot_unpack_stops_its_lane_and_its_end_is_reported(
    fake_world: FakeWorld,
) -> None:
    world = fake_world
    member = start_both_stages(world)
    key = LaneKey(A, 0)
    world.send(*story(1, 10), topic=A, partition=0)
    world.send(*story(2, 10), topic=A, partition=1)
    world.broker.unreadable[key] = (5, 8)
    world.until("the lane stops", lambda: lane(world, "first", A).stopped_code is not None)
    found = lane(world, "first", A)
    assert (found.stopped_code, found.next_offset, found.effects) == (RecordUnreadable.code, 5, 5)
    assert lane(world, "first", A, 1).effects == 10
    assert member.telemetry.readiness[-1] == (False, f"{RecordUnreadable.code}: {A} 0")
    assert "go on at 8" in member.telemetry.stops[key]
    world.database.move(NAMES.groups["first"], key, 8)
    world.run(3.0)
    found = lane(world, "first", A)
    assert (found.effects, found.gaps, found.conservation_gap) == (7, 3, 0)
    assert member.telemetry.readiness[-1] == (True, "")


def test_a_batch_that_is_damaged_on_the_way_once_stops_no_lane(fake_world: FakeWorld) -> None:
    world = fake_world
    start_both_stages(world)
    world.send(*story(1, 10), topic=A, partition=0)
    world.broker.unreadable[LaneKey(A, 0)] = (5, 8)
    world.until("it is read so far", lambda: lane(world, "first", A).next_offset == 5)
    del world.broker.unreadable[LaneKey(A, 0)]
    world.settle()
    check(world.evidence())
    assert lane(world, "first", A).effects == 10


def test_a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag(
    fake_world: FakeWorld,
) -> None:
    world = fake_world
    world.start("second")
    member = world.start("first")
    world.send(*story(1, 5), topic=A, partition=0)
    world.settle()
    member.client.stop_fetching_of(LaneKey(A, 0))
    world.send(*story(2, 5), topic=A, partition=0)
    world.settle()
    check(world.evidence())
    assert lane(world, "first", A).effects == 10
