"""Laws under faults that only the system in memory can produce at will: delayed outputs, clients
that jump, rows that move.
"""

from __future__ import annotations

import pytest

from schemas.envelope import Output
from services.runtime.errors import BrokerUnavailable, ConsumerFailed, OutcomesMismatch, TickFailed
from services.runtime.loop import commit
from services.runtime.ports import DeliveryCallback, FetchResult
from services.runtime.records import LaneKey
from services.runtime.testing.lane_store import ConflictError, FakeTransaction
from tests.protocol.laws.fake_system import FakeMember, FakeSystem
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.system import SESSION_S, lane, start_both_stages, story, wait_until_owned
from tests.protocol.laws.test_lane_laws import FIXED, dead_lettered
from tests.protocol.patching import replace_rule
from tests.protocol.toy.events import ToyInput
from tests.protocol.toy.memory import MemoryStore
from tests.protocol.toy.names import NAMES
from tests.protocol.toy.rules import First
from tests.protocol.toy.service import Release

A, B = NAMES.inputs
TICKING_FIXED = Release(is_fixed=True, ticks=True)


def test_what_is_not_acknowledged_is_neither_overwritten_nor_emptied(
    fake_system: FakeSystem,
) -> None:
    """The owner waits, and so does the next one with the outputs of its row; then both are killed,
    twice.
    """
    system = fake_system
    system.start("second")
    for number in range(2):
        owner = system.start("first")
        wait_until_owned(system, owner)
        system.broker.holds_requests = True
        system.send(*story(number, 20))
        system.run(0.2)
        at = {row.lane: row.next_offset for row in system.lanes("first")}
        system.send(*story(10 + number, 20))
        system.run(2.0)
        held = [row for row in system.lanes("first") if row.has_outbox]
        assert held
        assert all(row.next_offset == at[row.lane] for row in held)
        owner.kill()
        system.broker.in_flight.clear()
        next_owner = system.start("first")
        wait_until_owned(system, next_owner)
        system.send(*story(20 + number, 20))
        system.run(2.0)
        next_owner.kill()
        system.broker.in_flight.clear()
        system.broker.holds_requests = False
    system.start("first")
    system.settle()
    check(system.state())


def test_a_failed_delivery_is_repeated(fake_system: FakeSystem) -> None:
    system = fake_system
    system.start("second")
    system.start("first")
    system.broker.refusals = [BrokerUnavailable("timed out") for _ in range(6)]
    system.send(*story(1, 60))
    system.settle()
    assert not system.broker.refusals
    check(system.state())


def test_a_commit_whose_response_is_lost_counts_once(fake_system: FakeSystem) -> None:
    system = fake_system
    system.start("second")
    system.start("first")
    for number in range(4):
        system.database.answers_lost = 1
        system.send(*story(number, 20))
        system.run(0.3)
        system.database.commits_refused = 1
        system.send(*story(10 + number, 20))
        system.run(0.3)
    system.settle()
    assert not system.dead_letters()
    check(system.state())


def test_outputs_that_arrive_late_and_twice_revive_nothing(fake_system: FakeSystem) -> None:
    """A dead owner's copy of `release` arrives when the cancellation has long been read."""
    system = fake_system
    owner = start_both_stages(system)
    system.broker.holds_requests = True
    system.send(ToyInput("1", "k", "add", "c1"), ToyInput("2", "k", "release"), *story(1, 20))
    system.run(0.5)
    late, system.broker.in_flight = system.broker.in_flight, []
    owner.kill()
    system.broker.holds_requests = False
    system.start("first")
    system.settle()
    assert system.state().seconds["k"].active == 1
    system.send(ToyInput("3", "k", "cancel"))
    system.settle()
    system.add_partitions(4)  # the late copies arrive in lanes that never saw the key
    system.broker.in_flight = late
    system.broker.land(copies=2)
    system.settle()
    state = system.state()
    check(state)
    assert (state.seconds["k"].state, state.seconds["k"].active) == ("cancelled", 0)


