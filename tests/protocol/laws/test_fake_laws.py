"""Laws under faults that only the world in memory can produce at will: delayed outputs, clients
that jump, rows that move.
"""

from __future__ import annotations

import pytest

from schemas.envelope import Output
from services.runtime.errors import BrokerUnavailable, ConsumerFailed, OutcomesMismatch, TickFailed
from services.runtime.loop import commit
from services.runtime.loop.ports import DeliveryCallback, FetchResult
from services.runtime.records import LaneKey
from services.runtime.testing.ledger import ConflictError, FakeTransaction
from tests.protocol.laws.fake_world import FakeMember, FakeWorld
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.test_lane_laws import FIXED, dead_lettered
from tests.protocol.laws.world import SESSION_S, lane, start_both_stages, story, wait_until_owned
from tests.protocol.seams import replace_rule
from tests.protocol.toy.events import Input
from tests.protocol.toy.memory import MemoryStore
from tests.protocol.toy.names import NAMES
from tests.protocol.toy.rules import First
from tests.protocol.toy.service import Release

A, B = NAMES.inputs
TICKING_MENDED = Release(is_fixed=True, ticks=True)


def test_what_is_not_acknowledged_is_neither_overwritten_nor_emptied(fake_world: FakeWorld) -> None:
    """The owner waits, and so does the next one with the outputs of its row; then both are killed,
    twice.
    """
    world = fake_world
    world.start("second")
    for number in range(2):
        owner = world.start("first")
        wait_until_owned(world, owner)
        world.broker.holds_requests = True
        world.send(*story(number, 20))
        world.run(0.2)
        at = {it.lane: it.next_offset for it in world.lanes("first")}
        world.send(*story(10 + number, 20))
        world.run(2.0)
        held = [it for it in world.lanes("first") if it.has_outbox]
        assert held
        assert all(it.next_offset == at[it.lane] for it in held)
        owner.kill()
        world.broker.in_flight.clear()
        next_owner = world.start("first")
        wait_until_owned(world, next_owner)
        world.send(*story(20 + number, 20))
        world.run(2.0)
        next_owner.kill()
        world.broker.in_flight.clear()
        world.broker.holds_requests = False
    world.start("first")
    world.settle()
    check(world.evidence())


def test_a_failed_delivery_is_repeated(fake_world: FakeWorld) -> None:
    world = fake_world
    world.start("second")
    world.start("first")
    world.broker.refusals = [BrokerUnavailable("timed out") for _ in range(6)]
    world.send(*story(1, 60))
    world.settle()
    assert not world.broker.refusals
    check(world.evidence())


def test_a_commit_whose_response_is_lost_counts_once(fake_world: FakeWorld) -> None:
    world = fake_world
    world.start("second")
    world.start("first")
    for number in range(4):
        world.database.answers_lost = 1
        world.send(*story(number, 20))
        world.run(0.3)
        world.database.commits_refused = 1
        world.send(*story(10 + number, 20))
        world.run(0.3)
    world.settle()
    assert not world.dead_letters()
    check(world.evidence())


def test_outputs_that_arrive_late_and_twice_revive_nothing(fake_world: FakeWorld) -> None:
    """A dead owner's copy of `release` arrives when the cancellation has long been read."""
    world = fake_world
    owner = start_both_stages(world)
    world.broker.holds_requests = True
    world.send(Input("1", "k", "add", "c1"), Input("2", "k", "release"), *story(1, 20))
    world.run(0.5)
    late, world.broker.in_flight = world.broker.in_flight, []
    owner.kill()
    world.broker.holds_requests = False
    world.start("first")
    world.settle()
    assert world.evidence().seconds["k"].active == 1
    world.send(Input("3", "k", "cancel"))
    world.settle()
    world.add_partitions(4)  # the late copies arrive in lanes that never saw the key
    world.broker.in_flight = late
    world.broker.land(copies=2)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert (evidence.seconds["k"].state, evidence.seconds["k"].active) == ("cancelled", 0)


