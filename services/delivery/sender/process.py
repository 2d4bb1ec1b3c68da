"""Puts a sender together from its settings, and runs it as a process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from services.delivery.blob_store import BlobStore
from services.delivery.document_cache import DocumentCache, DocumentRenderer
from services.delivery.errors import FilesUrlUnusable, SmtpUrlUnusable
from services.delivery.printing.errors import PlatesFolderUnusable
from services.delivery.rendering import configured_plate_cache
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
from services.runtime.failures import classification
from services.runtime.failures.backoff import Backoff, ExponentialDelay
from services.runtime.failures.circuit_breaker import CircuitBreaker
from services.runtime.observability.health import Health
from services.runtime.process import (
    RunningProcess,
    StopRequest,
    open_session,
    owner_name,
    run_process,
)
from services.runtime.settings import ConfigurationError, Servers, load, variable

GROUP = "stubline.delivery"  # whose controls a sender obeys, and whose dead letters it writes
SECOND = 1_000
SETTING_OF = {
    SmtpUrlUnusable: "smtp_url",
    FilesUrlUnusable: "files_url",
    PlatesFolderUnusable: "plates_folder",
}
MakeRenderer = Callable[[DeliverySettings, SenderTelemetry], DocumentRenderer]


@dataclass(frozen=True, slots=True)
class ExternalServices:
    """What a sender reaches besides the database. It is opened before anything runs, so a wrong
    setting ends the process at once.
    """

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

    def work(process: RunningProcess) -> bool:
        telemetry = make_telemetry(process.health)
        external = open_external(settings, make_renderer, telemetry)
        return serve(settings, external, telemetry, process)

    return run_process(
        f"{GROUP}.sender",
        work,
        log_level=settings.log_level,
        live_seconds_max=max(settings.live_seconds_max, settings.render_deadline_ms // SECOND),
    )


def open_external(
    settings: DeliverySettings, make_renderer: MakeRenderer, telemetry: SenderTelemetry
) -> ExternalServices:
    """Raises ConfigurationError if a setting cannot be used."""
    try:
        return ExternalServices(
            parse_smtp_url(settings.smtp_url),
            BlobStore(settings.files_url),
            make_renderer(settings, telemetry),
        )
    except (SmtpUrlUnusable, FilesUrlUnusable, PlatesFolderUnusable) as error:
        name = variable(DeliverySettings, SETTING_OF[type(error)])
        raise ConfigurationError(f"{name}: {error.cause}. {error.next_step}") from None


def serve(
    settings: DeliverySettings,
    external: ExternalServices,
    telemetry: SenderTelemetry,
    process: RunningProcess,
) -> bool:
    """Send, with the health server beside it. Return whether every result is in the database."""
    with process.serving_health(
        settings.health_host,
        settings.sender_health_port,
        variable(DeliverySettings, "sender_health_port"),
        destination=external.server.name,
    ):
        context = sender_context(settings, load(Servers), external, telemetry)
        stop_request = process.stop_request
        sender = Sender(context, lambda: stop_request.is_set)
        context.lease_renewer.start()
        try:
            send_until_stopped(sender, context, settings, stop_request)
            return write_remaining(sender, settings.stop_deadline_ms / SECOND)
        finally:
            context.lease_renewer.stop()
            context.channel.close()
            context.queue.close()


def send_until_stopped(
    sender: Sender, context: SenderContext, settings: DeliverySettings, stop_request: StopRequest
) -> None:
    """Step after step; while the database is unavailable, back off."""
    backoff = Backoff(settings.backoff_max_ms / SECOND, context.rng)
    while not stop_request.is_set:
        try:
            is_busy = sender.step()
            backoff.record_success(context.clock())
            if not is_busy:
                stop_request.wait(settings.idle_wait_ms / SECOND)
        except psycopg.Error as error:
            code = classification.code_of(error)
            wait_s = backoff.record_failure(code, context.clock())
            context.telemetry.database_unavailable(error, wait_s)
            context.telemetry.iteration_done(is_ready=False, reason=code)
            context.queue.close()
            stop_request.wait(wait_s)


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
    settings: DeliverySettings,
    servers: Servers,
    external: ExternalServices,
    telemetry: SenderTelemetry,
) -> SenderContext:
    """Return a sender's context on real servers. The first step opens the connections."""
    lease_s = settings.lease_ms / SECOND

    def job_queue(name: str) -> JobQueue:
        return JobQueue(
            lambda: open_session(servers, settings, f"{GROUP}.{name}", group=GROUP),
            owner_name(),
            GROUP,
        )

    queue = job_queue("sender")

    def file_index() -> FileIndex:
        return FileIndex(queue.session)

    return SenderContext(
        queue=queue,
        channel=smtp_channel(settings, external.server),
        breaker=circuit_breaker(settings),
        lease_renewer=LeaseRenewer(
            job_queue("leases"), lease_s=lease_s, work_s_max=settings.render_deadline_ms / SECOND
        ),
        retry_policy=retry_policy(settings),
        identity=sender_identity(settings.sender_address, settings.reply_to),
        telemetry=telemetry,
        documents=document_cache(file_index, external, telemetry),
        cleanup=file_cleanup(settings, file_index, external.files, telemetry),
        document_scope=settings.document,
        clock=time.monotonic,
        rng=random.random,
        lease_jobs_max=settings.lease_jobs_max,
        lease_s=lease_s,
    )


def document_cache(
    file_index: Callable[[], FileIndex], external: ExternalServices, telemetry: SenderTelemetry
) -> DocumentCache:
    return DocumentCache(file_index, external.files, external.renderer, telemetry, time.monotonic)


def file_cleanup(
    settings: DeliverySettings,
    file_index: Callable[[], FileIndex],
    files: BlobStore,
    telemetry: SenderTelemetry,
) -> FileCleanup:
    def purge_plates() -> int:
        return configured_plate_cache(settings).purge(settings.plates_keep_days)

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
    delay = ExponentialDelay(settings.breaker_min_ms / SECOND, settings.breaker_max_ms / SECOND)
    return CircuitBreaker(settings.breaker_failures, delay, time.monotonic, random.random)


def retry_policy(settings: DeliverySettings) -> RetryPolicy:
    return RetryPolicy(
        ExponentialDelay(settings.retry_min_ms / SECOND, settings.retry_max_ms / SECOND),
        settings.failures_max,
        timedelta(hours=settings.age_max_hours),
    )
