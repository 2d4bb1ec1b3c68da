"""The laws of a lane, each under the faults that could break it. All of them hold in memory and on
Kafka.
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest

from services.runtime.admin.refusals import DeadLetterStateRefused
from services.runtime.records import LaneKey
from tests.protocol.laws.alongside import alone
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.world import (
    SESSION_S,
    World,
    feed_until_dead,
    lane,
    poison,
    poisoned,
    start_both_stages,
    stormed,
    story,
    wait_until_owned,
)
from tests.protocol.toy.events import Input
from tests.protocol.toy.service import Release

FIXED = Release(is_fixed=True)
TICKING = Release(ticks=True)


# Killed, paused and restarted processes.


@pytest.mark.parametrize("point", ["committing", "committed", "produced", "published"])
def test_a_process_killed_at_any_point_loses_and_doubles_nothing(world: World, point: str) -> None:
    world.start("second")
    victim = world.start("first", at=f"{point}:kill:5")
    feed_until_dead(world, victim)
    world.start("first")
    world.settle()
    check(world.evidence())


def test_a_zombie_that_resumes_when_another_took_over_does_no_harm(world: World) -> None:
    zombie = start_both_stages(world)
    world.send(*story(1, 60))
    zombie.pause()
    world.send(*story(2, 60))
    next_owner = world.start("first")
    wait_until_owned(world, next_owner)
    world.send(*story(3, 60))
    world.run(0.5)
    zombie.resume()
    world.send(*story(4, 60))
    world.run(SESSION_S / 6)
    world.settle()
    assert zombie.is_alive
    check(world.evidence())


@pytest.mark.parametrize("point", ["assigned", "revoked", "lost"])
def test_an_exception_in_a_callback_changes_nothing(world: World, point: str) -> None:
    """Unguarded, the client would go on at the group's offset and drop what it had fetched."""
    world.start("second")
    member = world.start("first", at=f"{point}:raise:1")
    world.send(*story(1, 40))
    if point == "revoked":
        wait_until_owned(world, member)
        wait_until_owned(world, member, world.start("first"))
    if point == "lost":
        wait_until_owned(world, member)
        member.pause()
        wait_until_owned(world, world.start("first"))
        member.resume()
    world.send(*story(2, 40))
    world.settle()
    assert member.is_alive
    check(world.evidence())


def test_members_that_come_and_go_lose_and_double_nothing(world: World) -> None:
    world.start("second")
    members = [world.start("first")]
    wait_until_owned(world, *members)
    for number in range(2):
        members.append(world.start("first"))
        world.send(*story(number, 60))
        wait_until_owned(world, *members)
        world.send(*story(10 + number, 60))
    for number in range(2):
        assert members.pop(0).stop() == 0
        world.send(*story(20 + number, 60))
        wait_until_owned(world, *members)
    world.settle()
    check(world.evidence())


def test_a_process_that_is_stopped_leaves_nothing_unpublished(world: World) -> None:
    member = start_both_stages(world)
    world.send(*story(1, 200))
    world.run(0.05)
    assert member.stop() == 0
    evidence = world.evidence()
    published = {
        (it.key, it.header("ce_id")) for it in evidence.log_of(world.names.outputs["first"])
    }
    assert len(published) == len(evidence.snapshots)
    world.start("first")
    world.settle()
    check(world.evidence())


# Outages of the broker and the database.


@alone
def test_an_outage_of_the_broker_loses_and_doubles_nothing(world: World) -> None:
    world.start("second")
    world.start("first")
    world.send(*story(1, 60))
    with world.broker_unavailable():
        world.run(0.5)
    world.send(*story(2, 60))
    world.settle()
    assert not world.dead_letters()
    check(world.evidence())


@alone
def test_an_outage_of_the_database_loses_nothing_and_dead_letters_nothing(world: World) -> None:
    start_both_stages(world)
    world.send(*story(1, 60))
    with world.database_unavailable():
        world.send(*story(2, 60))
        world.run(0.5)
    world.settle()
    assert not world.dead_letters()
    check(world.evidence())


# The log changes under the lane.


def test_a_recreated_topic_stops_its_lanes_until_an_operator_accepts_it(
    world: World,
) -> None:
    topic, other = world.names.inputs
    world.start("second")
    world.start("first")
    world.send(*story(1, 40), topic=topic)
    world.settle()
    world.recreate_topic(topic)
    world.send(
        *story(2, 100), topic=topic
    )  # the offsets that the lanes have are in the new topic too
    world.send(*story(3, 40), topic=other)
    world.until("a stopped lane", lambda: stops(world) == {"lane-topic-recreated"})
    world.settle()
    world.accept_topic("first", topic)
    world.until("no stopped lane", lambda: not stops(world))
    world.settle()
    check(world.evidence())
    assert len(world.evidence().inputs) == 180


