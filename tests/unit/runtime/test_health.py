"""Laws of the health server: alive while the loop iterates, ready while dependencies respond, and a
reason if not.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection

from services.runtime.observability import metrics
from services.runtime.observability.health import Health, HealthServer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def get(server: HealthServer, path: str) -> tuple[int, str, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers["Content-Type"], body


def test_a_loop_that_iterates_is_alive_and_one_that_hangs_is_not() -> None:
    clock = Clock()
    health = Health(seconds_max=30, clock=clock)
    clock.now += 30
    assert health.livez().ok
    clock.now += 0.1
    assert not health.livez().ok
    health.beat()
    assert health.livez().ok


def test_a_process_that_is_dead_is_not_ready_either() -> None:
    clock = Clock()
    health = Health(seconds_max=30, clock=clock)
    health.ready(ok=True)
    assert health.readyz().ok
    clock.now += 31
    assert "has not finished an iteration for 31 s" in health.readyz().reason


def test_a_new_process_is_alive_and_not_ready() -> None:
    health = Health()
    with HealthServer(0, health) as server:
        assert get(server, "/livez")[0] == 200
        status, content_type, body = get(server, "/readyz")
    assert (status, content_type, json.loads(body)["detail"]) == (
        503,
        "application/problem+json",
        "starting",
    )


def test_the_health_server_gives_the_reason() -> None:
    health = Health()
    with HealthServer(0, health) as server:
        health.ready(ok=True)
        assert get(server, "/readyz") == (200, "text/plain; charset=utf-8", b"ok\n")
        health.ready(ok=False, reason="database-unavailable: connection refused")
        assert (
            json.loads(get(server, "/readyz?verbose=1")[2])["detail"]
            == "database-unavailable: connection refused"
        )
        assert get(server, "/else")[0] == 404
        assert get(server, "/metrics")[2] == metrics.exposition()


def test_a_client_that_sends_nothing_delays_no_other() -> None:
    with HealthServer(0, Health()) as server, socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/livez")[0] == 200


def test_a_closed_health_server_releases_its_port() -> None:
    with HealthServer(0, Health()) as server:
        port = server.port
    with HealthServer(port, Health()) as replacement:
        assert get(replacement, "/livez")[0] == 200
