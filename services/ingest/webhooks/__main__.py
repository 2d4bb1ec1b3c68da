"""`python -m services.ingest.webhooks`: the door as a process. Needs KAFKA_BOOTSTRAP_SERVERS and
the sources file, no database.
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
from services.ingest.metrics import DOOR_SOURCES
from services.ingest.settings import IngestSettings
from services.ingest.webhooks.app import WebhookApp, WebhookHandler
from services.ingest.webhooks.certificates import CertificateCache
from services.ingest.webhooks.connection import OpenConnections
from services.ingest.webhooks.publisher import CallbackPublisher
from services.ingest.webhooks.readiness import WebhookReadiness
from services.runtime.errors import PortUnavailable
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.cluster import configured as configured_cluster
from services.runtime.observability import logs
from services.runtime.observability.health import Health, HealthServer, unavailable
from services.runtime.process import EX_FATAL, EX_OK, ended_by
from services.runtime.settings import EX_CONFIG, ConfigurationError, load, variable
from services.runtime.text import one_line
from services.runtime.version import CODE_VERSION

BACKLOG = 2_048
KEEP_ALIVE_S = 75
TELL_S = 1.0
STANDING_S = 0.2


class WebhookServer(uvicorn.Server):
    """Signals are ours: uvicorn would raise them again when it is done, and no clean end would have
    a clean exit code.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def refuse(why: str) -> NoReturn:
    print(one_line(f"configuration: {why}"), file=sys.stderr)  # noqa: T201 - before anything runs, and for a person
    raise SystemExit(EX_CONFIG)


def opened(settings: IngestSettings) -> dict[str, SourceConfig]:
    """The shops of the sources file, and which of them are not served, said loudly."""
    if settings.sources_file is None:
        refuse(
            "STUBLINE_INGEST_SOURCES_FILE is not set: the door must know its shops and their "
            "secrets"
        )
    try:
        found = sources_file.read(settings.sources_file)
    except ConfigurationError as error:
        refuse(str(error))
    for shop in found.values():
        if shop.refused is not None:
            logs.get("door").error("a source is not served", source=shop.slug, why=shop.refused)
    for slug, why in sources_file.doubts(found).items():
        logs.get("door").warning(
            "a source may speak of orders that nobody tells", source=slug, why=why
        )
    states = Counter("refused" if shop.refused else "served" for shop in found.values())
    for state in ("refused", "served"):
        DOOR_SOURCES.set(states[state], state=state)
    return found


async def serve(
    settings: IngestSettings,
    cluster: KafkaCluster,
    found: Mapping[str, SourceConfig],
    listening: socket.socket,
    certificates: CertificateCache,
    *,
    wall: Callable[[], float],
    health: Health,
) -> int:
    broken: list[str] = []

    def broke(why: str) -> None:
        broken.append(why)
        server.should_exit = True

    publisher = published_by(settings, cluster, broke, wall)
    callbacks = WebhookHandler(found, publisher, settings, certificates, wall)
    connections = OpenConnections(
        settings.door_connections_max, settings.door_headers_wait_ms / 1_000
    )
    server = WebhookServer(configured(WebhookApp(callbacks, publisher), settings, connections))
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, setattr, server, "should_exit", True)
    told = loop.create_task(telling(TELL_S, callbacks.tell, connections.tell))
    stands = loop.create_task(telling(STANDING_S, WebhookReadiness(publisher, health).look))
    await server.serve(sockets=[listening])
    told.cancel()
    stands.cancel()
    await publisher.close(settings.stop_deadline_ms / 2_000)
    if broken:
        code, _, _cause = broken[0].partition(": ")
        logs.get("door").error("ended by a fatal error", code=code, error=broken[0])
        return EX_FATAL
    return EX_OK


def published_by(
    settings: IngestSettings,
    cluster: KafkaCluster,
    on_fatal: Callable[[str], None],
    wall: Callable[[], float],
) -> CallbackPublisher:
    return CallbackPublisher(
        cluster,
        TOPIC,
        records_max=settings.door_in_flight_max,
        bytes_max=settings.door_in_flight_bytes_max,
        wait_s=settings.door_acknowledgement_wait_ms / 1_000,
        on_fatal=on_fatal,
        skew_warning_s=settings.door_clock_skew_warning_ms / 1_000,
        wall=wall,
    )


def configured(
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


async def telling(interval_s: float, *reports: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        for report in reports:
            report()


def listen(settings: IngestSettings) -> socket.socket:
    """At the public port. Raises PortUnavailable."""
    host, port = settings.door_host, settings.door_port
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise unavailable(host, port, variable(IngestSettings, "door_port"), error) from None


def main(
    certificates: CertificateCache | None = None, wall: Callable[[], float] = time.time
) -> int:
    """`certificates`: those that are known before any was fetched. `wall`: the time of day, in
    seconds since 1970.
    """
    settings, servers = load(IngestSettings), os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers:
        refuse("KAFKA_BOOTSTRAP_SERVERS is not set")
    cluster = configured_cluster(servers)
    logs.configure("stubline.ingest.door", level=settings.log_level)
    found = opened(settings)
    health = Health(seconds_max=settings.live_seconds_max)
    try:
        listening = listen(settings)
        health_server = HealthServer(
            settings.door_health_port,
            health,
            host=settings.health_host,
            setting=variable(IngestSettings, "door_health_port"),
        )
    except PortUnavailable as error:
        return ended_by(error)
    with health_server:
        ports = {"port": listening.getsockname()[1], "health_port": health_server.port}
        logs.get("door").info("opened", **ports, version=CODE_VERSION, sources=sorted(found))
        code = uvloop.run(
            serve(
                settings,
                cluster,
                found,
                listening,
                certificates or CertificateCache(),
                wall=wall,
                health=health,
            )
        )
    logs.get("door").info("closed", is_clean=code == EX_OK)
    return code


if __name__ == "__main__":
    sys.exit(main())
