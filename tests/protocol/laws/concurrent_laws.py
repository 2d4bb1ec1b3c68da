"""Runs several laws concurrently, since most of their time they wait for a group session to end.

These are the laws on real servers that stop none of them. pytest still names and reports each law;
its item only waits for the result. A law that stops a server, or measures seconds, is `alone`.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import pytest

from tests.protocol.laws.kafka_system import KafkaSystem
from tests.support.stack import Databases, ServersForTests

AT_ONCE = 4
LAWS = Path(__file__).parent
F = TypeVar("F", bound=Callable[..., None])


def alone(law: F) -> F:
    """Mark a law that must run without others beside it."""
    law.__dict__["alone"] = True
    return law


def is_real(item: pytest.Item) -> bool:
    """Return whether a law runs on Kafka."""
    if (
        not isinstance(item, pytest.Function)
        or item.path.parent != LAWS
        or "kafka_system" not in item.fixturenames
    ):
        callspec = getattr(item, "callspec", None)
        return callspec is not None and callspec.params.get("system") == "kafka"
    return True


def runs_concurrently(item: pytest.Item) -> bool:
    return (
        isinstance(item, pytest.Function)
        and is_real(item)
        and not item.function.__dict__.get("alone")
    )


class ConcurrentLaws:
    """The laws of this session that run at once. They start when it is created."""

    def __init__(
        self, items: list[pytest.Item], servers: ServersForTests, databases: Databases
    ) -> None:
        self._servers, self._databases = servers, databases
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="law")
        self._results = {
            item.nodeid: self._pool.submit(self._play, item)
            for item in items
            if runs_concurrently(item)
        }

    def _play(self, item: pytest.Item) -> None:
        assert isinstance(item, pytest.Function)
        callspec = getattr(item, "callspec", None)
        arguments = (
            {name: value for name, value in callspec.params.items() if name != "system"}
            if callspec
            else {}
        )
        with self._lock:
            database = self._databases.new()
            url = database.__enter__()
        try:
            with tempfile.TemporaryDirectory() as folder:
                prefix = f"t{secrets.token_hex(4)}"
                with KafkaSystem(self._servers, url, prefix, Path(folder)) as system:
                    item.function(system, **arguments)
        finally:
            with self._lock:
                database.__exit__(None, None, None)

    def result_of(self, item: pytest.Item) -> Future[None]:
        return self._results[item.nodeid]

    def wait_for_all(self) -> None:
        wait(self._results.values())

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
