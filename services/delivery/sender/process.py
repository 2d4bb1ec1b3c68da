"""Puts a sender together from its settings, and runs it as a process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from services.delivery.blob_store import BlobStore
from services.delivery.document_cache import DocumentCache, DocumentRenderer
from services.delivery.errors import FilesUrlUnusable, SmtpUrlUnusable
from services.delivery.plate_store import PlateStore
from services.delivery.printing.errors import PlatesFolderUnusable
from services.delivery.rendering import configured_plate_cache
from services.delivery.sender.cleanup import FileCleanup
from services.delivery.sender.connections import Connections, ParkedJobs, WakeupSignal
from services.delivery.sender.housekeeping import HousekeepingTask
from services.delivery.sender.leases import LeaseRenewer
from services.delivery.sender.loop import Sender, SenderContext
from services.delivery.sender.mail import sender_identity
from services.delivery.sender.rules import RetryPolicy
from services.delivery.sender.smtp import SmtpChannel, SmtpServer, parse_smtp_url
from services.delivery.sender.store import JobQueue, PlannedSend
from services.delivery.sender.telemetry import SenderLoggingTelemetry, SenderTelemetry
from services.delivery.settings import DeliverySettings
from services.delivery.store import FileIndex
from services.runtime.failures.backoff import ExponentialDelay
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
        built = SenderBuilder(settings, load(Servers), external, telemetry)
        connections = built.connections(process.stop_request)
        built.lease_renewer.start()
        try:
            connections.run()
            return write_remaining(connections.all_senders, settings.stop_deadline_ms / SECOND)
        finally:
            built.lease_renewer.stop()
            for sender in connections.all_senders:
                sender.context.channel.close()
                sender.context.queue.close()


def write_remaining(senders: Sequence[Sender], seconds: float) -> bool:
    """Write the results for as long as there is time. A result that is not written is an attempt
    whose end is unknown.
    """
    deadline = time.monotonic() + seconds
    while not all(sender.is_settled for sender in senders) and time.monotonic() < deadline:
        try:
            for sender in senders:
                sender.write_results()
        except psycopg.Error:
            time.sleep(0.2)
    return all(sender.is_settled for sender in senders)


class SenderBuilder:
    """Builds the connections of a sender on real servers. Their first steps open what they need.

    They share the circuit breaker of the mail server, the renderer and the lease renewer.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        servers: Servers,
        external: ExternalServices,
        telemetry: SenderTelemetry,
    ) -> None:
        self.settings, self.servers, self.external = settings, servers, external
        self.telemetry, self.breaker = telemetry, circuit_breaker(settings)
        self.parked, self.wakeups = ParkedJobs(), WakeupSignal()
        self.lease_renewer = LeaseRenewer(
            self.job_queue("leases"),
            lease_s=settings.lease_ms / SECOND,
            work_s_max=settings.render_deadline_ms / SECOND,
        )

    def connections(self, stop_request: StopRequest) -> Connections:
        def sender(context: SenderContext) -> Sender:
            return Sender(context, lambda: stop_request.is_set)

        return Connections(
            [
                sender(self.context(is_first=number == 0, park=self.parked.put))
                for number in range(self.settings.connections)
            ],
            sender(self.context(is_first=False, park=lambda _: False)),
            self.parked,
            self.wakeups,
            stop_request,
            self.settings.idle_wait_ms / SECOND,
            self.settings.backoff_max_ms / SECOND,
        )

    def context(self, *, is_first: bool, park: Callable[[PlannedSend], bool]) -> SenderContext:
        """Return the context of one connection."""
        settings, queue = self.settings, self.job_queue("sender")

        def file_index() -> FileIndex:
            return FileIndex(queue.session)

        return SenderContext(
            queue=queue,
            channel=smtp_channel(settings, self.external.server),
            breaker=self.breaker,
            lease_renewer=self.lease_renewer,
            retry_policy=retry_policy(settings),
            identity=sender_identity(settings.sender_address, settings.reply_to),
            telemetry=self.telemetry,
            documents=document_cache(file_index, self.external, self.telemetry),
            document_scope=settings.document,
            clock=time.monotonic,
            rng=random.random,
            lease_jobs_max=settings.lease_jobs_max,
            lease_s=settings.lease_ms / SECOND,
            is_first=is_first,
            park=park,
            wake_another=self.wakeups.wake_one,
            housekeeping=self.housekeeping(queue, file_index) if is_first else lambda: None,
        )

    def housekeeping(
        self, queue: JobQueue, file_index: Callable[[], FileIndex]
    ) -> Callable[[], None]:
        cleanup = file_cleanup(self.settings, file_index, self.external.files, self.telemetry)
        return HousekeepingTask(queue, self.telemetry, cleanup, time.monotonic).step

    def job_queue(self, name: str) -> JobQueue:
        """Return a queue whose session is opened when it is needed."""
        return JobQueue(
            lambda: open_session(self.servers, self.settings, f"{GROUP}.{name}", group=GROUP),
            owner_name(),
            GROUP,
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
    shared = PlateStore(settings.files_url, lambda error: telemetry.file_failed("", error))

    def purge_plates() -> int:
        removed = shared.purge(settings.plates_keep_days)
        return removed + configured_plate_cache(settings).purge(settings.plates_keep_days)

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