def test_records_that_retention_deleted_stop_their_lane_until_an_operator_skips_them(
    world: World,
) -> None:
    topic, _ = world.names.inputs
    world.start("second")
    member = world.start("first")
    world.send(*story(1, 10), topic=topic, partition=0)
    world.settle()
    assert member.stop() == 0
    world.send(*story(2, 10), topic=topic, partition=0)
    world.delete_records(LaneKey(topic, 0), 15)
    world.start("first")
    world.until("a stopped lane", lambda: stops(world) == {"lane-offset-out-of-range"})
    assert lane(world, "first", topic).next_offset == 10
    world.skip("first", LaneKey(topic, 0))
    world.until("no stopped lane", lambda: not stops(world))
    world.settle()
    found = lane(world, "first", topic)
    assert (found.next_offset, found.gaps, found.effects, found.conservation_gap) == (20, 5, 15, 0)


def test_partitions_that_are_added_while_records_flow_are_read_from_their_first_record(
    world: World,
) -> None:
    world.start("second")
    member = world.start("first")
    world.send(*story(1, 60))
    wait_until_owned(world, member)
    world.add_partitions(4)
    for number in range(8):
        world.send(*story(10 + number, 20, keys=40))
        world.run(0.1)
    world.settle(45)
    assert len([it for it in world.lanes("first") if it.lane.topic in world.names.inputs]) == 8
    assert (
        sum(it.effects > 0 for it in world.lanes("first") if it.lane.topic in world.names.inputs)
        > 4
    )
    check(world.evidence())


# Commands of operators.


def test_a_lane_that_an_operator_rewinds_works_everything_again_and_doubles_nothing(
    world: World,
) -> None:
    topic, _ = world.names.inputs
    world.start("second")
    world.start("first")
    world.send(*story(1, 60))
    world.settle()
    before = world.evidence()
    world.rewind("first", LaneKey(topic, 0), 0)
    world.rewind("second", LaneKey(world.names.outputs["first"], 0), 0)
    world.until(
        "rewound",
        lambda: lane(world, "first", topic).rewound == lane(world, "first", topic).duplicates > 0,
    )
    world.settle()
    after = world.evidence()
    check(after)
    assert (after.snapshots, after.inputs) == (before.snapshots, before.inputs)
    again = lane(world, "second", world.names.outputs["first"])
    assert again.duplicates + again.superseded == again.rewound > 0


@alone
def test_a_paused_service_reads_nothing_and_goes_on_when_it_is_resumed(world: World) -> None:
    start_both_stages(world)
    world.control("first", paused=True)
    world.run(1.0)
    world.send(*story(1, 40))
    world.run(1.0)
    assert not world.evidence().inputs
    world.control("first", paused=False)
    world.run(1.0)
    world.settle()
    assert len(world.evidence().inputs) == 40
    check(world.evidence())


@alone
def test_a_rate_acts_within_a_second_and_is_kept(world: World) -> None:
    start_both_stages(world)
    world.control("first", paused=False, rate=20.0)
    world.run(1.0)
    world.send(*story(1, 120), topic=world.names.inputs[0])
    world.run(2.0)
    assert 10 <= len(world.evidence().inputs) <= 80
    world.control("first", paused=False, rate=0)
    world.run(1.0)
    world.settle()
    check(world.evidence())


# Storms of input.


def test_a_storm_of_duplicates_has_each_effect_once(world: World) -> None:
    world.start("second")
    world.start("first")
    world.start("first")
    inputs = story(1, 150)
    world.send(*stormed(inputs, 1, copies=4))
    world.send(*stormed(inputs, 2, copies=2))
    world.settle()
    check(world.evidence())
    counts = Counter[str]()
    for it in world.lanes("first"):
        if it.lane.topic in world.names.inputs:
            counts += Counter(effects=it.effects, duplicates=it.duplicates)
    assert counts == {"effects": 150, "duplicates": 750}


def test_a_storm_of_poison_harms_no_neighbour_and_is_kept_byte_for_byte(world: World) -> None:
    world.start("second")
    world.start("first")
    world.send(
        *poisoned(story(1, 200), 1), headers=[("from", b"\x00\xff"), ("from", None), ("ü", b"2")]
    )
    world.send_bytes(world.names.inputs[0], b"\xff\x00 no json", key=b"\x80", headers=[("h", b"")])
    world.send_bytes(world.names.inputs[1], None, key=None)
    world.send(*poisoned(story(2, 200), 2))
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert {it.code for it in evidence.dead_letters} == {
        "record-unexpected-error",
        "record-not-an-event",
    }
    assert len(evidence.dead_letters) > 30


def test_records_that_fail_only_together_are_worked_apart(world: World) -> None:
    world.start("second")
    world.send(*[poison(each, "together") for each in story(1, 7)], *story(2, 30))
    world.start("first")
    world.settle()
    assert not world.dead_letters()
    check(world.evidence())


@pytest.mark.parametrize("kind", ["parse", "handle"])
def test_a_bad_release_stops_itself_and_buries_nothing(world: World, kind: str) -> None:
    world.start("second")
    bad = world.start("first")
    world.send(*[poison(each, kind) for each in story(1, 400)])
    world.until("the failure rate breaker opens", lambda: world.is_paused("first"))
    world.run(1.0)
    assert len(world.dead_letters()) < 100
    assert bad.is_alive
    assert bad.stop() == 0
    world.start("first", release=FIXED)
    world.control("first", paused=False)
    world.until("effects", lambda: len(world.evidence().inputs) + len(world.dead_letters()) == 400)
    world.settle()
    check(world.evidence())


