"""Laws of the health door: alive while the loop turns, ready while the world answers, and a reason
when not.
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


def ask(door: HealthServer, path: str) -> tuple[int, str, bytes]:
    connection = HTTPConnection("127.0.0.1", door.port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers["Content-Type"], body


def test_a_loop_that_turns_is_alive_and_one_that_rests_is_not() -> None:
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
    with HealthServer(0, health) as door:
        assert ask(door, "/livez")[0] == 200
        status, content_type, body = ask(door, "/readyz")
    assert (status, content_type, json.loads(body)["detail"]) == (
        503,
        "application/problem+json",
        "starting",
    )


def test_the_door_says_why() -> None:
    health = Health()
    with HealthServer(0, health) as door:
        health.ready(ok=True)
        assert ask(door, "/readyz") == (200, "text/plain; charset=utf-8", b"ok\n")
        health.ready(ok=False, reason="database-unavailable: connection refused")
        assert (
            json.loads(ask(door, "/readyz?verbose=1")[2])["detail"]
            == "database-unavailable: connection refused"
        )
        assert ask(door, "/else")[0] == 404
        assert ask(door, "/metrics")[2] == metrics.exposition()


def test_a_client_that_says_nothing_holds_nobody_up() -> None:
    with HealthServer(0, Health()) as door, socket.create_connection(("127.0.0.1", door.port)):
        assert ask(door, "/livez")[0] == 200


def test_a_door_that_is_closed_gives_its_port_back() -> None:
    with HealthServer(0, Health()) as door:
        port = door.port
    with HealthServer(port, Health()) as again:
        assert ask(again, "/livez")[0] == 200
