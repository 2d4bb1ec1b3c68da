"""Worlds for the laws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laws.fake_world import FakeWorld
from tests.laws.kafka_world import KafkaWorld
from tests.laws.world import World
from tests.support.stack import Servers


@pytest.fixture
def kafka_world(servers: Servers, database_url: str, prefix: str, tmp_path: Path) -> Iterator[KafkaWorld]:
    """A real world for one test."""
    with KafkaWorld(servers, database_url, prefix, tmp_path) as world:
        yield world


@pytest.fixture
def fake_world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture(params=["fake", "kafka"])
def world(request: pytest.FixtureRequest) -> World:
    """Each law holds in both."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found
