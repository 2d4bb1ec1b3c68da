"""A sender as a process: settings in, SIGTERM handled, exit code out."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType

import psycopg

from services.delivery.blob_store import BlobStore
from services.delivery.breaker import CircuitBreaker
from services.delivery.document_cache import DocumentCache, DocumentRenderer
from services.delivery.errors import FilesUrlUnusable, SmtpUrlUnusable
from services.delivery.printer import plate_cache
from services.delivery.printing.errors import PlatesFolderUnusable
from services.delivery.sender.cleanup import FileCleanup
from services.delivery.sender.leases import LeaseRenewer
from services.delivery.sender.loop import Sender, SenderContext
from services.delivery.sender.mail import sender_identity
from services.delivery.sender.rules import RetryPolicy
from services.delivery.sender.smtp import SmtpChannel, SmtpServer, parse_smtp_url
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

GROUP = "stubline.delivery"  # whose controls a sender obeys, and whose dead letters it writes
SECOND = 1_000
SETTING_OF = {
    SmtpUrlUnusable: "smtp_url",
    FilesUrlUnusable: "files_url",
    PlatesFolderUnusable: "plates_folder",
}
MakeRenderer = Callable[[DeliverySettings, SenderTelemetry], DocumentRenderer]


@dataclass(frozen=True, slots=True)
class Outside:
    """What a sender reaches besides the database: opened first, for a wrong setting ends it."""

    server: SmtpServer
    files: BlobStore
    renderer: DocumentRenderer


def run(
    settings: DeliverySettings,
    make_renderer: MakeRenderer,
    make_telemetry: Callable[[Health], SenderTelemetry] = SenderLoggingTelemetry,
) -> int:
    """Run until SIGTERM or SIGINT: the mail in hand is finished and recorded, the other jobs are
    released. Return the exit code.
    """
    logs.configure(f"{GROUP}.sender", level=settings.log_level)
    health = Health(
        seconds_max=max(settings.live_seconds_max, settings.render_deadline_ms // SECOND)
    )
    telemetry = make_telemetry(health)
    try:
        outside = Outside(
            parse_smtp_url(settings.smtp_url),
            BlobStore(settings.files_url),
            make_renderer(settings, telemetry),
        )
    except (SmtpUrlUnusable, FilesUrlUnusable, PlatesFolderUnusable) as error:
        name = variable(DeliverySettings, SETTING_OF[type(error)])
        print(f"configuration: {name}: {error.cause}. {error.next_step}", file=sys.stderr)  # noqa: T201 - as load does: before anything runs, and for a person
        return EX_CONFIG
    ending = set_at_signals()
    try:
        is_clean = serve(settings, outside, telemetry, health, ending)
    except Fatal as error:
        return process.log_fatal(error)
    logs.get("process").info("stopped", is_clean=is_clean)
    return process.EX_OK if is_clean else process.EX_UNPUBLISHED


def set_at_signals() -> threading.Event:
    """Return an event that is set at SIGTERM or SIGINT."""
    ending = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        ending.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    return ending


def serve(
    settings: DeliverySettings,
    outside: Outside,
    telemetry: SenderTelemetry,
    health: Health,
    ending: threading.Event,
) -> bool:
    """Send, with the health server beside it. Return whether every result is in the database."""
    with HealthServer(
        settings.sender_health_port,
        health,
        host=settings.health_host,
        setting=variable(DeliverySettings, "sender_health_port"),
    ) as health_server:
        logs.get("process").info(
            "started",
            health_port=health_server.port,
            version=CODE_VERSION,
            pid=os.getpid(),
            destination=outside.server.name,
        )
        context = sender_context(settings, load(Servers), outside, telemetry)
        sender = Sender(context, ending.is_set)
        context.lease_renewer.start()
        try:
            send_until_stopped(sender, context, settings, ending)
            return write_remaining(sender, settings.stop_deadline_ms / SECOND)
        finally:
            context.lease_renewer.stop()
            context.channel.close()
            context.queue.close()


def send_until_stopped(
    sender: Sender, context: SenderContext, settings: DeliverySettings, ending: threading.Event
) -> None:
    """Step after step; while the database is unavailable, back off."""
    outages = 0
    while not ending.is_set():
        try:
            is_busy = sender.step()
            outages = 0
            if not is_busy:
                ending.wait(settings.idle_wait_ms / SECOND)
        except psycopg.Error as error:
            outages += 1
            longest_s = min(settings.outage_backoff_max_ms / SECOND, 0.1 * 2 ** min(outages, 10))
            wait_s = longest_s * (0.5 + context.rng() / 2)
            context.telemetry.trouble(error, wait_s)
            context.telemetry.stepped(is_ready=False, reason=failures.code_of(error))
            context.queue.close()
            ending.wait(wait_s)


def write_remaining(sender: Sender, seconds: float) -> bool:
    """Write the results for as long as there is time. A result that is not written is an attempt
    whose end is unknown.
    """
    deadline = time.monotonic() + seconds
    while not sender.is_settled and time.monotonic() < deadline:
        try:
            sender.write_results()
        except psycopg.Error:
            time.sleep(0.2)
    return sender.is_settled


def sender_context(
    settings: DeliverySettings, servers: Servers, outside: Outside, telemetry: SenderTelemetry
) -> SenderContext:
    """Return a sender's context on real servers. The first step opens the connections."""
    owner, lease_s = process.owner_name(), settings.lease_ms / SECOND

    def job_queue(name: str) -> JobQueue:
        return JobQueue(
            lambda: process.open_session(servers, settings, f"{GROUP}.{name}", group=GROUP),
            owner,
            GROUP,
        )

    queue = job_queue("sender")

    def file_index() -> FileIndex:
        return FileIndex(queue.session)

    return SenderContext(
        queue=queue,
        channel=smtp_channel(settings, outside.server),
        breaker=circuit_breaker(settings),
        lease_renewer=LeaseRenewer(
            job_queue("leases"), lease_s=lease_s, work_s_max=settings.render_deadline_ms / SECOND
        ),
        retry_policy=retry_policy(settings),
        identity=sender_identity(settings.sender_address, settings.reply_to),
        telemetry=telemetry,
        documents=DocumentCache(
            file_index, outside.files, outside.renderer, telemetry, time.monotonic
        ),
        cleanup=file_cleanup(settings, file_index, outside.files, telemetry),
        document_scope=settings.document,
        clock=time.monotonic,
        rng=random.random,
        lease_jobs_max=settings.lease_jobs_max,
        lease_s=lease_s,
    )


