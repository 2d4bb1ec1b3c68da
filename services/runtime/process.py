"""Runs a program as a process: logs, signals, health server, exit code. `run` is for a service of
lanes, which it puts together on Kafka and PostgreSQL; `run_process` is for any other.
"""

from __future__ import annotations

import ctypes
import gc
import os
import queue
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from services.runtime.errors import Fatal
from services.runtime.failures import classification
from services.runtime.kafka.client import KafkaClient
from services.runtime.kafka.cluster import configured
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.worker import Worker
from services.runtime.observability import logs
from services.runtime.observability.health import Health, HealthServer
from services.runtime.observability.logging_telemetry import LoggingTelemetry
from services.runtime.observability.telemetry import Telemetry
from services.runtime.observability.version import CODE_VERSION
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import PostgresLaneStore, Session
from services.runtime.postgres.session import check_role
from services.runtime.service import Service
from services.runtime.settings import (
    ConfigurationError,
    LaneSettings,
    Servers,
    load,
    refuse_start,
    variable,
)

VALUES_BETWEEN_COLLECTIONS = 100_000
M_TRIM_THRESHOLD, TRIM_BYTES = -1, 2**20  # as glibc's malloc.h names it
# As in sysexits.h: done; internal software error; temporary failure, since the next process has to
# do what is left. A wrong configuration is `settings.EX_CONFIG`.
EX_OK, EX_SOFTWARE, EX_TEMPFAIL = 0, 70, 75


class StopRequest:
    """Whether SIGTERM or SIGINT has requested that the process ends. The first signal counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.signal: int | None = None
        self.requested_at: float | None = None  # by the clock
        self._callbacks: list[Callable[[], None]] = []
        # A signal handler runs between any two steps of `wait`, so it must not need a lock that
        # `wait` may hold: `put` of this queue is reentrant, `set` of a threading.Event is not.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def is_set(self) -> bool:
        return self.signal is not None

    def catch_signals(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._request)

    def call_back(self, callback: Callable[[], None]) -> None:
        """Have the signal handler call this, or call it now if the signal has come."""
        self._callbacks.append(callback)
        if self.is_set:
            callback()

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until the request."""
        if not self.is_set:
            with suppress(queue.Empty):
                self._wakeups.get(timeout=seconds)

    def _request(self, signum: int, _frame: FrameType | None) -> None:
        if self.is_set:
            return
        self.signal, self.requested_at = signum, self._clock()
        self._wakeups.put(None)
        for callback in self._callbacks:
            callback()


class RunningProcess:
    """What a body works with: whether it shall stop, and its health."""

    def __init__(self, health: Health) -> None:
        self.health = health
        self.stop_request = StopRequest()

    @contextmanager
    def serving_health(
        self, host: str, port: int, setting: str, /, *, event: str = "started", **facts: object
    ) -> Iterator[None]:
        """Serve the health of the process, and log that it is started, with these facts.

        `setting` is the environment variable of the port. Raises PortUnavailable.
        """
        with HealthServer(port, self.health, host=host, setting=setting) as server:
            logs.get("process").info(
                event, **facts, health_port=server.port, version=CODE_VERSION, pid=os.getpid()
            )
            yield


def run_process(
    name: str,
    body: Callable[[RunningProcess], bool],
    *,
    log_level: str,
    live_seconds_max: float,
) -> int:
    """Run a body until it returns whether its end is clean: nothing is left to be done. Return the
    exit code.

    The body serves its health with `serving_health` and ends soon after `stop_request`. A Fatal
    that it raises is logged without a traceback, since its code names the runbook; a
    ConfigurationError is one line on stderr.
    """
    logs.configure(name, level=log_level)
    process = RunningProcess(Health(seconds_max=live_seconds_max))
    process.stop_request.catch_signals()
    try:
        is_clean = body(process)
    except ConfigurationError as error:
        refuse_start(error)
    except Fatal as error:
        return _log_fatal(error)
    signum = process.stop_request.signal
    logs.get("process").info("stopped", signal=signum, is_clean=is_clean)
    return EX_OK if is_clean else EX_TEMPFAIL


def _log_fatal(error: Fatal) -> int:
    logs.get("process").error("ended by a fatal error", code=error.code, error=logs.describe(error))
    return EX_SOFTWARE


def owner_name() -> str:
    """Return the name of this process in its lanes' rows. It is for people: the epoch decides."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_session(
    servers: Servers, settings: LaneSettings, name: str, *, group: str | None = None
) -> Session:
    """Open a database session with bounded waits.

    `group`: the consumer group whose rows it reads, if `name` is another.
    """
    opened = connection.connect(
        servers.database_url,
        name=name,
        transaction_timeout_ms=settings.transaction_timeout_ms,
        idle_ms=settings.idle_in_transaction_ms,
        lock_ms=settings.lock_timeout_ms,
        tcp_user_timeout_ms=settings.tcp_user_timeout_ms,
    )
    check_role(opened, group or name)
    return opened


def build(
    service: Service[Any, Session], servers: Servers, settings: LaneSettings, telemetry: Telemetry
) -> Worker[Session]:
    """Build a worker on Kafka and PostgreSQL. Its first iteration connects to the database."""
    lane_store = PostgresLaneStore(
        service.group,
        owner_name(),
        CODE_VERSION,
        lambda: open_session(servers, settings, service.group),
    )
    broker = KafkaClient(
        configured(servers.kafka_bootstrap_servers),
        service.group,
        owner_name(),
        delivery_timeout_ms=settings.delivery_timeout_ms,
    )
    return Worker(
        WorkerContext(
            service,
            broker,
            lane_store,
            settings,
            telemetry,
            classify=classification.classify_error,
            clock=time.monotonic,
            wall_clock=time.time,
            rng=random.random,
        )
    )


def collect_rarely() -> None:
    """Run the cyclic garbage collector rarely.

    Reference counting frees a batch's objects together with the batch. Searching them for cycles
    took a fifth of a stage's CPU: the objects of the start are never searched again, the others
    only after some hundred thousand more were allocated than freed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(VALUES_BETWEEN_COLLECTIONS, 10, 10)


def return_memory() -> None:
    """Have glibc return freed memory to the system; with another C library this does nothing.

    By default glibc raises its trim threshold with each freed block of a megabyte, and a stage with
    a lag grew by a third (seen in Bench B).
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def run(
    service: Service[Any, Session],
    settings: LaneSettings,
    telemetry: Callable[[str, Health], Telemetry] = LoggingTelemetry,
) -> int:
    """Run a service until SIGTERM or SIGINT, then publish what is committed, within the deadline.

    Returns the exit code.
    """

    def work(process: RunningProcess) -> bool:
        port_setting = variable(type(settings), "health_port")
        with process.serving_health(settings.health_host, settings.health_port, port_setting):
            worker = build(
                service, load(Servers), settings, telemetry(service.group, process.health)
            )
            collect_rarely()
            return_memory()
            while not process.stop_request.is_set:
                worker.step()
            return worker.stop(process.stop_request.requested_at)

    return run_process(
        service.group,
        work,
        log_level=settings.log_level,
        live_seconds_max=settings.live_seconds_max,
    )
