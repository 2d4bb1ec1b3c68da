"""Worlds for the laws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laws.kafka_world import KafkaWorld


@pytest.fixture
def kafka_world(bootstrap_servers: str, database_url: str, prefix: str, tmp_path: Path) -> Iterator[KafkaWorld]:
    """A real world for one test."""
    with KafkaWorld(bootstrap_servers, database_url, prefix, tmp_path) as world:
        yield world