def test_a_key_that_goes_straight_to_its_end_leaves_what_the_long_way_leaves(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    system.start("second")
    system.send(
        ToyInput("1", "straight", "add", "c1"),
        ToyInput("2", "straight", "release"),
        ToyInput("3", "straight", "cancel"),
    )
    system.start("first")
    system.settle()
    for each in (
        ToyInput("4", "long", "add", "c1"),
        ToyInput("5", "long", "release"),
        ToyInput("6", "long", "cancel"),
    ):
        system.send(each)
        system.settle()
    state = system.state()
    check(state)
    straight, long = state.seconds["straight"], state.seconds["long"]
    assert (straight.state, straight.children) == (long.state, long.children) == ("cancelled", ())
    assert straight.first_sequence < long.first_sequence


def test_a_lane_that_is_fenced_takes_its_records_out_of_a_joint_batch_and_no_others(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    start_both_stages(system)
    for number in range(3):
        system.send(*story(number, 10), topic=A, partition=0)
        system.send(*story(10 + number, 10), topic=B, partition=0)
        system.rewind(
            "first", LaneKey(A, 0), lane(system, "first", A).next_offset
        )  # where it is: only the epoch rises
        system.run(0.5)
    system.settle()
    check(system.state())


def test_a_lane_whose_acknowledgements_are_late_is_paused_and_the_others_go_on(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    member = start_both_stages(system)
    delayed = delay(member, b"slow")
    system.send(ToyInput("slow-1", "slow", "add", "c1"), topic=A, partition=0)
    system.run(0.2)
    system.send(ToyInput("slow-2", "slow", "add", "c2"), topic=A, partition=0)
    system.send(*story(1, 40), topic=B)
    system.run(2.0)
    assert member.worker.assignment.lanes[LaneKey(A, 0)].paused_for_acks
    assert len(system.state().inputs) == 41
    for output, on_delivery in delayed:
        system.broker.append(output)
        on_delivery(None)
    system.settle()
    check(system.state())


def delay(member: FakeMember, key: bytes) -> list[tuple[Output, DeliveryCallback]]:
    """Delay the first output of this key until the test delivers it."""
    delayed: list[tuple[Output, DeliveryCallback]] = []
    produce = member.client.produce

    def delaying(output: Output, on_delivery: DeliveryCallback) -> None:
        if output.key == key:
            delayed.append((output, on_delivery))
            member.client.produce = produce  # type: ignore[method-assign]  # the others go through
        else:
            produce(output, on_delivery)

    member.client.produce = delaying  # type: ignore[method-assign]  # one member's own client
    return delayed


def test_a_batch_whose_outputs_are_too_large_together_is_committed_in_parts(
    fake_system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "BATCH_BYTES_MAX", 5_000)
    system = fake_system
    system.send(*story(1, 300, keys=100))
    system.start("second")
    system.start("first")
    system.settle()
    assert not system.dead_letters()
    check(system.state())


def test_a_handler_that_loses_count_ends_the_process_before_anything_is_committed(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    system.send(*story(1, 5), ToyInput("uncounted", "k", "note", poison="uncounted"))
    system.start("first")
    with pytest.raises(OutcomesMismatch):
        system.run(2.0)
    assert not system.state().inputs


@pytest.mark.parametrize("when", ["at work", "during an outage"])
def test_a_client_that_never_fetches_again_ends_its_process_and_the_next_one_goes_on(
    fake_system: FakeSystem, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The client reports it only once, at any fetch."""
    system = fake_system
    member = start_both_stages(system)
    system.send(*story(1, 20))
    system.run(0.1)
    if when != "at work":
        system.database.is_unavailable = True
        system.until("it backs off", lambda: len(member.telemetry.failures) > 2)
    errors = iter([ConsumerFailed("group authorization failed")])
    fetch = member.client.fetch

    def failing(_records_max: int, timeout_s: float) -> FetchResult:
        for error in errors:
            raise error
        return fetch(0, timeout_s)

    monkeypatch.setattr(member.client, "fetch", failing)
    with pytest.raises(ConsumerFailed):
        system.run(2.0)
    system.database.is_unavailable = False
    member.kill()
    system.start("first")
    system.send(*story(2, 20))
    system.settle()
    check(system.state())


def test_a_row_that_moves_under_an_idle_owner_is_detected(fake_system: FakeSystem) -> None:
    system = fake_system
    system.start("second")
    system.start("first")
    system.send(*story(1, 20), topic=A, partition=0)
    system.settle()
    system.rewind("first", LaneKey(A, 0), 7)
    system.run(SESSION_S / 3)
    assert lane(system, "first", A).next_offset == 20
    check(system.state())


def test_a_resolved_dead_letter_stays_resolved_whatever_becomes_of_its_copies(
    fake_system: FakeSystem,
) -> None:
    """The second copy meets a release on which it would fail."""
    system = fake_system
    system.request_replays(dead_lettered(system, 6))
    system.settle()
    assert {dead_letter.state for dead_letter in system.dead_letters()} == {"resolved"}
    system.members[-1].kill()
    system.start("first", release=Release())
    system.rewind("first", LaneKey(NAMES.replay["first"], 0), 0)
    system.settle()
    assert {dead_letter.state for dead_letter in system.dead_letters()} == {"resolved"}
    check(system.state())


def test_a_dead_letter_that_was_discarded_meanwhile_is_not_worked(fake_system: FakeSystem) -> None:
    """Its copy was on the way when the operator discarded it."""
    system = fake_system
    dead_letters = dead_lettered(system, 4, then=None)
    wait_until_owned(system, system.start("first", release=FIXED))
    system.broker.holds_requests = True
    system.request_replays(dead_letters)
    system.until("they are on their way", lambda: len(system.broker.in_flight) == 4)
    for dead_letter in dead_letters:
        system.database.dead_letters[dead_letter].state = "discarded"
    system.broker.holds_requests = False
    system.broker.land()
    system.settle()
    assert not system.state().inputs
    assert lane(system, "first", NAMES.replay["first"]).duplicates == 4
    check(system.state())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_replay_survives_the_death_of_the_process_that_publishes_it(
    fake_system: FakeSystem, point: str
) -> None:
    system = fake_system
    system.request_replays(dead_lettered(system, 6, then=None))
    victim = system.start("first", release=FIXED, at=f"{point}:kill:1")
    system.until("its end", lambda: not victim.is_alive)
    system.start("first", release=FIXED)
    system.settle()
    state = system.state()
    check(state)
    assert len(state.inputs) == 6


def test_a_long_replay_delays_no_tick(fake_system: FakeSystem) -> None:
    """Slices of replays and ticks alternate."""
    system = fake_system
    dead_letters = dead_lettered(system, 40, then=None)
    wait_until_owned(
        system, system.start("first", release=TICKING_FIXED, replay_dead_letters_max=1)
    )
    system.request_replays(dead_letters)
    system.send(ToyInput("due", "due-key", "later"))
    system.until(
        "it is due", lambda: system.database.tables["firsts"].get("due-key", First("")).is_due
    )
    system.until("it is worked", lambda: not system.database.tables["firsts"]["due-key"].is_due)
    assert (
        sum(row.state == "requested" for row in system.database.dead_letters.values())
        > len(dead_letters) / 2
    )
    system.settle()
    assert {dead_letter.state for dead_letter in system.dead_letters()} == {"resolved"}
    check(system.state())


def test_a_replay_that_raises_stops_neither_records_nor_ticks(
    fake_system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_self: FakeTransaction, _dead_letters_max: int, _bytes_max: int) -> None:
        raise AttributeError("a defect")

    system = fake_system
    requested = dead_lettered(system, 6, then=None)
    member = system.start("first", release=TICKING_FIXED)
    wait_until_owned(system, member)
    with monkeypatch.context() as broken:
        replace_rule(broken, FakeTransaction, FakeTransaction.take_replay_requests, failing)
        system.request_replays(requested)
        system.send(*story(1, 20), ToyInput("due", "due-key", "later"))
        system.run(2.5)
        assert {type(failure) for failure in member.telemetry.failures} == {TickFailed}
        assert member.telemetry.readiness == [(True, "")]
        state = system.state()
        assert (len(state.inputs), state.firsts["due-key"].state) == (21, "released")
    system.settle()
    assert {dead_letter.state for dead_letter in system.dead_letters()} == {"resolved"}
    check(system.state())


def test_a_tick_that_raises_stops_no_replay(
    fake_system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fake_system
    dead_letters = dead_lettered(system, 6, then=None)
    replace_rule(monkeypatch, MemoryStore, MemoryStore.lock_due, None)
    member = system.start("first", release=TICKING_FIXED, replay_dead_letters_max=1)
    wait_until_owned(system, member)
    system.run(0.5)
    assert {type(failure) for failure in member.telemetry.failures} == {TickFailed}
    system.request_replays(dead_letters)
    system.run(0.5)  # half of what a tick that failed waits
    assert {dead_letter.state for dead_letter in system.dead_letters()} == {"resolved"}
    system.settle()
    check(system.state())


def test_a_tick_that_lasts_too_long_stops_no_record(
    fake_system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(_store: MemoryStore) -> None:
        raise ConflictError

    replace_rule(monkeypatch, MemoryStore, MemoryStore.lock_due, too_long)
    system = fake_system
    member = system.start("first", release=TICKING_FIXED)
    wait_until_owned(system, member)
    system.send(*story(1, 20))
    system.run(2.5)
    assert {type(failure) for failure in member.telemetry.failures} == {TickFailed}
    assert member.telemetry.readiness == [(True, "")]
    assert len(system.state().inputs) == 20


def test_a_topic_that_is_refused_is_reported_until_it_is_allowed_and_the_others_go_on(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    member = start_both_stages(system)
    system.broker.forbidden.add(A)
    system.send(*story(1, 20), topic=A)
    system.send(*story(2, 20), topic=B)
    system.run(3.0)
    assert len(system.state().inputs) == 20
    assert member.telemetry.readiness == [(True, ""), (False, "input-refused")]
    assert len(member.telemetry.failures) == 1  # reported once, however often it is checked
    system.broker.forbidden.clear()
    system.settle()
    system.run(1.0)
    assert member.telemetry.readiness[2:] == [(True, "")]
    check(system.state())


def test_a_refused_topic_that_is_allowed_again_and_has_no_records_is_no_matter(
    fake_system: FakeSystem,
) -> None:
    """Only another assignment can show it."""
    system = fake_system
    member = system.start("first")
    wait_until_owned(system, member)
    for _ in range(2):
        system.broker.forbidden.add(A)
        member.client.start_at(LaneKey(A, 0), 0)
        system.run(3.0)
        system.broker.forbidden.clear()
        system.run(3.0)
    assert member.telemetry.readiness == [(True, ""), *[(False, "input-refused"), (True, "")] * 2]


def test_a_group_that_is_refused_is_reported_until_it_is_allowed(fake_system: FakeSystem) -> None:
    system = fake_system
    system.broker.forbidden.add(NAMES.groups["first"])
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 20))
    system.run(3.0)
    assert member.telemetry.readiness == [(False, "input-refused")]
    system.broker.forbidden.clear()
    system.settle()
    assert member.telemetry.readiness[1:] == [(True, "")]
    check(system.state())


def test_a_topic_that_does_not_exist_is_reported_until_it_does(fake_system: FakeSystem) -> None:
    system = fake_system
    system.broker.delete_topic(B)
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 20), topic=A)
    system.run(3.0)
    assert len(system.state().inputs) == 20
    assert member.telemetry.readiness == [(True, ""), (False, "input-missing")]
    assert str(member.telemetry.failures[0]).startswith(f"input-missing: {B}.")
    system.broker.create_topic(B)
    system.send(*story(2, 20), topic=B)
    system.settle()
    system.run(1.0)
    assert member.telemetry.readiness[2:] == [(True, "")]
    check(system.state())


def test_what_was_prepared_before_a_lane_was_lost_is_never_committed(
    fake_system: FakeSystem,
) -> None:
    """Another worked it meanwhile. The lane comes back to the same process, under another epoch."""
    system = fake_system
    member = start_both_stages(system, batch_bytes_max=2**20)
    large = [ToyInput(f"{n}", "k", "add", f"c{n}", amount=1, note="x" * 300_000) for n in range(12)]
    system.send(*large, topic=A, partition=1)
    mine = member.worker.assignment.lanes[LaneKey(A, 1)]
    system.until("records stand prepared", lambda: bool(mine.prepared))
    rival = system.start("first")
    member.pause()
    rival.step()
    member.resume()
    wait_until_owned(system, member, rival)
    system.settle()
    assert rival.stop() == 0
    wait_until_owned(system, member)
    system.send(*story(1, 20), topic=A, partition=1)
    system.settle()
    check(system.state())