def file_cleanup(
    settings: DeliverySettings,
    file_index: Callable[[], FileIndex],
    files: BlobStore,
    telemetry: SenderTelemetry,
) -> FileCleanup:
    def purge_plates() -> int:
        return plate_cache(settings).purge(settings.plates_keep_days)

    return FileCleanup(
        file_index, files, settings.files_keep_days, telemetry, time.monotonic, purge_plates
    )


def smtp_channel(settings: DeliverySettings, server: SmtpServer) -> SmtpChannel:
    return SmtpChannel(
        server,
        timeout_s=settings.smtp_timeout_ms / SECOND,
        deadline_s=settings.mail_deadline_ms / SECOND,
        mails_max=settings.mails_per_connection_max,
    )


def circuit_breaker(settings: DeliverySettings) -> CircuitBreaker:
    waits_s = settings.breaker_min_ms / SECOND, settings.breaker_max_ms / SECOND
    return CircuitBreaker(settings.breaker_failures, *waits_s, time.monotonic, random.random)


def retry_policy(settings: DeliverySettings) -> RetryPolicy:
    return RetryPolicy(
        settings.retry_min_ms / SECOND,
        settings.retry_max_ms / SECOND,
        settings.failures_max,
        timedelta(hours=settings.age_max_hours),
    )