def test_a_key_that_goes_straight_to_its_end_leaves_what_the_long_way_leaves(
    fake_world: FakeWorld,
) -> None:
    world = fake_world
    world.start("second")
    world.send(
        Input("1", "straight", "add", "c1"),
        Input("2", "straight", "release"),
        Input("3", "straight", "cancel"),
    )
    world.start("first")
    world.settle()
    for each in (
        Input("4", "long", "add", "c1"),
        Input("5", "long", "release"),
        Input("6", "long", "cancel"),
    ):
        world.send(each)
        world.settle()
    evidence = world.evidence()
    check(evidence)
    straight, long = evidence.seconds["straight"], evidence.seconds["long"]
    assert (straight.state, straight.children) == (long.state, long.children) == ("cancelled", ())
    assert straight.first_sequence < long.first_sequence


def test_a_lane_that_is_lost_takes_its_records_out_of_a_joint_batch_and_no_others(
    fake_world: FakeWorld,
) -> None:
    world = fake_world
    start_both_stages(world)
    for number in range(3):
        world.send(*story(number, 10), topic=A, partition=0)
        world.send(*story(10 + number, 10), topic=B, partition=0)
        world.rewind(
            "first", LaneKey(A, 0), lane(world, "first", A).next_offset
        )  # where it is: only the epoch rises
        world.run(0.5)
    world.settle()
    check(world.evidence())


def test_a_lane_whose_acknowledgements_are_late_is_left_out_and_the_others_go_on(
    fake_world: FakeWorld,
) -> None:
    world = fake_world
    member = start_both_stages(world)
    delayed = delay(member, b"slow")
    world.send(Input("slow-1", "slow", "add", "c1"), topic=A, partition=0)
    world.run(0.2)
    world.send(Input("slow-2", "slow", "add", "c2"), topic=A, partition=0)
    world.send(*story(1, 40), topic=B)
    world.run(2.0)
    assert member.worker.assignment.lanes[LaneKey(A, 0)].left_out
    assert len(world.evidence().inputs) == 41
    for output, on_delivery in delayed:
        world.broker.append(output)
        on_delivery(None)
    world.settle()
    check(world.evidence())


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
    fake_world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "BATCH_BYTES_MAX", 5_000)
    world = fake_world
    world.send(*story(1, 300, keys=100))
    world.start("second")
    world.start("first")
    world.settle()
    assert not world.dead_letters()
    check(world.evidence())


def test_a_handler_that_loses_count_ends_the_process_before_anything_is_committed(
    fake_world: FakeWorld,
) -> None:
    world = fake_world
    world.send(*story(1, 5), Input("uncounted", "k", "note", poison="uncounted"))
    world.start("first")
    with pytest.raises(OutcomesMismatch):
        world.run(2.0)
    assert not world.evidence().inputs


