"""The laws of a lane, each under the faults that could break it. All of them hold in memory and on
Kafka.
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest

from services.runtime.admin.refusals import DeadLetterStateRefused
from services.runtime.records import LaneKey
from tests.protocol.laws.concurrent_laws import alone
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.system import (
    SESSION_S,
    System,
    feed_until_dead,
    lane,
    poison,
    poisoned,
    start_both_stages,
    stormed,
    story,
    wait_until_owned,
)
from tests.protocol.toy.events import ToyInput
from tests.protocol.toy.service import Release

FIXED = Release(is_fixed=True)
TICKING = Release(ticks=True)


# Killed, paused and restarted processes.


@pytest.mark.parametrize("point", ["committing", "committed", "produced", "published"])
def test_a_process_killed_at_any_point_loses_and_doubles_nothing(
    system: System, point: str
) -> None:
    system.start("second")
    victim = system.start("first", at=f"{point}:kill:5")
    feed_until_dead(system, victim)
    system.start("first")
    system.settle()
    check(system.state())


def test_a_zombie_that_resumes_when_another_took_over_does_no_harm(system: System) -> None:
    zombie = start_both_stages(system)
    system.send(*story(1, 60))
    zombie.pause()
    system.send(*story(2, 60))
    next_owner = system.start("first")
    wait_until_owned(system, next_owner)
    system.send(*story(3, 60))
    system.run(0.5)
    zombie.resume()
    system.send(*story(4, 60))
    system.run(SESSION_S / 6)
    system.settle()
    assert zombie.is_alive
    check(system.state())


@pytest.mark.parametrize("point", ["assigned", "revoked", "lost"])
def test_an_exception_in_a_callback_changes_nothing(system: System, point: str) -> None:
    """Unguarded, the client would go on at the group's offset and drop what it had fetched."""
    system.start("second")
    member = system.start("first", at=f"{point}:raise:1")
    system.send(*story(1, 40))
    if point == "revoked":
        wait_until_owned(system, member)
        wait_until_owned(system, member, system.start("first"))
    if point == "lost":
        wait_until_owned(system, member)
        member.pause()
        wait_until_owned(system, system.start("first"))
        member.resume()
    system.send(*story(2, 40))
    system.settle()
    assert member.is_alive
    check(system.state())


def test_members_that_come_and_go_lose_and_double_nothing(system: System) -> None:
    system.start("second")
    members = [system.start("first")]
    wait_until_owned(system, *members)
    for number in range(2):
        members.append(system.start("first"))
        system.send(*story(number, 60))
        wait_until_owned(system, *members)
        system.send(*story(10 + number, 60))
    for number in range(2):
        assert members.pop(0).stop() == 0
        system.send(*story(20 + number, 60))
        wait_until_owned(system, *members)
    system.settle()
    check(system.state())


def test_a_process_that_is_stopped_leaves_no_outbox(system: System) -> None:
    member = start_both_stages(system)
    system.send(*story(1, 200))
    system.run(0.05)
    assert member.stop() == 0
    state = system.state()
    published = {
        (record.key, record.header("ce_id"))
        for record in state.log_of(system.names.outputs["first"])
    }
    assert len(published) == len(state.snapshots)
    system.start("first")
    system.settle()
    check(system.state())


# Outages of the broker and the database.


@alone
def test_an_unavailable_broker_loses_and_doubles_nothing(system: System) -> None:
    system.start("second")
    system.start("first")
    system.send(*story(1, 60))
    with system.broker_unavailable():
        system.run(0.5)
    system.send(*story(2, 60))
    system.settle()
    assert not system.dead_letters()
    check(system.state())


@alone
def test_an_unavailable_database_loses_nothing_and_dead_letters_nothing(system: System) -> None:
    start_both_stages(system)
    system.send(*story(1, 60))
    with system.database_unavailable():
        system.send(*story(2, 60))
        system.run(0.5)
    system.settle()
    assert not system.dead_letters()
    check(system.state())


# The log changes under the lane.


def test_a_recreated_topic_stops_its_lanes_until_an_operator_accepts_it(
    system: System,
) -> None:
    topic, other = system.names.inputs
    system.start("second")
    system.start("first")
    system.send(*story(1, 40), topic=topic)
    system.settle()
    system.recreate_topic(topic)
    system.send(
        *story(2, 100), topic=topic
    )  # the offsets that the lanes have are in the new topic too
    system.send(*story(3, 40), topic=other)
    system.until("a stopped lane", lambda: stops(system) == {"lane-topic-recreated"})
    system.settle()
    system.accept_topic("first", topic)
    system.until("no stopped lane", lambda: not stops(system))
    system.settle()
    check(system.state())
    assert len(system.state().inputs) == 180


def test_records_that_retention_deleted_stop_their_lane_until_an_operator_skips_them(
    system: System,
) -> None:
    topic, _ = system.names.inputs
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 10), topic=topic, partition=0)
    system.settle()
    assert member.stop() == 0
    system.send(*story(2, 10), topic=topic, partition=0)
    system.delete_records(LaneKey(topic, 0), 15)
    system.start("first")
    system.until("a stopped lane", lambda: stops(system) == {"lane-offset-out-of-range"})
    assert lane(system, "first", topic).next_offset == 10
    system.skip("first", LaneKey(topic, 0))
    system.until("no stopped lane", lambda: not stops(system))
    system.settle()
    row = lane(system, "first", topic)
    assert (row.next_offset, row.gaps, row.effects, row.conservation_gap) == (20, 5, 15, 0)


