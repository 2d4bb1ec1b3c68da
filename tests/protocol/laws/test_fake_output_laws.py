"""Laws of outputs that the broker refuses until a right to write is granted, in memory."""

from __future__ import annotations

import pytest

from tests.protocol.laws.fake_system import FakeSystem
from tests.protocol.laws.lane_laws import check
from tests.protocol.laws.system import start_both_stages, story, wait_until_owned
from tests.protocol.laws.test_lane_laws import stops
from tests.protocol.toy.events import ToyInput
from tests.protocol.toy.names import NAMES

A, B = NAMES.inputs
OUTPUT, DEAD = NAMES.outputs["first"], NAMES.dead["first"]


def test_a_topic_that_we_may_not_write_is_reported_until_we_may_and_nothing_is_lost(
    fake_system: FakeSystem,
) -> None:
    system = fake_system
    member = start_both_stages(system)
    system.broker.unwritable.add(OUTPUT)
    system.send(*story(1, 20), topic=A)
    system.run(60.0)
    assert member.telemetry.readiness == [(True, ""), (False, "output-unauthorized")]
    assert str(member.telemetry.failures[0]).startswith(f"output-unauthorized: {OUTPUT}: ")
    assert not stops(system)
    assert not system.broker.records(OUTPUT)
    system.broker.unwritable.clear()
    system.settle()
    assert member.telemetry.readiness[2:] == [(True, "")]
    check(system.state())


def test_lanes_that_need_not_write_there_go_on(fake_system: FakeSystem) -> None:
    """Only a dead letter is refused, of one lane."""
    system = fake_system
    member = start_both_stages(system)
    system.broker.unwritable.add(DEAD)
    system.send(ToyInput("1", "k", "poison"), topic=A, partition=0)
    system.until("it is reported", lambda: not member.telemetry.readiness[-1][0])
    system.send(*story(1, 40), topic=B)
    system.run(5.0)
    assert len(system.state().inputs) == 40
    system.broker.unwritable.clear()
    system.settle()
    assert member.telemetry.readiness[-1] == (True, "")
    assert len(system.broker.records(DEAD)) >= 1


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_was_refused_is_published_by_the_next_owner(fake_system: FakeSystem, end: str) -> None:
    system = fake_system
    member = start_both_stages(system)
    system.broker.unwritable.add(OUTPUT)
    system.send(*story(1, 20))
    system.run(3.0)
    if end == "kill":
        member.kill()
    else:
        assert member.stop() == 75  # something is left to be published
    system.broker.unwritable.clear()
    wait_until_owned(system, system.start("first"))
    system.settle()
    check(system.state())


def test_a_lane_that_leaves_takes_its_problem_with_it(fake_system: FakeSystem) -> None:
    system = fake_system
    member = start_both_stages(system)
    system.broker.unwritable.add(OUTPUT)
    system.send(*story(1, 20))
    system.until("it is reported", lambda: not member.telemetry.readiness[-1][0])
    system.broker.leave(NAMES.groups["first"], member.client)
    for lane in list(member.worker.assignment.with_partition):
        member.worker.assignment.lost([lane])
    member.worker.assignment.is_member = True
    system.broker.join(NAMES.groups["first"], member.client)
    system.broker.unwritable.clear()
    system.settle()
    assert member.telemetry.readiness[-1] == (True, "")
    check(system.state())
