"""Scenarios of model/README.md that random runs hardly ever reach: each is played once, step by
step.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.envelope import Output
from services.runtime.records import Effect, LaneKey, Outcome
from services.runtime.service import Service
from services.runtime.testing import FakeSession
from tests.protocol.simulation.pair import FIRST, SECOND, parse_input
from tests.protocol.simulation.test_random_faults import check
from tests.protocol.simulation.world import Process, World

LANE = LaneKey("a.v1", 0)


def world_with(records: int) -> World:
    world = World(seed=0)
    for number in range(records):
        send(world, f"id{number} k1")
    return world


def send(world: World, text: str) -> None:
    world.sent.append(text)
    world.broker.append(
        Output(LANE.topic, b"k1", text.encode(), [("source", b"\0\xff")]), LANE.partition
    )


def step_until_acquired(process: Process) -> None:
    for _ in range(10):
        process.worker.step()
    assert process.worker.assignment.lanes[LANE].epoch > 0


def an_old_owner_may_not_overwrite_what_a_rewind_brought_back() -> None:
    """mut-no-epoch: a rewind makes its next_offset match again, and only the epoch shows that it
    is not the owner.
    """
    world = world_with(0)
    (old,) = world.processes["first"]
    step_until_acquired(old)
    old.paused_until = float("inf")
    world.clock.sleep(10.0)
    new = world.process(FIRST)
    world.processes["first"].append(new)
    world.broker.holds_requests = True
    send(world, "id0 k1")
    for _ in range(10):
        new.worker.step()
    assert world.database.rows["first", LANE].next_offset == 1
    world.processes["first"].remove(new)  # dies; what it produced never arrives
    world.broker.in_flight.clear()
    world.database.move("first", LANE, 0)
    world.broker.holds_requests = False
    world.heal()
    world.settle()
    check(world)


def test_an_old_owner_may_not_overwrite_what_a_rewind_brought_back() -> None:
    an_old_owner_may_not_overwrite_what_a_rewind_brought_back()


def a_client_that_jumped_to_the_end_is_detected_though_no_record_comes() -> None:
    """mut-no-lag-check: no record comes that could show the gap."""
    world = world_with(1)
    world.settle()
    (process,) = world.processes["first"]
    process.client.jump(LANE, 3)
    send(world, "id1 k1")
    send(world, "id2 k1")
    world.settle()
    check(world)


def test_a_client_that_jumped_to_the_end_is_detected_though_no_record_comes() -> None:
    a_client_that_jumped_to_the_end_is_detected_though_no_record_comes()


def a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag() -> None:
    """As librdkafka was seen to do after its broker had restarted: assigned, ready, silent, and
    with a lag of 0 by its own count.
    """
    world = world_with(1)
    world.settle()
    (process,) = world.processes["first"]
    process.client.stop_fetching_of(LANE)
    send(world, "id1 k1")
    send(world, "id2 k1")
    assert process.client.ends(LANE) == (0, 1)
    world.settle()
    check(world)


def test_a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag() -> None:
    a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag()


def an_idle_owner_detects_a_rewind() -> None:
    """mut-no-idle-check."""
    world = world_with(3)
    world.settle()
    world.database.move("first", LANE, 1)
    world.settle()
    check(world)
    row = world.database.rows["first", LANE]
    assert (row.effects, row.duplicates, row.rewound) == (3, 2, 2)


def test_an_idle_owner_detects_a_rewind() -> None:
    an_idle_owner_detects_a_rewind()


def a_replayed_dead_letter_has_one_effect_however_many_copies_arrive() -> None:
    """replay-no-guard: the handler below would count every copy."""

    def handle(events: Sequence[tuple[str, str]], session: FakeSession) -> list[Outcome]:
        if not session.tables.get("fixed"):
            raise RuntimeError("a bad release")
        session.tables["worked"] = session.tables.get("worked", 0) + len(events)
        return [Effect() for _ in events]

    world = world_with(1)
    world.processes = {
        "first": [world.process(Service("first", FIRST.topics, parse_input, handle))],
        "second": [],
    }
    world.processes["second"].append(world.process(SECOND))
    world.settle()
    (dead_letter,) = world.database.dead_letters.values()
    assert dead_letter.state == "open"
    world.database.tables["fixed"] = True
    dead_letter.state = "requested"
    world.broker.holds_requests = True
    for _ in range(60):
        world.step()
    world.broker.land(copies=2)
    world.settle()
    (copy, _) = world.broker.records(FIRST.replay_topic)
    world.broker.append(
        Output(copy.topic, copy.key, copy.value, copy.headers)
    )  # of a zombie, long after
    world.settle()
    assert next(iter(world.database.dead_letters.values())).state == "resolved"
    assert world.database.tables["worked"] == 1
    replays = world.database.rows["first", LaneKey(FIRST.replay_topic, 0)]
    assert (replays.effects, replays.duplicates) == (1, 2)


def test_a_replayed_dead_letter_has_one_effect_however_many_copies_arrive() -> None:
    a_replayed_dead_letter_has_one_effect_however_many_copies_arrive()


def test_a_hole_is_stepped_over_and_counted() -> None:
    """Transaction markers and compaction leave offsets without a record."""
    world = world_with(2)
    world.broker.append_marker(LANE)
    send(world, "id2 k1")
    world.settle()
    check(world)
    assert world.database.rows["first", LANE].gaps == 1
