"""Runs a service as a process: reads settings, handles signals, returns an exit code."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from services.runtime import failures
from services.runtime.errors import Fatal
from services.runtime.kafka.client import KafkaClient
from services.runtime.kafka.cluster import configured
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.worker import Worker
from services.runtime.observability import logs
from services.runtime.observability.health import Health, HealthServer
from services.runtime.observability.logging_telemetry import LoggingTelemetry
from services.runtime.observability.telemetry import Telemetry
from services.runtime.postgres import connection
from services.runtime.postgres.ledger import PostgresLedger, Session
from services.runtime.postgres.session import check_role
from services.runtime.service import Service
from services.runtime.settings import LaneSettings, Servers, load, variable
from services.runtime.version import CODE_VERSION

VALUES_BETWEEN_COLLECTIONS = 100_000
M_TRIM_THRESHOLD, TRIM_BYTES = -1, 2**20  # as glibc's malloc.h names it
# As in sysexits.h: done; internal software error; temporary failure: the next owner publishes the
# outputs that are left in the rows.
EX_OK, EX_FATAL, EX_UNPUBLISHED = 0, 70, 75


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
    ledger = PostgresLedger(
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
            ledger,
            settings,
            telemetry,
            classify=failures.classify,
            clock=time.monotonic,
            wall_clock=time.time,
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

    By default glibc raises its trim threshold with each freed block of a megabyte, and a stage that
    was behind grew by a third (seen in Bench B).
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
    logs.configure(service.group, level=settings.log_level)
    log = logs.get("process")
    stop_requests: list[tuple[int, float]] = []  # signal and time

    def stop(signum: int, _frame: FrameType | None) -> None:
        stop_requests.append((signum, time.monotonic()))

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    health = Health(seconds_max=settings.live_seconds_max)
    port_setting = variable(type(settings), "health_port")
    try:
        with HealthServer(
            settings.health_port, health, host=settings.health_host, setting=port_setting
        ) as server:
            log.info("started", health_port=server.port, version=CODE_VERSION, pid=os.getpid())
            worker = build(service, load(Servers), settings, telemetry(service.group, health))
            collect_rarely()
            return_memory()
            while not stop_requests:
                worker.step()
            is_clean = worker.stop(stop_requests[0][1])
    except Fatal as error:
        return log_fatal(error)
    log.info("stopped", signal=stop_requests[0][0], is_clean=is_clean)
    return EX_OK if is_clean else EX_UNPUBLISHED


def log_fatal(error: Fatal) -> int:
    """Log a fatal error without a traceback, since its code names the runbook. Returns the exit
    code.
    """
    logs.get("process").error("ended by a fatal error", code=error.code, error=logs.describe(error))
    return EX_FATAL
