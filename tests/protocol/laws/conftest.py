"""The test environments of the laws, as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.laws.alongside import Alongside, is_real, runs_alongside
from tests.protocol.laws.fake_world import FakeWorld
from tests.protocol.laws.kafka_world import KafkaWorld
from tests.protocol.laws.world import World
from tests.support.stack import Databases, ServersForTests


@pytest.fixture(scope="session")
def alongside(
    request: pytest.FixtureRequest, servers: ServersForTests, databases: Databases
) -> Iterator[Alongside]:
    found = Alongside(request.session.items, servers, databases)
    yield found
    found.close()


@pytest.fixture
def kafka_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KafkaWorld | None]:
    """A real environment for one law. A law that runs alongside others has its own."""
    others: Alongside = request.getfixturevalue("alongside")
    if runs_alongside(request.node):
        yield None
        return
    others.wait_for_all()
    servers, url, prefix = (
        request.getfixturevalue(name) for name in ("servers", "database_url", "prefix")
    )
    with KafkaWorld(servers, url, prefix, tmp_path) as world:
        yield world


@pytest.fixture
def fake_world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture(params=["fake", "kafka"])
def world(request: pytest.FixtureRequest) -> World:
    """Both environments: each law holds in both."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not (is_real(pyfuncitem) and runs_alongside(pyfuncitem)):
        return None
    others: Alongside = pyfuncitem._request.getfixturevalue("alongside")
    others.result_of(pyfuncitem).result()
    return True