def test_partitions_that_are_added_while_records_flow_are_read_from_their_first_record(
    system: System,
) -> None:
    system.start("second")
    member = system.start("first")
    system.send(*story(1, 60))
    wait_until_owned(system, member)
    system.add_partitions(4)
    for number in range(8):
        system.send(*story(10 + number, 20, keys=40))
        system.run(0.1)
    system.settle(45)
    assert len([row for row in system.lanes("first") if row.lane.topic in system.names.inputs]) == 8
    assert (
        sum(
            row.effects > 0
            for row in system.lanes("first")
            if row.lane.topic in system.names.inputs
        )
        > 4
    )
    check(system.state())


# Commands of operators.


def test_a_lane_that_an_operator_rewinds_works_everything_again_and_doubles_nothing(
    system: System,
) -> None:
    topic, _ = system.names.inputs
    system.start("second")
    system.start("first")
    system.send(*story(1, 60))
    system.settle()
    before = system.state()
    system.rewind("first", LaneKey(topic, 0), 0)
    system.rewind("second", LaneKey(system.names.outputs["first"], 0), 0)
    system.until(
        "rewound",
        lambda: lane(system, "first", topic).rewound == lane(system, "first", topic).duplicates > 0,
    )
    system.settle()
    after = system.state()
    check(after)
    assert (after.snapshots, after.inputs) == (before.snapshots, before.inputs)
    row = lane(system, "second", system.names.outputs["first"])
    assert row.duplicates + row.superseded == row.rewound > 0


@alone
def test_a_paused_service_reads_nothing_and_goes_on_when_it_is_resumed(system: System) -> None:
    start_both_stages(system)
    system.control("first", paused=True)
    system.run(1.0)
    system.send(*story(1, 40))
    system.run(1.0)
    assert not system.state().inputs
    system.control("first", paused=False)
    system.run(1.0)
    system.settle()
    assert len(system.state().inputs) == 40
    check(system.state())


@alone
def test_a_rate_acts_within_a_second_and_is_kept(system: System) -> None:
    start_both_stages(system)
    system.control("first", paused=False, rate=20.0)
    system.run(1.0)
    system.send(*story(1, 120), topic=system.names.inputs[0])
    system.run(2.0)
    assert 10 <= len(system.state().inputs) <= 80
    system.control("first", paused=False, rate=0)
    system.run(1.0)
    system.settle()
    check(system.state())


# Storms of input.


def test_a_storm_of_duplicates_has_each_effect_once(system: System) -> None:
    system.start("second")
    system.start("first")
    system.start("first")
    inputs = story(1, 150)
    system.send(*stormed(inputs, 1, copies=4))
    system.send(*stormed(inputs, 2, copies=2))
    system.settle()
    check(system.state())
    counts = Counter[str]()
    for row in system.lanes("first"):
        if row.lane.topic in system.names.inputs:
            counts += Counter(effects=row.effects, duplicates=row.duplicates)
    assert counts == {"effects": 150, "duplicates": 750}


def test_a_storm_of_poison_harms_no_neighbour_and_is_kept_byte_for_byte(system: System) -> None:
    system.start("second")
    system.start("first")
    system.send(
        *poisoned(story(1, 200), 1), headers=[("from", b"\x00\xff"), ("from", None), ("ü", b"2")]
    )
    system.send_bytes(
        system.names.inputs[0], b"\xff\x00 no json", key=b"\x80", headers=[("h", b"")]
    )
    system.send_bytes(system.names.inputs[1], None, key=None)
    system.send(*poisoned(story(2, 200), 2))
    system.settle()
    state = system.state()
    check(state)
    assert {dead_letter.code for dead_letter in state.dead_letters} == {
        "record-unexpected-error",
        "record-not-an-event",
    }
    assert len(state.dead_letters) > 30


def test_records_that_fail_only_together_are_worked_apart(system: System) -> None:
    system.start("second")
    system.send(*[poison(each, "together") for each in story(1, 7)], *story(2, 30))
    system.start("first")
    system.settle()
    assert not system.dead_letters()
    check(system.state())


@pytest.mark.parametrize("kind", ["parse", "handle"])
def test_a_bad_release_stops_itself_and_buries_nothing(system: System, kind: str) -> None:
    system.start("second")
    bad = system.start("first")
    system.send(*[poison(each, kind) for each in story(1, 400)])
    system.until("the failure rate breaker opens", lambda: system.is_paused("first"))
    system.run(1.0)
    assert len(system.dead_letters()) < 100
    assert bad.is_alive
    assert bad.stop() == 0
    system.start("first", release=FIXED)
    system.control("first", paused=False)
    system.until("effects", lambda: len(system.state().inputs) + len(system.dead_letters()) == 400)
    system.settle()
    check(system.state())


