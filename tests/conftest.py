"""Fixtures of all tests: the servers, a database and names of its own for each; and `--pick`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer

from deploy.local.mail import Mail
from deploy.local.ports import kept_ports
from deploy.local.stack import Stack
from tests.support.side_by_side import Together
from tests.support.stack import Databases, ServersForTests, servers_for_tests

# How long an example takes depends on what else the machine does: no test has a deadline, and none
# is too slow to be drawn.
hypothesis.settings.register_profile(
    "stubline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("stubline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pick", help="a feature (SF-014), a service (issuer), or words of a test's name or path"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted: str | None = config.getoption("--pick")
    if not wanted:
        return
    selected = [item for item in items if picked(item, wanted)]
    config.hook.pytest_deselected(items=[item for item in items if item not in selected])
    items[:] = selected


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    return Together(config, log)


def picked(item: pytest.Item, wanted: str) -> bool:
    features = {feature for marker in item.iter_markers("feature") for feature in marker.args}
    return wanted in features or wanted in item.nodeid


@pytest.fixture(scope="session")
def servers() -> Iterator[ServersForTests]:
    """Kafka and PostgreSQL: those that the environment names, or a local stack for this run."""
    with servers_for_tests() as servers:
        yield servers


@pytest.fixture(scope="session")
def stack(servers: ServersForTests) -> Stack:
    """The local stack, for tests that stop and start servers and leave all of them running."""
    if servers.stack is None:
        pytest.skip("stops servers, which it may not do with those of the environment")
    return servers.stack


@pytest.fixture(scope="session")
def bootstrap_servers(servers: ServersForTests) -> str:
    return servers.bootstrap_servers


@pytest.fixture(scope="session")
def databases(servers: ServersForTests) -> Iterator[Databases]:
    """Databases for a module that needs one for all its tests: `with databases.new() as url`."""
    databases = Databases(servers.database_url)
    yield databases
    databases.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A migrated database for this test alone."""
    with databases.new() as url:
        yield url


@pytest.fixture
def prefix() -> str:
    """The prefix of this test's topics and groups, on a broker that all tests share."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[Mail]:
    """A mail server for this test alone: `mail.url`, `mail.mails()`, `mail.behave("tempfail")`."""
    server = Mail(tmp_path, kept_ports(tmp_path, ["smtp"])["smtp"], detached=False)
    server.start()
    yield server
    server.stop(immediate=True)