def test_an_output_that_no_topic_takes_is_a_dead_letter(world: World) -> None:
    world.start("second")
    world.start("first")
    large = Input("large", "key-large", "release", amount=3, poison="large")
    neighbours = [Input(f"{n}", "key-large", "add", f"c{n}", amount=1) for n in range(2)]
    world.send(*story(1, 30))
    world.send(
        neighbours[0], large, neighbours[1], topic=world.names.inputs[0]
    )  # together, and of one key
    world.send(*story(2, 30))
    world.settle()
    assert [(it.code, it.value) for it in world.dead_letters()] == [
        ("record-output-too-large", large.value())
    ]
    check(world.evidence())


def test_a_word_of_a_newer_release_stops_the_lane_until_that_release_is_here(world: World) -> None:
    old = world.start("second")
    world.start("first")
    world.send(*story(1, 30), Input("held", "key-held", "hold"), *story(2, 30))
    world.until("a stopped lane", lambda: stops(world, "second") == {"lane-newer-release"})
    assert not world.dead_letters("second")
    assert old.stop() == 0
    world.start("second", release=Release(number=2))
    world.until("no stopped lane", lambda: not stops(world, "second"))
    world.settle()
    assert world.evidence().seconds["key-held"].state == "held"
    check(world.evidence())


# Work without a record, and replays.


def test_the_timer_lane_works_each_due_key_once(world: World) -> None:
    world.start("second")
    victim = world.start("first", release=TICKING)
    world.send(*[Input(f"later-{n}", f"key-{n}", "later") for n in range(20)])
    world.settle()
    victim.kill()
    world.send(*[Input(f"again-{n}", f"more-{n}", "later") for n in range(20)])
    world.start("first", release=TICKING)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert {row.state for row in evidence.firsts.values()} == {"released"}


def test_a_dead_letter_replayed_twice_has_its_effect_once(world: World) -> None:
    dead_letters = dead_lettered(world, 12)
    world.request_replays(dead_letters)
    world.settle()
    with pytest.raises((DeadLetterStateRefused, AssertionError)):
        world.request_replays(dead_letters)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert {it.state for it in evidence.dead_letters} == {"resolved"}
    assert len(evidence.inputs) == 12


def test_a_replay_that_fails_opens_its_dead_letter_again(world: World) -> None:
    dead_letters = dead_lettered(world, 6, then=Release())
    world.request_replays(dead_letters)
    world.until(
        "tried again",
        lambda: {(it.state, it.attempts) for it in world.dead_letters()} == {("open", 2)},
    )
    world.request_replays(dead_letters)
    world.until(
        "and again",
        lambda: {(it.state, it.attempts) for it in world.dead_letters()} == {("open", 3)},
    )
    world.settle()
    check(world.evidence())


def test_copies_in_the_replay_topic_do_nothing(world: World) -> None:
    """It is requested twice, the timer's outputs arrive twice, the replay lane is rewound."""
    dead_letters = dead_lettered(world, 8)
    world.request_replays(dead_letters)
    world.settle()
    replay = LaneKey(world.names.replay["first"], 0)
    world.rewind("first", replay, 0)
    world.until("rewound", lambda: lane(world, "first", replay.topic).duplicates >= 8)
    world.settle()
    evidence = world.evidence()
    check(evidence)
    assert len(evidence.inputs) == 8


def test_a_restored_database_outranks_what_was_published_before(world: World) -> None:
    world.start("second")
    world.start("first")
    world.send(*story(1, 30))
    world.settle()
    world.restored()
    world.send(*story(2, 30))
    world.settle()
    check(world.evidence())
    assert {it.first_generation for it in world.evidence().seconds.values()} <= {1, 2}


def test_two_services_that_read_each_other_settle(world: World) -> None:
    world.start("second")
    world.start("first")
    world.send(
        Input("1", "k", "release"), Input("2", "k", "add", "c1"), Input("3", "k", "add", "c2")
    )
    world.settle()
    before = len(world.evidence().snapshots)
    world.run(2.0)
    assert len(world.evidence().snapshots) == before < 8
    check(world.evidence())


def stops(world: World, stage: str = "first") -> set[str]:
    return {it.stopped_code for it in world.lanes(stage) if it.stopped_code is not None}


def dead_lettered(world: World, number: int, then: Release | None = FIXED) -> list[UUID]:
    """Make dead letters, then start a release that can work them."""
    world.start("second")
    bad = world.start("first")
    for n, each in enumerate(story(7, number)):
        world.send(
            poison(each, "handle" if n % 2 else "parse"),
            headers=[("n", b"%d" % n), ("n", b"\xff"), ("none", None)],
        )
    world.settle()
    assert bad.stop() == 0
    if then is not None:
        world.start("first", release=then)
    assert len(world.dead_letters()) == number
    return [it.id for it in world.dead_letters()]
