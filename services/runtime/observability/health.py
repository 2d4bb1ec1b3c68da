"""Is the process alive, and should it get work? Asked by the keeper of the process, answered by its
loop.

/livez fails when the loop has not turned for too long: the keeper starts the process anew. /readyz
fails while the world is away or the service is paused: it says why, and nobody restarts anything.
/metrics is for Prometheus.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

from typing_extensions import override

from services.runtime.errors import PortUnavailable
from services.runtime.observability import logs, metrics

CLIENT_TIMEOUT_S = 5.0  # with a client that connects and says nothing


class HealthStatus(NamedTuple):
    """A reason beside `ok` takes nothing out of service: it is for people and monitors."""

    ok: bool
    reason: str

    @property
    def text(self) -> str:
        """The body of an answer that is `ok`."""
        return f"ok\ndegraded: {self.reason}\n" if self.reason else "ok\n"


class Health:
    """Written by the loop, read by the door's threads; each field is replaced whole, so no lock is
    needed.
    """

    def __init__(
        self, *, seconds_max: float = 30.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._seconds_max = seconds_max
        self._beaten_at = clock()
        self._ready = HealthStatus(ok=False, reason="starting")

    def beat(self) -> None:
        """The loop has turned."""
        self._beaten_at = self._clock()

    def ready(self, ok: bool, reason: str = "") -> None:  # noqa: FBT001 - reads as a sentence: ready(False, "paused")
        self._ready = HealthStatus(ok, reason)

    def livez(self) -> HealthStatus:
        seconds = self._clock() - self._beaten_at
        if seconds > self._seconds_max:
            return HealthStatus(
                ok=False,
                reason=(
                    f"the loop has not turned for {seconds:.0f} s; {self._seconds_max:.0f} s "
                    "are allowed"
                ),
            )
        return HealthStatus(ok=True, reason="")

    def readyz(self) -> HealthStatus:
        alive = self.livez()
        return self._ready if alive.ok else alive


class QuietHttpServer(ThreadingHTTPServer):
    """A client that hangs up is no error of ours; whatever else happens is a line in the log."""

    daemon_threads = True

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            logs.get("health").error("health request failed", exc_info=error)


class HealthServer:
    """A tiny HTTP server in threads of its own. `with Door(...) as door:` or `start` and `stop`."""

    def __init__(
        self, port: int, health: Health, *, host: str = "127.0.0.1", setting: str = ""
    ) -> None:
        """`setting`: where the port stands, for whoever reads that it is taken."""
        try:
            self._server = QuietHttpServer((host, port), _handler(health))
        except OSError as error:
            raise port_unavailable(host, port, setting, error) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="health", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on, also when it was asked for any."""
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


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S
        server_version = "stubline"
        sys_version = ""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/livez":
                    self._say(health.livez())
                case "/readyz":
                    self._say(health.readyz())
                case "/metrics":
                    self._send(
                        HTTPStatus.OK,
                        "text/plain; version=0.0.4; charset=utf-8",
                        metrics.exposition(),
                    )
                case _:
                    self._problem(
                        HTTPStatus.NOT_FOUND, "/livez, /readyz and /metrics are all there is"
                    )

        def _say(self, answer: HealthStatus) -> None:
            if answer.ok:
                self._send(HTTPStatus.OK, "text/plain; charset=utf-8", answer.text.encode())
            else:
                self._problem(HTTPStatus.SERVICE_UNAVAILABLE, answer.reason)

        def _problem(self, status: HTTPStatus, detail: str) -> None:
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
            """Probes come every few seconds: no line for each."""

    return Handler
