"""A sender as a process: settings in, SIGTERM handled, exit code out."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType

import psycopg

from services.delivery.blob_store import BlobStore
from services.delivery.breaker import CircuitBreaker
from services.delivery.document_cache import DocumentCache, DocumentRenderer
from services.delivery.errors import FilesUrlUnusable, SmtpUrlUnusable
from services.delivery.printing.errors import PlatesFolderUnusable
from services.delivery.printer import shelf
from services.delivery.sender.cleanup import FileCleanup
from services.delivery.sender.leases import LeaseRenewer
from services.delivery.sender.loop import Sender, SenderContext
from services.delivery.sender.mail import letterhead
from services.delivery.sender.rules import RetryPolicy
from services.delivery.sender.smtp import SmtpChannel, SmtpServer, destination
from services.delivery.sender.store import JobQueue
from services.delivery.sender.telemetry import SenderLoggingTelemetry, SenderTelemetry
from services.delivery.settings import DeliverySettings
from services.delivery.store import FileIndex
from services.runtime import failures, process
from services.runtime.errors import Fatal
from services.runtime.observability import logs
from services.runtime.observability.health import Health, HealthServer
from services.runtime.settings import EX_CONFIG, Servers, load, variable
from services.runtime.version import CODE_VERSION

GROUP = "stubline.delivery"  # whose controls a sender obeys, and whose letters it writes
SECOND = 1_000
SETTING_OF = {
    SmtpUrlUnusable: "smtp_url",
    FilesUrlUnusable: "files_url",
    PlatesFolderUnusable: "plates_folder",
}


def build(
    settings: DeliverySettings,
    servers: Servers,
    where: SmtpServer,
    files: BlobStore,
    *,
    telemetry: SenderTelemetry,
    renderer: DocumentRenderer,
    is_ending: Callable[[], bool],
) -> tuple[Sender, SenderContext]:
    """A sender on real servers. Connections are opened by its first turn."""
    owner, lease_s = process.owner_name(), settings.lease_ms / SECOND

    def desk(name: str) -> JobQueue:
        return JobQueue(
            lambda: process.session(servers, settings, f"{GROUP}.{name}", group=GROUP), owner, GROUP
        )

    own = desk("sender")

    def register() -> FileIndex:
        return FileIndex(own.session)

    means = SenderContext(
        desk=own,
        channel=channel(settings, where),
        breaker=breaker(settings),
        heart=LeaseRenewer(
            desk("heart"), lease_s=lease_s, work_s_max=settings.render_deadline_ms / SECOND
        ),
        patience=patience(settings),
        letterhead=letterhead(settings.sender_address, settings.reply_to),
        telemetry=telemetry,
        archive=DocumentCache(register, files, renderer, telemetry, time.monotonic),
        janitor=janitor(settings, register, files, telemetry),
        per=settings.document,
        clock=time.monotonic,
        chance=random.random,
        lease_jobs_max=settings.lease_jobs_max,
        lease_s=lease_s,
    )
    return Sender(means, is_ending), means


def janitor(
    settings: DeliverySettings,
    register: Callable[[], FileIndex],
    files: BlobStore,
    telemetry: SenderTelemetry,
) -> FileCleanup:
    def plates() -> int:
        return shelf(settings).purge(settings.plates_keep_days)

    return FileCleanup(register, files, settings.files_keep_days, telemetry, time.monotonic, plates)


def channel(settings: DeliverySettings, where: SmtpServer) -> SmtpChannel:
    return SmtpChannel(
        where,
        timeout_s=settings.smtp_timeout_ms / SECOND,
        deadline_s=settings.mail_deadline_ms / SECOND,
        mails_max=settings.mails_per_connection_max,
    )


def breaker(settings: DeliverySettings) -> CircuitBreaker:
    waits_s = settings.breaker_min_ms / SECOND, settings.breaker_max_ms / SECOND
    return CircuitBreaker(settings.breaker_failures, *waits_s, time.monotonic, random.random)


def patience(settings: DeliverySettings) -> RetryPolicy:
    return RetryPolicy(
        settings.retry_min_ms / SECOND,
        settings.retry_max_ms / SECOND,
        settings.failures_max,
        timedelta(hours=settings.age_max_hours),
    )


def run(
    settings: DeliverySettings,
    printer: Callable[[DeliverySettings, SenderTelemetry], DocumentRenderer],
    telemetry: Callable[[Health], SenderTelemetry] = SenderLoggingTelemetry,
) -> int:
    """Until SIGTERM or SIGINT: the mail in hand is finished and written, the other jobs are given
    back.
    """
    logs.configure(f"{GROUP}.sender", level=settings.log_level)
    log = logs.get("process")
    health = Health(
        seconds_max=max(settings.live_seconds_max, settings.render_deadline_ms // SECOND)
    )
    told = telemetry(health)
    try:
        where, files, renderer = (
            destination(settings.smtp_url),
            BlobStore(settings.files_url),
            printer(settings, told),
        )
    except (SmtpUrlUnusable, FilesUrlUnusable, PlatesFolderUnusable) as error:
        name = variable(DeliverySettings, SETTING_OF[type(error)])
        print(f"configuration: {name}: {error.cause}. {error.next_step}", file=sys.stderr)  # noqa: T201 - as load does: before anything runs, and for a person
        return EX_CONFIG
    ending = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        ending.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    try:
        with HealthServer(
            settings.sender_health_port,
            health,
            host=settings.health_host,
            setting=variable(DeliverySettings, "sender_health_port"),
        ) as door:
            log.info(
                "started",
                health_port=door.port,
                version=CODE_VERSION,
                pid=os.getpid(),
                destination=where.name,
            )
            sender, means = build(
                settings,
                load(Servers),
                where,
                files,
                telemetry=told,
                renderer=renderer,
                is_ending=ending.is_set,
            )
            is_clean = sends(sender, means, settings, told, ending)
    except Fatal as error:
        return process.ended_by(error)
    log.info("stopped", is_clean=is_clean)
    return process.EX_OK if is_clean else process.EX_LEFT


def sends(
    sender: Sender,
    means: SenderContext,
    settings: DeliverySettings,
    told: SenderTelemetry,
    ending: threading.Event,
) -> bool:
    """Until it is asked to end. Whether nothing is left to be written."""
    means.heart.start()
    try:
        work(sender, means, settings, told, ending)
        return finish(sender, settings.stop_deadline_ms / SECOND)
    finally:
        means.heart.stop()
        means.channel.close()
        means.desk.close()


def work(
    sender: Sender,
    means: SenderContext,
    settings: DeliverySettings,
    told: SenderTelemetry,
    ending: threading.Event,
) -> None:
    """Turn after turn; the database's trouble is waited out."""
    vain = 0
    while not ending.is_set():
        try:
            busy = sender.turn()
            vain = 0
            if not busy:
                ending.wait(settings.idle_wait_ms / SECOND)
        except psycopg.Error as error:
            vain += 1
            wait_s = min(settings.outage_backoff_max_ms / SECOND, 0.1 * 2 ** min(vain, 10)) * (
                0.5 + random.random() / 2
            )
            told.trouble(error, wait_s)
            told.turned(is_ready=False, why=failures.code_of(error))
            means.desk.close()
            ending.wait(wait_s)


def finish(sender: Sender, seconds: float) -> bool:
    """Writes what has happened, as long as there is time for it. What is not written is an attempt
    of unknown end.
    """
    deadline = time.monotonic() + seconds
    while not sender.is_settled and time.monotonic() < deadline:
        try:
            sender.write_ends()
        except psycopg.Error:
            time.sleep(0.2)
    return sender.is_settled