@pytest.mark.parametrize("when", ["at work", "during an outage"])
def test_a_client_that_never_fetches_again_ends_its_process_and_the_next_one_goes_on(
    fake_world: FakeWorld, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The client reports it only once, at any fetch."""
    world = fake_world
    member = start_both_stages(world)
    world.send(*story(1, 20))
    world.run(0.1)
    if when != "at work":
        world.database.is_unavailable = True
        world.until("it backs off", lambda: len(member.telemetry.failures) > 2)
    errors = iter([ConsumerFailed("group authorization failed")])
    fetch = member.client.fetch

    def failing(_records_max: int, timeout_s: float) -> FetchResult:
        for error in errors:
            raise error
        return fetch(0, timeout_s)

    monkeypatch.setattr(member.client, "fetch", failing)
    with pytest.raises(ConsumerFailed):
        world.run(2.0)
    world.database.is_unavailable = False
    member.kill()
    world.start("first")
    world.send(*story(2, 20))
    world.settle()
    check(world.evidence())


def test_a_row_that_moves_under_an_idle_owner_is_detected(fake_world: FakeWorld) -> None:
    world = fake_world
    world.start("second")
    world.start("first")
    world.send(*story(1, 20), topic=A, partition=0)
    world.settle()
    world.rewind("first", LaneKey(A, 0), 7)
    world.run(SESSION_S / 3)
    assert lane(world, "first", A).next_offset == 20
    check(world.evidence())


def test_a_resolved_dead_letter_stays_resolved_whatever_becomes_of_its_copies(
    fake_world: FakeWorld,
) -> None:
    """The second copy meets a release on which it would fail."""
    world = fake_world
    world.request_replays(dead_lettered(world, 6))
    world.settle()
    assert {it.state for it in world.dead_letters()} == {"resolved"}
    world.members[-1].kill()
    world.start("first", release=Release())
    world.rewind("first", LaneKey(NAMES.replay["first"], 0), 0)
    world.settle()
    assert {it.state for it in world.dead_letters()} == {"resolved"}
    check(world.evidence())


def test_a_dead_letter_that_was_discarded_meanwhile_is_not_worked(fake_world: FakeWorld) -> None:
    """Its copy was on the way when the operator discarded it."""
    world = fake_world
    dead_letters = dead_lettered(world, 4, then=None)
    wait_until_owned(world, world.start("first", release=FIXED))
    world.broker.holds_requests = True
    world.request_replays(dead_letters)
    world.until("they are on their way", lambda: len(world.broker.in_flight) == 4)
    for dead_letter in dead_letters:
        world.database.dead_letters[dead_letter].state = "discarded"
    world.broker.holds_requests = False
    world.broker.land()
    world.settle()
    assert not world.evidence().inputs
    assert lane(world, "first", NAMES.replay["first"]).duplicates == 4
    check(world.evidence())


@pytest.mark.parametrize("point", ["committing", "committed", "produced"])
def test_a_replay_survives_the_death_of_the_process_that_publishes_it(
    fake_world: FakeWorld, point: str
) -> None:
    world = fake_world
    world.request_replays(dead_lettered(world, 6, then=None))
    victim = world.start("first", release=FIXED, at=f"{point}:kill:1")
    world.until("its end", lambda: not victim.is_alive)
    world.start("first", release=FIXED)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert len(evidence.inputs) == 6


def test_a_long_replay_delays_no_tick(fake_world: FakeWorld) -> None:
    """Slices of replays and ticks alternate."""
    world = fake_world
    dead_letters = dead_lettered(world, 40, then=None)
    wait_until_owned(world, world.start("first", release=TICKING_MENDED, replay_dead_letters_max=1))
    world.request_replays(dead_letters)
    world.send(Input("due", "due-key", "later"))
    world.until(
        "it is due", lambda: world.database.tables["firsts"].get("due-key", First("")).is_due
    )
    world.until("it is worked", lambda: not world.database.tables["firsts"]["due-key"].is_due)
    assert (
        sum(row.state == "requested" for row in world.database.dead_letters.values())
        > len(dead_letters) / 2
    )
    world.settle()
    assert {it.state for it in world.dead_letters()} == {"resolved"}
    check(world.evidence())


def test_a_replay_that_raises_stops_neither_records_nor_ticks(
    fake_world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_self: FakeTransaction, _dead_letters_max: int, _bytes_max: int) -> None:
        raise AttributeError("a defect")

    world = fake_world
    requested = dead_lettered(world, 6, then=None)
    member = world.start("first", release=TICKING_MENDED)
    wait_until_owned(world, member)
    with monkeypatch.context() as broken:
        replace_rule(broken, FakeTransaction, FakeTransaction.take_replay_requests, failing)
        world.request_replays(requested)
        world.send(*story(1, 20), Input("due", "due-key", "later"))
        world.run(2.5)
        assert {type(it) for it in member.telemetry.failures} == {TickFailed}
        assert member.telemetry.readiness == [(True, "")]
        evidence = world.evidence()
        assert (len(evidence.inputs), evidence.firsts["due-key"].state) == (21, "released")
    world.settle()
    assert {it.state for it in world.dead_letters()} == {"resolved"}
    check(world.evidence())


def test_a_tick_that_raises_stops_no_replay(
    fake_world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fake_world
    dead_letters = dead_lettered(world, 6, then=None)
    replace_rule(monkeypatch, MemoryStore, MemoryStore.lock_due, None)
    member = world.start("first", release=TICKING_MENDED, replay_dead_letters_max=1)
    wait_until_owned(world, member)
    world.run(0.5)
    assert {type(it) for it in member.telemetry.failures} == {TickFailed}
    world.request_replays(dead_letters)
    world.run(0.5)  # half of what a tick that failed waits
    assert {it.state for it in world.dead_letters()} == {"resolved"}
    world.settle()
    check(world.evidence())


def test_a_tick_that_lasts_too_long_stops_no_record(
    fake_world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(_store: MemoryStore) -> None:
        raise ConflictError

    replace_rule(monkeypatch, MemoryStore, MemoryStore.lock_due, too_long)
    world = fake_world
    member = world.start("first", release=TICKING_MENDED)
    wait_until_owned(world, member)
    world.send(*story(1, 20))
    world.run(2.5)
    assert {type(it) for it in member.telemetry.failures} == {TickFailed}
    assert member.telemetry.readiness == [(True, "")]
    assert len(world.evidence().inputs) == 20


def test_a_topic_that_is_refused_is_reported_until_it_is_allowed_and_the_others_go_on(
    fake_world: FakeWorld,
) -> None:
    world = fake_world
    member = start_both_stages(world)
    world.broker.forbidden.add(A)
    world.send(*story(1, 20), topic=A)
    world.send(*story(2, 20), topic=B)
    world.run(3.0)
    assert len(world.evidence().inputs) == 20
    assert member.telemetry.readiness == [(True, ""), (False, "input-refused")]
    assert len(member.telemetry.failures) == 1  # reported once, however often it is checked
    world.broker.forbidden.clear()
    world.settle()
    world.run(1.0)
    assert member.telemetry.readiness[2:] == [(True, "")]
    check(world.evidence())


def test_a_refused_topic_that_is_allowed_again_and_has_no_records_is_no_matter(
    fake_world: FakeWorld,
) -> None:
    """Only another assignment can show it."""
    world = fake_world
    member = world.start("first")
    wait_until_owned(world, member)
    for _ in range(2):
        world.broker.forbidden.add(A)
        member.client.start_at(LaneKey(A, 0), 0)
        world.run(3.0)
        world.broker.forbidden.clear()
        world.run(3.0)
    assert member.telemetry.readiness == [(True, ""), *[(False, "input-refused"), (True, "")] * 2]


def test_a_group_that_is_refused_is_reported_until_it_is_allowed(fake_world: FakeWorld) -> None:
    world = fake_world
    world.broker.forbidden.add(NAMES.groups["first"])
    world.start("second")
    member = world.start("first")
    world.send(*story(1, 20))
    world.run(3.0)
    assert member.telemetry.readiness == [(False, "input-refused")]
    world.broker.forbidden.clear()
    world.settle()
    assert member.telemetry.readiness[1:] == [(True, "")]
    check(world.evidence())


def test_a_topic_that_does_not_exist_is_reported_until_it_does(fake_world: FakeWorld) -> None:
    world = fake_world
    world.broker.delete_topic(B)
    world.start("second")
    member = world.start("first")
    world.send(*story(1, 20), topic=A)
    world.run(3.0)
    assert len(world.evidence().inputs) == 20
    assert member.telemetry.readiness == [(True, ""), (False, "input-missing")]
    assert str(member.telemetry.failures[0]).startswith(f"input-missing: {B}.")
    world.broker.create_topic(B)
    world.send(*story(2, 20), topic=B)
    world.settle()
    world.run(1.0)
    assert member.telemetry.readiness[2:] == [(True, "")]
    check(world.evidence())


def test_what_was_prepared_before_a_lane_was_lost_is_never_committed(fake_world: FakeWorld) -> None:
    """Another worked it meanwhile. The lane comes back to the same process, under another epoch."""
    world = fake_world
    member = start_both_stages(world, batch_bytes_max=2**20)
    large = [Input(f"{n}", "k", "add", f"c{n}", amount=1, note="x" * 300_000) for n in range(12)]
    world.send(*large, topic=A, partition=1)
    mine = member.worker.assignment.lanes[LaneKey(A, 1)]
    world.until("records stand prepared", lambda: bool(mine.prepared))
    rival = world.start("first")
    member.pause()
    rival.step()
    member.resume()
    wait_until_owned(world, member, rival)
    world.settle()
    assert rival.stop() == 0
    wait_until_owned(world, member)
    world.send(*story(1, 20), topic=A, partition=1)
    world.settle()
    check(world.evidence())
