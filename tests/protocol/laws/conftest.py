"""Fixtures of the laws: the systems under test, in memory and on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.laws.concurrent_laws import ConcurrentLaws, is_real, runs_concurrently
from tests.protocol.laws.fake_system import FakeSystem
from tests.protocol.laws.kafka_system import KafkaSystem
from tests.protocol.laws.system import System
from tests.support.stack import Databases, ServersForTests


@pytest.fixture(scope="session")
def concurrent_laws(
    request: pytest.FixtureRequest, servers: ServersForTests, databases: Databases
) -> Iterator[ConcurrentLaws]:
    laws = ConcurrentLaws(request.session.items, servers, databases)
    yield laws
    laws.close()


@pytest.fixture
def kafka_system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KafkaSystem | None]:
    """A real system for one law. A law that runs concurrently with others has its own."""
    others: ConcurrentLaws = request.getfixturevalue("concurrent_laws")
    if runs_concurrently(request.node):
        yield None
        return
    others.wait_for_all()
    servers, url, prefix = (
        request.getfixturevalue(name) for name in ("servers", "database_url", "prefix")
    )
    with KafkaSystem(servers, url, prefix, tmp_path) as system:
        yield system


@pytest.fixture
def fake_system() -> FakeSystem:
    return FakeSystem()


@pytest.fixture(params=["fake", "kafka"])
def system(request: pytest.FixtureRequest) -> System:
    """Both systems: each law holds in both."""
    chosen: System = request.getfixturevalue(f"{request.param}_system")
    return chosen


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not (is_real(pyfuncitem) and runs_concurrently(pyfuncitem)):
        return None
    others: ConcurrentLaws = pyfuncitem._request.getfixturevalue("concurrent_laws")
    others.result_of(pyfuncitem).result()
    return True
