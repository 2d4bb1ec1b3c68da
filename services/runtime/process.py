"""A service as a process: settings in, signals handled, exit code out."""

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
EX_OK, EX_FATAL, EX_LEFT = (
    0,
    70,
    75,
)  # sysexits.h: done; internal software error; something is left for the next owner


def owner_name() -> str:
    """Who holds a lane, for people: the row's epoch, not this, decides."""
    return f"{socket.gethostname()}:{os.getpid()}"


def session(
    servers: Servers, settings: LaneSettings, name: str, *, group: str | None = None
) -> Session:
    """`group`: whose rows the session works on, if it is not called as its group is."""
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
    """The worker on the real log and ledger. Connections are opened by its first turn."""
    ledger = PostgresLedger(
        service.group, owner_name(), CODE_VERSION, lambda: session(servers, settings, service.group)
    )
    log = KafkaClient(
        configured(servers.kafka_bootstrap_servers),
        service.group,
        owner_name(),
        delivery_timeout_ms=settings.delivery_timeout_ms,
    )
    return Worker(
        WorkerContext(
            service,
            log,
            ledger,
            settings,
            telemetry,
            fault=failures.classify,
            clock=time.monotonic,
            wall=time.time,
        )
    )


def collect_rarely() -> None:
    """A batch's values die by their counts, with the batch. Searching them for rings took a fifth
    of a stage's CPU: what was there at the start is never searched again, and the rest only after
    some hundred thousand values more than died.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(VALUES_BETWEEN_COLLECTIONS, 10, 10)


def return_memory() -> None:
    """What fetches and batches leave goes back to the system. By itself glibc keeps ever more of
    it: freed blocks of a megabyte teach it to hold the next ones, and a stage that was behind grew
    by a third (seen in Bench B). Other libraries: nothing.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def run(
    service: Service[Any, Session],
    settings: LaneSettings,
    telemetry: Callable[[str, Health], Telemetry] = LoggingTelemetry,
) -> int:
    """Until SIGTERM or SIGINT: then what is committed is published, within the deadline. The answer
    is the exit code.
    """
    logs.configure(service.group, level=settings.log_level)
    log = logs.get("process")
    asked: list[tuple[int, float]] = []  # to stop: by which signal, and when

    def stop(signum: int, _frame: FrameType | None) -> None:
        asked.append((signum, time.monotonic()))

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    health = Health(seconds_max=settings.live_seconds_max)
    port_setting = variable(type(settings), "health_port")
    try:
        with HealthServer(
            settings.health_port, health, host=settings.health_host, setting=port_setting
        ) as door:
            log.info("started", health_port=door.port, version=CODE_VERSION, pid=os.getpid())
            worker = build(service, load(Servers), settings, telemetry(service.group, health))
            collect_rarely()
            return_memory()
            while not asked:
                worker.step()
            is_clean = worker.stop(asked[0][1])
    except Fatal as error:
        return ended_by(error)
    log.info("stopped", signal=asked[0][0], is_clean=is_clean)
    return EX_OK if is_clean else EX_LEFT


def ended_by(error: Fatal) -> int:
    """The code says it, and its runbook; a traceback adds nothing."""
    logs.get("process").error("ended by a fatal error", code=error.code, error=logs.describe(error))
    return EX_FATAL
