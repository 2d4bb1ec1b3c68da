"""The laws of a lane, each provoked by what could break it. All of them hold in memory and on Kafka alike."""

from __future__ import annotations

import pytest

from tests.laws.lane_laws import check
from tests.laws.world import World, feed_until_dead


@pytest.mark.parametrize("point", ["committing", "committed", "produced", "published"])
def test_a_process_killed_at_any_point_loses_and_doubles_nothing(world: World, point: str) -> None:
    world.start("second")
    victim = world.start("first", at=f"{point}:kill:5")
    feed_until_dead(world, victim)
    world.start("first")
    world.settle()
    check(world.evidence())
