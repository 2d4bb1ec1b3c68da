"""Laws of the client's input, in memory: clients that jump, offset gaps, ends of partitions,
batches that cannot be unpacked.
"""

from __future__ import annotations

import pytest

from services.runtime.errors import RecordUnreadable
from services.runtime.records import LaneKey
from tests.protocol.laws.fake_system import FakeMember, FakeSystem
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.system import lane, start_both_stages, story
from tests.protocol.toy.names import NAMES

A, B = NAMES.inputs


@pytest.mark.parametrize("where", ["back", "ahead", "end"])
def test_a_client_that_reads_on_elsewhere_skips_and_repeats_nothing(
    fake_system: FakeSystem, where: str
) -> None:
    system = fake_system
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 20), topic=A, partition=0)
    system.settle()
    member.pause()
    system.send(*story(2, 20), topic=A, partition=0)
    member.client.jump(LaneKey(A, 0), {"back": 5, "ahead": 30, "end": 40}[where])
    member.resume()
    system.run(1.0)
    more = 0 if where == "end" else 10  # at the end no record comes that could show the gap
    system.send(*story(3, more), topic=A, partition=0)
    system.settle()
    state = system.state()
    check(state)
    assert (lane(system, "first", A).effects, lane(system, "first", A).gaps) == (40 + more, 0)


def test_a_client_that_begins_elsewhere_after_one_assignment_skips_nothing(
    fake_system: FakeSystem,
) -> None:
    """An offset gap is accepted only when two assignments in a row meet it: seen under load."""
    system = fake_system
    system.start("second")
    system.send(*story(1, 20), topic=A, partition=0)
    member = system.start("first")
    start_at = member.client.start_at

    def elsewhere(lane: LaneKey, offset: int) -> None:
        start_at(lane, offset)
        if lane == LaneKey(A, 0):
            member.client.jump(lane, 10)
            member.client.start_at = start_at  # type: ignore[method-assign]  # the next one is where it should be

    member.client.start_at = elsewhere  # type: ignore[method-assign]  # of one member's own client
    system.settle()
    check(system.state())
    assert (lane(system, "first", A).effects, lane(system, "first", A).gaps) == (20, 0)


def test_offset_gaps_are_skipped_and_counted(fake_system: FakeSystem) -> None:
    system = fake_system
    system.start("second")
    member = system.start("first")
    for number in range(4):
        system.send(*story(number, 5), topic=A, partition=0)
        for _ in range(number):
            system.broker.append_marker(LaneKey(A, 0))
    system.settle()
    system.run(3.0)
    check(system.state())
    row = lane(system, "first", A)
    assert (row.effects, row.gaps) == (
        20,
        6,
    )  # the last three too, though no record follows them
    assert row.next_offset == 26
    assert member.is_alive


def test_a_marker_after_each_record_costs_one_more_assignment_a_fetch_and_not_one_a_record(
    fake_system: FakeSystem,
) -> None:
    """A transactional producer of one order a transaction."""
    system = fake_system
    for record in story(1, 200, keys=20):
        system.send(record, topic=A, partition=0)
        system.broker.append_marker(LaneKey(A, 0))
    system.start("second")
    member = system.start("first")
    starts = watched_starts(member, LaneKey(A, 0))
    system.settle()
    system.run(3.0)
    check(system.state())
    row = lane(system, "first", A)
    assert (row.effects, row.gaps, row.next_offset) == (200, 200, 400)
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


def test_a_lane_that_is_paused_for_acks_after_it_met_the_end_skips_no_record(
    fake_system: FakeSystem,
) -> None:
    """A trailing gap proves nothing about records that are read again."""
    system = fake_system
    system.start("second")
    member = system.start("first", acknowledgement_wait_ms=50)
    system.send(*story(1, 5), topic=A, partition=0)
    system.settle()
    system.broker.holds_requests = True
    system.send(*story(2, 5), topic=A, partition=0)
    system.run(0.2)
    system.send(*story(3, 5), topic=A, partition=0)
    system.broker.append_marker(LaneKey(A, 0))
    system.run(3.0)
    system.broker.holds_requests = False
    system.broker.land()
    system.settle()
    system.run(3.0)
    check(system.state())
    row = lane(system, "first", A)
    assert (row.effects, row.gaps, member.is_alive) == (15, 1, True)


def test_a_batch_that_the_client_cannot_unpack_stops_its_lane_and_its_end_is_reported(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    member = start_both_stages(system)
    key = LaneKey(A, 0)
    system.send(*story(1, 10), topic=A, partition=0)
    system.send(*story(2, 10), topic=A, partition=1)
    system.broker.unreadable[key] = (5, 8)
    system.until("the lane stops", lambda: lane(system, "first", A).stopped_code is not None)
    row = lane(system, "first", A)
    assert (row.stopped_code, row.next_offset, row.effects) == (RecordUnreadable.code, 5, 5)
    assert lane(system, "first", A, 1).effects == 10
    assert member.telemetry.readiness[-1] == (False, f"{RecordUnreadable.code}: {A} 0")
    assert "go on at 8" in member.telemetry.stops[key]
    system.database.move(NAMES.groups["first"], key, 8)
    system.run(3.0)
    row = lane(system, "first", A)
    assert (row.effects, row.gaps, row.conservation_gap) == (7, 3, 0)
    assert member.telemetry.readiness[-1] == (True, "")


def test_a_batch_that_is_damaged_on_the_way_once_stops_no_lane(fake_system: FakeSystem) -> None:
    system = fake_system
    start_both_stages(system)
    system.send(*story(1, 10), topic=A, partition=0)
    system.broker.unreadable[LaneKey(A, 0)] = (5, 8)
    system.until("it is read so far", lambda: lane(system, "first", A).next_offset == 5)
    del system.broker.unreadable[LaneKey(A, 0)]
    system.settle()
    check(system.state())
    assert lane(system, "first", A).effects == 10


def test_a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 5), topic=A, partition=0)
    system.settle()
    member.client.stop_fetching_of(LaneKey(A, 0))
    system.send(*story(2, 5), topic=A, partition=0)
    system.settle()
    check(system.state())
    assert lane(system, "first", A).effects == 10
