"""One pipeline for all acceptance tests: servers, webhook endpoint, four workers, two senders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack
from tests.support.stubline import Stubline, piped


@pytest.fixture(scope="session")
def pipeline_stack() -> Iterator[Stack]:
    """Servers of their own: these tests own every topic on them."""
    with Stack.temporary() as stack:
        yield stack


@pytest.fixture(scope="session")
def stubline(pipeline_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stubline]:
    with piped(pipeline_stack, tmp_path_factory.mktemp("stubline")) as stubline:
        yield stubline
