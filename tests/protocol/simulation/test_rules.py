"""Scenarios of model/README.md that random runs hardly ever reach: each is played once, step by
step.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.envelope import Output
from services.runtime.records import Effect, LaneKey, Outcome
from services.runtime.service import Service
from services.runtime.testing import FakeSession
from tests.protocol.simulation.simulation import SimulatedProcess, Simulation
from tests.protocol.simulation.test_random_faults import check
from tests.protocol.simulation.two_stages import FIRST, SECOND, parse_input

LANE = LaneKey("a.v1", 0)


def simulation_with(records: int) -> Simulation:
    simulation = Simulation(seed=0)
    for number in range(records):
        send(simulation, f"id{number} k1")
    return simulation


def send(simulation: Simulation, text: str) -> None:
    simulation.sent.append(text)
    simulation.broker.append(
        Output(LANE.topic, b"k1", text.encode(), [("source", b"\0\xff")]), LANE.partition
    )


def step_until_acquired(process: SimulatedProcess) -> None:
    for _ in range(10):
        process.worker.step()
    assert process.worker.assignment.lanes[LANE].epoch > 0


def an_old_owner_may_not_overwrite_what_a_rewind_brought_back() -> None:
    """mut-no-epoch: a rewind makes its next_offset match again, and only the epoch shows that it
    is not the owner.
    """
    simulation = simulation_with(0)
    (old,) = simulation.processes["first"]
    step_until_acquired(old)
    old.paused_until = float("inf")
    simulation.clock.sleep(10.0)
    new = simulation.process(FIRST)
    simulation.processes["first"].append(new)
    simulation.broker.holds_requests = True
    send(simulation, "id0 k1")
    for _ in range(10):
        new.worker.step()
    assert simulation.database.rows["first", LANE].next_offset == 1
    simulation.processes["first"].remove(new)  # dies; what it produced never arrives
    simulation.broker.in_flight.clear()
    simulation.database.move("first", LANE, 0)
    simulation.broker.holds_requests = False
    simulation.heal()
    simulation.settle()
    check(simulation)


def test_an_old_owner_may_not_overwrite_what_a_rewind_brought_back() -> None:
    an_old_owner_may_not_overwrite_what_a_rewind_brought_back()


def a_client_that_jumped_to_the_end_is_detected_though_no_record_comes() -> None:
    """mut-no-lag-check: no record comes that could show the gap."""
    simulation = simulation_with(1)
    simulation.settle()
    (process,) = simulation.processes["first"]
    process.client.jump(LANE, 3)
    send(simulation, "id1 k1")
    send(simulation, "id2 k1")
    simulation.settle()
    check(simulation)


def test_a_client_that_jumped_to_the_end_is_detected_though_no_record_comes() -> None:
    a_client_that_jumped_to_the_end_is_detected_though_no_record_comes()


def a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag() -> None:
    """As librdkafka was seen to do after its broker had restarted: assigned, ready, silent, and
    with a lag of 0 by its own count.
    """
    simulation = simulation_with(1)
    simulation.settle()
    (process,) = simulation.processes["first"]
    process.client.stop_fetching_of(LANE)
    send(simulation, "id1 k1")
    send(simulation, "id2 k1")
    assert process.client.ends(LANE) == (0, 1)
    simulation.settle()
    check(simulation)


def test_a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag() -> None:
    a_client_that_stopped_fetching_is_detected_though_it_sees_no_lag()


def an_idle_owner_detects_a_rewind() -> None:
    """mut-no-idle-check."""
    simulation = simulation_with(3)
    simulation.settle()
    simulation.database.move("first", LANE, 1)
    simulation.settle()
    check(simulation)
    row = simulation.database.rows["first", LANE]
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

    simulation = simulation_with(1)
    simulation.processes = {
        "first": [simulation.process(Service("first", FIRST.topics, parse_input, handle))],
        "second": [],
    }
    simulation.processes["second"].append(simulation.process(SECOND))
    simulation.settle()
    (dead_letter,) = simulation.database.dead_letters.values()
    assert dead_letter.state == "open"
    simulation.database.tables["fixed"] = True
    dead_letter.state = "requested"
    simulation.broker.holds_requests = True
    for _ in range(60):
        simulation.step()
    simulation.broker.land(copies=2)
    simulation.settle()
    (copy, _) = simulation.broker.records(FIRST.replay_topic)
    simulation.broker.append(
        Output(copy.topic, copy.key, copy.value, copy.headers)
    )  # of a zombie, long after
    simulation.settle()
    assert next(iter(simulation.database.dead_letters.values())).state == "resolved"
    assert simulation.database.tables["worked"] == 1
    replays = simulation.database.rows["first", LaneKey(FIRST.replay_topic, 0)]
    assert (replays.effects, replays.duplicates) == (1, 2)


def test_a_replayed_dead_letter_has_one_effect_however_many_copies_arrive() -> None:
    a_replayed_dead_letter_has_one_effect_however_many_copies_arrive()


def test_an_offset_gap_is_skipped_and_counted() -> None:
    """Transaction markers and compaction leave offsets without a record."""
    simulation = simulation_with(2)
    simulation.broker.append_marker(LANE)
    send(simulation, "id2 k1")
    simulation.settle()
    check(simulation)
    assert simulation.database.rows["first", LANE].gaps == 1
