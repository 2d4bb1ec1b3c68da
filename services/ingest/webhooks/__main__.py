"""`python -m services.ingest.webhooks`: the webhook endpoint as a process. It needs
KAFKA_BOOTSTRAP_SERVERS and the sources file, and no database.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import uvicorn
import uvloop

from schemas.callbacks import TOPIC
from services.ingest.config import sources_file
from services.ingest.config.sources_file import SourceConfig
from services.ingest.errors import WebhookProducerFailed
from services.ingest.metrics import WEBHOOK_SOURCES
from services.ingest.settings import IngestSettings
from services.ingest.webhooks.app import WebhookApp, WebhookHandler
from services.ingest.webhooks.certificates import CertificateCache
from services.ingest.webhooks.connections import OpenConnections
from services.ingest.webhooks.publisher import CallbackPublisher
from services.ingest.webhooks.readiness import WebhookReadiness
from services.runtime.errors import PortUnavailable
from services.runtime.observability import logs
from services.runtime.observability.health import Health, HealthServer, unavailable
from services.runtime.process import EX_FATAL, EX_OK, ended_by
from services.runtime.settings import EX_CONFIG, ConfigurationError, load, variable
from services.runtime.text import one_line
from services.runtime.version import CODE_VERSION

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


def refuse(why: str) -> NoReturn:
    print(one_line(f"configuration: {why}"), file=sys.stderr)  # noqa: T201 - before anything runs, and for a person
    raise SystemExit(EX_CONFIG)


def read_sources(settings: IngestSettings) -> dict[str, SourceConfig]:
    """Return the sources of the file, and log those that are not served."""
    if settings.sources_file is None:
        refuse(
            "STUBLINE_INGEST_SOURCES_FILE is not set: the webhook endpoint needs its sources and "
            "their secrets"
        )
    try:
        configs = sources_file.read(settings.sources_file)
    except ConfigurationError as error:
        refuse(str(error))
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
    servers: str,
    configs: Mapping[str, SourceConfig],
    listening: socket.socket,
    certificates: CertificateCache,
    *,
    wall: Callable[[], float],
    health: Health,
) -> int:
    fatal_errors: list[str] = []

    def on_fatal(why: str) -> None:
        fatal_errors.append(why)
        server.should_exit = True

    publisher = callback_publisher(settings, servers, on_fatal, wall)
    handler = WebhookHandler(configs, publisher, settings, certificates, wall)
    connections = OpenConnections(
        settings.webhook_connections_max, settings.webhook_headers_wait_ms / 1_000
    )
    server = WebhookServer(uvicorn_config(WebhookApp(handler, publisher), settings, connections))
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, setattr, server, "should_exit", True)
    reporting = loop.create_task(run_periodically(REPORT_S, handler.report, connections.report))
    readiness = loop.create_task(
        run_periodically(READINESS_CHECK_S, WebhookReadiness(publisher, health).check)
    )
    await server.serve(sockets=[listening])
    reporting.cancel()
    readiness.cancel()
    await publisher.close(settings.stop_deadline_ms / 2_000)
    if fatal_errors:
        logs.get("webhooks").error(
            "ended by a fatal error", code=WebhookProducerFailed.code, error=fatal_errors[0]
        )
        return EX_FATAL
    return EX_OK


def callback_publisher(
    settings: IngestSettings,
    servers: str,
    on_fatal: Callable[[str], None],
    wall: Callable[[], float],
) -> CallbackPublisher:
    return CallbackPublisher(
        servers,
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
        raise unavailable(host, port, variable(IngestSettings, "webhook_port"), error) from None


def main(
    certificates: CertificateCache | None = None, wall: Callable[[], float] = time.time
) -> int:
    """Run until a signal. `certificates` holds those known before any fetch; `wall` is the time of
    day in seconds since 1970.
    """
    settings, servers = load(IngestSettings), os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers:
        refuse("KAFKA_BOOTSTRAP_SERVERS is not set")
    logs.configure("stubline.ingest.webhooks", level=settings.log_level)
    found = read_sources(settings)
    health = Health(seconds_max=settings.live_seconds_max)
    try:
        listening = listen(settings)
        health_server = HealthServer(
            settings.webhook_health_port,
            health,
            host=settings.health_host,
            setting=variable(IngestSettings, "webhook_health_port"),
        )
    except PortUnavailable as error:
        return ended_by(error)
    with health_server:
        ports = {"port": listening.getsockname()[1], "health_port": health_server.port}
        logs.get("webhooks").info("listening", **ports, version=CODE_VERSION, sources=sorted(found))
        code = uvloop.run(
            serve(
                settings,
                servers,
                found,
                listening,
                certificates or CertificateCache(),
                wall=wall,
                health=health,
            )
        )
    logs.get("webhooks").info("stopped", is_clean=code == EX_OK)
    return code


if __name__ == "__main__":
    sys.exit(main())
