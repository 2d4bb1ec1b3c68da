"""`python -m services.ingest.webhooks`: the webhook endpoint as a process. It needs
KAFKA_BOOTSTRAP_SERVERS and the sources file, and no database.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import uvicorn
import uvloop

from schemas.callbacks import TOPIC
from services.ingest.config import sources_file
from services.ingest.config.sources_file import SourceConfig
from services.ingest.metrics import WEBHOOK_SOURCES
from services.ingest.settings import IngestSettings
from services.ingest.webhooks.app import WebhookApp, WebhookHandler
from services.ingest.webhooks.certificates import CertificateCache
from services.ingest.webhooks.connections import OpenConnections
from services.ingest.webhooks.publisher import CallbackPublisher
from services.ingest.webhooks.readiness import WebhookReadiness
from services.runtime.errors import Fatal
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.cluster import configured as configured_cluster
from services.runtime.observability import logs
from services.runtime.observability.health import port_unavailable
from services.runtime.process import RunningProcess, run_process
from services.runtime.settings import ConfigurationError, load, variable

BACKLOG = 2_048
KEEP_ALIVE_S = 75
REPORT_S = 1.0
READINESS_CHECK_S = 0.2


class WebhookServer(uvicorn.Server):
    """uvicorn without its signal handlers: it would raise the signals again at its end, and a clean
    end would have no clean exit code.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def read_sources(settings: IngestSettings) -> dict[str, SourceConfig]:
    """Return the sources of the file, and log those that are not served. Raises
    ConfigurationError.
    """
    if settings.sources_file is None:
        raise ConfigurationError(
            "STUBLINE_INGEST_SOURCES_FILE is not set: the webhook endpoint needs its sources and "
            "their secrets"
        )
    configs = sources_file.read(settings.sources_file)
    for config in configs.values():
        if config.refusal is not None:
            logs.get("webhooks").error("source not served", source=config.slug, why=config.refusal)
    for slug, why in sources_file.warnings(configs).items():
        logs.get("webhooks").warning("orders of an unknown source", source=slug, why=why)
    states = Counter("refused" if config.refusal else "served" for config in configs.values())
    for state in ("refused", "served"):
        WEBHOOK_SOURCES.set(states[state], state=state)
    return configs


async def serve(
    settings: IngestSettings,
    cluster: KafkaCluster,
    configs: Mapping[str, SourceConfig],
    listening: socket.socket,
    certificates: CertificateCache,
    *,
    wall: Callable[[], float],
    process: RunningProcess,
) -> None:
    """Serve until the process is to stop. Raises Fatal when the producer has failed for good."""
    fatal_errors: list[Fatal] = []

    def stop() -> None:
        server.should_exit = True

    def on_fatal(error: Fatal) -> None:
        fatal_errors.append(error)
        stop()

    publisher = callback_publisher(settings, cluster, on_fatal, wall)
    handler = WebhookHandler(configs, publisher, settings, certificates, wall)
    connections = OpenConnections(
        settings.webhook_connections_max, settings.webhook_headers_wait_ms / 1_000
    )
    server = WebhookServer(uvicorn_config(WebhookApp(handler, publisher), settings, connections))
    process.stop_request.call_back(stop)
    loop = asyncio.get_running_loop()
    reporting = loop.create_task(run_periodically(REPORT_S, handler.report, connections.report))
    readiness = loop.create_task(
        run_periodically(READINESS_CHECK_S, WebhookReadiness(publisher, process.health).check)
    )
    await server.serve(sockets=[listening])
    reporting.cancel()
    readiness.cancel()
    await publisher.close(settings.stop_deadline_ms / 2_000)
    if fatal_errors:
        raise fatal_errors[0]


def callback_publisher(
    settings: IngestSettings,
    cluster: KafkaCluster,
    on_fatal: Callable[[Fatal], None],
    wall: Callable[[], float],
) -> CallbackPublisher:
    return CallbackPublisher(
        cluster,
        TOPIC,
        records_max=settings.webhook_in_flight_max,
        bytes_max=settings.webhook_in_flight_bytes_max,
        wait_s=settings.webhook_acknowledgement_wait_ms / 1_000,
        on_fatal=on_fatal,
        skew_warning_s=settings.webhook_clock_skew_warning_ms / 1_000,
        wall=wall,
    )


def uvicorn_config(
    api: WebhookApp, settings: IngestSettings, connections: OpenConnections
) -> uvicorn.Config:
    return uvicorn.Config(
        api,
        http=connections.protocol(),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, settings.stop_deadline_ms // 2_000),
    )


async def run_periodically(interval_s: float, *reports: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        for report in reports:
            report()


def listen(settings: IngestSettings) -> socket.socket:
    """Bind the public port. Raises PortUnavailable."""
    host, port = settings.webhook_host, settings.webhook_port
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise port_unavailable(
            host, port, variable(IngestSettings, "webhook_port"), error
        ) from None


def run(
    settings: IngestSettings,
    certificates: CertificateCache,
    wall: Callable[[], float],
    process: RunningProcess,
) -> None:
    """Listen, with the health server beside it, until the process is to stop. Raises
    ConfigurationError.
    """
    if not (servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS")):
        raise ConfigurationError("KAFKA_BOOTSTRAP_SERVERS is not set")
    cluster = configured_cluster(servers)
    configs = read_sources(settings)
    listening = listen(settings)
    with process.serving_health(
        settings.health_host,
        settings.webhook_health_port,
        variable(IngestSettings, "webhook_health_port"),
        event="listening",
        port=listening.getsockname()[1],
        sources=sorted(configs),
    ):
        serving = serve(
            settings, cluster, configs, listening, certificates, wall=wall, process=process
        )
        uvloop.run(serving)


def main(
    certificates: CertificateCache | None = None, wall: Callable[[], float] = time.time
) -> int:
    """Run until a signal. `certificates` holds those known before any fetch; `wall` is the time of
    day in seconds since 1970.
    """
    settings = load(IngestSettings)

    def body(process: RunningProcess) -> bool:
        run(settings, certificates or CertificateCache(), wall, process)
        return True

    return run_process(
        "stubline.ingest.webhooks",
        body,
        log_level=settings.log_level,
        live_seconds_max=settings.live_seconds_max,
    )


if __name__ == "__main__":
    sys.exit(main())
