"""The webhook endpoint with many callers that begin and do not end: genuine callers are accepted
nevertheless.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from schemas.topics import MIB
from tests.integration.test_webhook_endpoint_hostile_input import closed, connected, genuine, many
from tests.support.trapped import until
from tests.support.webhook_endpoint import WebhookEndpointProcess


@pytest.fixture
def endpoint(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> Iterator[WebhookEndpointProcess]:
    with WebhookEndpointProcess(bootstrap_servers, prefix, tmp_path) as opened:
        yield opened


REQUEST = b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n"
AT_ONCE, ROUNDS = (
    8,
    60,
)  # fewer at once than may wait; together more answers than fit into the system's buffers


@contextmanager
def unread(endpoint: WebhookEndpointProcess, count: int) -> Iterator[list[socket.socket]]:
    """Connections that send requests and never read. Small segments keep the system's own buffers
    small.
    """
    with ExitStack() as stack:
        opened = list[socket.socket]()
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            one.connect(("127.0.0.1", endpoint.client.base_url.port or 0))
            one.setblocking(False)
            opened.append(one)
        for _ in range(ROUNDS):
            for one in opened:
                with suppress(BlockingIOError, ConnectionError):
                    one.send(REQUEST * AT_ONCE)
            for _ in range(
                AT_ONCE
            ):  # each takes the endpoint's loop at least one turn, as each answer does
                with suppress(httpx.HTTPError):
                    endpoint.client.get("/livez")
        yield opened


def lets_in(endpoint: WebhookEndpointProcess, number: int) -> bool:
    try:
        return genuine(endpoint, number) == 200
    except httpx.HTTPError:
        return False


def test_a_connection_that_reads_no_responses_is_closed_and_locks_no_genuine_caller_out(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    bounds = {"webhook_headers_wait_ms": 500, "webhook_connections_max": 16}
    with (
        WebhookEndpointProcess(bootstrap_servers, prefix, tmp_path, **bounds) as endpoint,
        unread(endpoint, 20),
    ):
        until = time.monotonic() + 120
        while not all(lets_in(endpoint, number) for number in range(1, 6)):
            assert time.monotonic() < until
        while closed(endpoint, "unread") < 5:
            assert time.monotonic() < until


def test_a_caller_that_disconnects_before_its_response_leaves_no_line_in_the_log(
    endpoint: WebhookEndpointProcess,
) -> None:
    with unread(endpoint, 3):
        time.sleep(1)
    until = time.monotonic() + 120
    while "stubline_ingest_webhook_connections 1.0" not in endpoint.metrics():
        assert time.monotonic() < until
        time.sleep(0.2)
    assert [line["event"] for line in endpoint.log_lines()] == ["source not served", "listening"]


def begun(endpoint: WebhookEndpointProcess, size: int, sent: int) -> bytes:
    head = (
        f"POST /hooks/{endpoint.slug} HTTP/1.1\r\nHost: x\r\nContent-Type: "
        f"application/json\r\nContent-Length: {size}\r\n\r\n"
    )
    return head.encode() + b"x" * sent


def test_bodies_that_begin_and_do_not_end_lock_no_genuine_caller_out(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    bounds = {"webhook_in_flight_max": 20, "webhook_in_flight_bytes_max": MIB}
    with WebhookEndpointProcess(bootstrap_servers, prefix, tmp_path, **bounds) as endpoint:
        with many(endpoint, 60, begun(endpoint, 100, 1)) as opened:
            until = time.monotonic() + 60
            while "in_flight_callbacks 20.0" not in endpoint.metrics():
                assert time.monotonic() < until
            assert opened[0].recv(4_096).startswith(b"HTTP/1.1 503 ")
            assert [genuine(endpoint, number) for number in range(1, 6)] == [200] * 5
        with (
            connected(endpoint, begun(endpoint, 1_030_000, 1_000_000)) as large,
            connected(endpoint, begun(endpoint, 1_030_000, 48_000)),
        ):
            time.sleep(0.3)
            assert [genuine(endpoint, number) for number in range(6, 11)] == [200] * 5
            assert large.recv(4_096).startswith(b"HTTP/1.1 503 ")


def test_an_unauthenticated_caller_that_reads_the_metrics_too_makes_no_more_lines(
    endpoint: WebhookEndpointProcess,
) -> None:
    began = time.monotonic()
    for _ in range(30):
        assert endpoint.send(b"{}", secret="nobody's").status_code == 401
        assert endpoint.metrics()
    until(
        "each is in a line",
        lambda: sum(int(str(line["count"])) for line in wrong_signatures(endpoint)) == 30,
    )
    assert len(wrong_signatures(endpoint)) <= time.monotonic() - began + 1


def wrong_signatures(endpoint: WebhookEndpointProcess) -> list[dict[str, object]]:
    return [line for line in endpoint.log_lines() if line["event"] == "wrong signatures"]


def test_bodies_that_fill_the_connections_lock_no_genuine_caller_out(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """There may be fewer connections than callbacks: by default a process may have 1,024 files
    open.
    """
    with WebhookEndpointProcess(
        bootstrap_servers, prefix, tmp_path, webhook_connections_max=20
    ) as endpoint:
        with many(endpoint, 60, begun(endpoint, 100, 1)):
            time.sleep(0.2)
            assert [genuine(endpoint, number) for number in range(1, 6)] == [200] * 5
        assert closed(endpoint, "room") >= 40
