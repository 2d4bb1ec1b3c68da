"""Fixtures of several integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.runtime.postgres import connection
from services.runtime.postgres.ledger import Session


@pytest.fixture
def session(database_url: str, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session of the test's own database, named after its module; the test commits."""
    name = request.module.__name__.rpartition(".")[2].replace("_", " ")
    with connection.connect(database_url, name=name, autocommit=False) as opened:
        yield opened
