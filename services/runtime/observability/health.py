"""The health server: /livez, /readyz and /metrics.

/livez fails if the loop has not finished an iteration for too long, so that the supervisor restarts
the process. /readyz fails, with the reason, while a dependency is unavailable or the service is
paused; a restart would not help. /metrics is for Prometheus.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

from typing_extensions import override

from services.runtime.errors import PortUnavailable
from services.runtime.observability import logs, metrics

CLIENT_TIMEOUT_S = 5.0  # for a client that connects and sends nothing


class HealthStatus(NamedTuple):
    """`ok` with a reason means degraded: it stays in service, people and monitors see why."""

    ok: bool
    reason: str

    @property
    def text(self) -> str:
        """The body of a response that is `ok`."""
        return f"ok\ndegraded: {self.reason}\n" if self.reason else "ok\n"


class Health:
    """The state of the process, written by its loop and read by the health server's threads.

    Each field is replaced as a whole, so no lock is needed.
    """

    def __init__(
        self, *, seconds_max: float = 30.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._seconds_max = seconds_max
        self._beaten_at = clock()
        self._ready = HealthStatus(ok=False, reason="starting")

    def beat(self) -> None:
        """Note that the loop finished an iteration."""
        self._beaten_at = self._clock()

    def ready(self, ok: bool, reason: str = "") -> None:  # noqa: FBT001 - reads as a sentence: ready(False, "paused")
        self._ready = HealthStatus(ok, reason)

    def livez(self) -> HealthStatus:
        seconds = self._clock() - self._beaten_at
        if seconds > self._seconds_max:
            return HealthStatus(
                ok=False,
                reason=(
                    f"the loop has not finished an iteration for {seconds:.0f} s; "
                    f"{self._seconds_max:.0f} s are allowed"
                ),
            )
        return HealthStatus(ok=True, reason="")

    def readyz(self) -> HealthStatus:
        alive = self.livez()
        return self._ready if alive.ok else alive


class QuietHttpServer(ThreadingHTTPServer):
    """Ignores clients that hang up, and logs every other error."""

    daemon_threads = True

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            logs.get("health").error("health request failed", exc_info=error)


class HealthServer:
    """A small HTTP server in threads of its own. Use it with `with`, or `start` and `stop` it."""

    def __init__(
        self, port: int, health: Health, *, host: str = "127.0.0.1", setting: str = ""
    ) -> None:
        """`setting`: the environment variable of the port, for the error if it is in use."""
        try:
            self._server = QuietHttpServer((host, port), partial(HealthRequestHandler, health))
        except OSError as error:
            raise port_unavailable(host, port, setting, error) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="health", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on, also if port 0 was requested."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(CLIENT_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def port_unavailable(host: str, port: int, setting: str, error: OSError) -> PortUnavailable:
    named = f" ({setting})" if setting else ""
    return PortUnavailable(
        f"{host}:{port}{named}: {os.strerror(error.errno) if error.errno else error}"
    )


class HealthRequestHandler(BaseHTTPRequestHandler):
    """Answers one connection of the health server."""

    timeout = CLIENT_TIMEOUT_S
    server_version = "stubline"
    sys_version = ""

    def __init__(self, health: Health, *connection: Any) -> None:
        self._health = health
        super().__init__(*connection)  # handles the requests

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/livez":
                self._send_status(self._health.livez())
            case "/readyz":
                self._send_status(self._health.readyz())
            case "/metrics":
                content_type = "text/plain; version=0.0.4; charset=utf-8"
                self._send(HTTPStatus.OK, content_type, metrics.exposition())
            case _:
                self._send_problem(
                    HTTPStatus.NOT_FOUND, "there are only /livez, /readyz and /metrics"
                )

    def _send_status(self, status: HealthStatus) -> None:
        if status.ok:
            self._send(HTTPStatus.OK, "text/plain; charset=utf-8", status.text.encode())
        else:
            self._send_problem(HTTPStatus.SERVICE_UNAVAILABLE, status.reason)

    def _send_problem(self, status: HTTPStatus, detail: str) -> None:
        body = {"title": status.phrase, "status": status.value, "detail": detail}
        self._send(status, "application/problem+json", json.dumps(body).encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
        """Log nothing: probes come every few seconds."""