def test_an_output_that_no_topic_takes_is_a_dead_letter(system: System) -> None:
    system.start("second")
    system.start("first")
    large = ToyInput("large", "key-large", "release", amount=3, poison="large")
    neighbours = [ToyInput(f"{n}", "key-large", "add", f"c{n}", amount=1) for n in range(2)]
    system.send(*story(1, 30))
    system.send(
        neighbours[0], large, neighbours[1], topic=system.names.inputs[0]
    )  # together, and of one key
    system.send(*story(2, 30))
    system.settle()
    assert [(dead_letter.code, dead_letter.value) for dead_letter in system.dead_letters()] == [
        ("record-output-too-large", large.value())
    ]
    check(system.state())


def test_a_word_of_a_newer_release_stops_the_lane_until_that_release_is_here(
    system: System,
) -> None:
    old = system.start("second")
    system.start("first")
    system.send(*story(1, 30), ToyInput("held", "key-held", "hold"), *story(2, 30))
    system.until("a stopped lane", lambda: stops(system, "second") == {"lane-newer-release"})
    assert not system.dead_letters("second")
    assert old.stop() == 0
    system.start("second", release=Release(number=2))
    system.until("no stopped lane", lambda: not stops(system, "second"))
    system.settle()
    assert system.state().seconds["key-held"].state == "held"
    check(system.state())


# Work without a record, and replays.


def test_the_timer_lane_works_each_due_key_once(system: System) -> None:
    system.start("second")
    victim = system.start("first", release=TICKING)
    system.send(*[ToyInput(f"later-{n}", f"key-{n}", "later") for n in range(20)])
    system.settle()
    victim.kill()
    system.send(*[ToyInput(f"again-{n}", f"more-{n}", "later") for n in range(20)])
    system.start("first", release=TICKING)
    system.settle()
    state = system.state()
    check(state)
    assert {row.state for row in state.firsts.values()} == {"released"}


def test_a_dead_letter_replayed_twice_has_its_effect_once(system: System) -> None:
    dead_letters = dead_lettered(system, 12)
    system.request_replays(dead_letters)
    system.settle()
    with pytest.raises((DeadLetterStateRefused, AssertionError)):
        system.request_replays(dead_letters)
    system.settle()
    state = system.state()
    check(state)
    assert {dead_letter.state for dead_letter in state.dead_letters} == {"resolved"}
    assert len(state.inputs) == 12


def test_a_replay_that_fails_opens_its_dead_letter_again(system: System) -> None:
    dead_letters = dead_lettered(system, 6, then=Release())
    system.request_replays(dead_letters)
    system.until(
        "tried again",
        lambda: (
            {(dead_letter.state, dead_letter.attempts) for dead_letter in system.dead_letters()}
            == {("open", 2)}
        ),
    )
    system.request_replays(dead_letters)
    system.until(
        "and again",
        lambda: (
            {(dead_letter.state, dead_letter.attempts) for dead_letter in system.dead_letters()}
            == {("open", 3)}
        ),
    )
    system.settle()
    check(system.state())


def test_copies_in_the_replay_topic_do_nothing(system: System) -> None:
    """It is requested twice, the timer's outputs arrive twice, the replay lane is rewound."""
    dead_letters = dead_lettered(system, 8)
    system.request_replays(dead_letters)
    system.settle()
    replay = LaneKey(system.names.replay["first"], 0)
    system.rewind("first", replay, 0)
    system.until("rewound", lambda: lane(system, "first", replay.topic).duplicates >= 8)
    system.settle()
    state = system.state()
    check(state)
    assert len(state.inputs) == 8


def test_a_restored_database_outranks_what_was_published_before(system: System) -> None:
    system.start("second")
    system.start("first")
    system.send(*story(1, 30))
    system.settle()
    system.restored()
    system.send(*story(2, 30))
    system.settle()
    check(system.state())
    assert {second.first_generation for second in system.state().seconds.values()} <= {1, 2}


def test_two_services_that_read_each_other_settle(system: System) -> None:
    system.start("second")
    system.start("first")
    system.send(
        ToyInput("1", "k", "release"),
        ToyInput("2", "k", "add", "c1"),
        ToyInput("3", "k", "add", "c2"),
    )
    system.settle()
    before = len(system.state().snapshots)
    system.run(2.0)
    assert len(system.state().snapshots) == before < 8
    check(system.state())


def stops(system: System, stage: str = "first") -> set[str]:
    return {lane.stopped_code for lane in system.lanes(stage) if lane.stopped_code is not None}


def dead_lettered(system: System, number: int, then: Release | None = FIXED) -> list[UUID]:
    """Make dead letters, then start a release that can work them."""
    system.start("second")
    bad = system.start("first")
    for n, each in enumerate(story(7, number)):
        system.send(
            poison(each, "handle" if n % 2 else "parse"),
            headers=[("n", b"%d" % n), ("n", b"\xff"), ("none", None)],
        )
    system.settle()
    assert bad.stop() == 0
    if then is not None:
        system.start("first", release=then)
    assert len(system.dead_letters()) == number
    return [dead_letter.id for dead_letter in system.dead_letters()]
