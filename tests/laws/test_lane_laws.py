"""The laws of a lane, each provoked by what could break it."""

from __future__ import annotations

import pytest

from tests.laws.kafka_world import KafkaWorld
from tests.laws.lane_laws import check
from tests.laws.world import story


@pytest.mark.parametrize("point", ["committing", "committed", "produced", "published"])
def test_a_process_killed_at_any_point_loses_and_doubles_nothing(kafka_world: KafkaWorld, point: str) -> None:
    world = kafka_world
    world.start("second")
    victim = world.start("first", at=f"{point}:kill:3")
    world.send(*story(1, 40))
    world.send(*story(2, 40))
    world.send(*story(3, 40))
    world.wait_dead(victim)
    world.start("first")
    world.settle()
    check(world.evidence())
