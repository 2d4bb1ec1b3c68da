"""The webhook endpoint among unauthenticated callers: slow, idle, huge or numerous, they take
nothing from genuine ones.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.callbacks import signed, woo_order
from tests.support.trapped import until
from tests.support.webhook_endpoint import SECRET, WebhookEndpointProcess

HALF = b"POST /hooks/x HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def endpoint(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> Iterator[WebhookEndpointProcess]:
    bounds = {
        "webhook_headers_wait_ms": 1_000,
        "webhook_connections_max": 20,
        "webhook_source_rate_max": 5,
    }
    with WebhookEndpointProcess(
        bootstrap_servers, prefix, tmp_path, webhook_body_wait_ms=500, **bounds
    ) as opened:
        yield opened


def connected(endpoint: WebhookEndpointProcess, sent: bytes = b"") -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", endpoint.client.base_url.port or 0), 5)
    opened.sendall(sent)
    return opened


@contextmanager
def many(
    endpoint: WebhookEndpointProcess, count: int, sent: bytes
) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connected(endpoint, sent)) for _ in range(count)]


def genuine(endpoint: WebhookEndpointProcess, number: int = 727) -> int:
    """Send a callback from a new connection."""
    body = json.dumps(woo_order(id=number)).encode()
    address = f"{endpoint.client.base_url}/hooks/{endpoint.slug}"
    return httpx.post(address, content=body, headers=signed(body, SECRET), timeout=10).status_code


def closed_after(opened: socket.socket, drip: bytes, *, until_s: float = 60) -> float:
    began = time.monotonic()
    opened.settimeout(0.1)
    while time.monotonic() - began < until_s:
        try:
            if drip:
                opened.sendall(drip)
            if not opened.recv(65_536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def closed(endpoint: WebhookEndpointProcess, outcome: str) -> float:
    """How many were closed so far, as soon as there is one, and a look at the next second's
    count.
    """
    until("one is counted", lambda: counted(endpoint, outcome) > 0)
    time.sleep(1.2)
    return counted(endpoint, outcome)


def counted(endpoint: WebhookEndpointProcess, outcome: str) -> float:
    name = f'stubline_ingest_webhook_connections_closed_total{{outcome="{outcome}"}} '
    logged_events = endpoint.metrics()
    return sum(
        float(line.removeprefix(name))
        for line in logged_events.splitlines()
        if line.startswith(name)
    )


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b""),
        (HALF, b"a: b\r\n"),
        (b"\r\n", b"\r\n"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n", b"a: b\r\n"),
        (b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    ],
    ids=["nothing", "headers", "blank", "blank-after", "second", "body-of-what-was-answered"],
)
def test_a_connection_that_sends_no_complete_headers_is_closed(
    endpoint: WebhookEndpointProcess, sent: bytes, drip: bytes
) -> None:
    with connected(endpoint, sent) as opened:
        assert 0.5 < closed_after(opened, drip) < 30
    assert closed(endpoint, "slow") == 1
    assert genuine(endpoint) == 200


def test_an_answered_connection_may_stay_idle_for_longer(endpoint: WebhookEndpointProcess) -> None:
    with connected(endpoint) as opened:
        for wait in (2.5, 0):
            opened.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.2)
            assert opened.recv(65_536).startswith(b"HTTP/1.1 200 ")
            time.sleep(wait)


@pytest.mark.parametrize(
    "sent", [b"", HALF, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["none", "half", "idle"]
)
def test_more_connections_than_there_may_be_lock_no_genuine_caller_out(
    endpoint: WebhookEndpointProcess, sent: bytes
) -> None:
    with many(endpoint, 60, sent):
        time.sleep(0.2)
        assert [genuine(endpoint, number) for number in range(1, 6)] == [200] * 5
        assert closed(endpoint, "room") >= 40
    lines = [line for line in endpoint.log_lines() if line["event"] == "connections closed"]
    assert 1 <= len(lines) <= 5


@contextmanager
def files_max(endpoint: WebhookEndpointProcess, most: int) -> Iterator[None]:
    """Limit the endpoint's open files meanwhile."""
    children = subprocess.run(
        ["pgrep", "-P", str(endpoint.child.pid)], capture_output=True, text=True, check=False
    )
    pids = (endpoint.child.pid, *map(int, children.stdout.split()))
    before = resource.prlimit(pids[0], resource.RLIMIT_NOFILE)
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def await_logged(endpoint: WebhookEndpointProcess, event: str) -> None:
    until = time.monotonic() + 60
    while event not in (logged_events := [line["event"] for line in endpoint.log_lines()]):
        assert time.monotonic() < until, logged_events
        time.sleep(0.05)


def test_descriptors_bound_the_connections_and_lock_no_genuine_caller_out(
    endpoint: WebhookEndpointProcess,
) -> None:
    """70 less what the process needs is fewer than the fixture lets in."""
    with files_max(endpoint, 70), many(endpoint, 200, HALF):
        await_logged(endpoint, "connections limited by open files")
        assert genuine(endpoint) == 200


def test_descriptors_that_run_out_are_logged_and_callers_are_accepted_once_there_are_some(
    endpoint: WebhookEndpointProcess,
) -> None:
    with files_max(endpoint, 3):  # fewer than it has open: none is left, even if connections close
        await_logged(endpoint, "no file descriptors left")
    assert genuine(endpoint) == 200


@pytest.mark.parametrize("in_parts", [False, True])
def test_headers_are_bounded_in_size(endpoint: WebhookEndpointProcess, in_parts: bool) -> None:
    large = (
        HALF + b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1_000) for number in range(70)) + b"\r\n"
    )
    with connected(endpoint, b"" if in_parts else large) as opened:
        for at in range(0, len(large) - 2 if in_parts else 0, 10_000):
            opened.sendall(large[:-2][at : at + 10_000])
            time.sleep(0.01)
        assert opened.recv(4_096).startswith(b"HTTP/1.1 431 ")
    fits = HALF + b"x: %s\r\n\r\n" % (b"y" * 60_000)
    with connected(endpoint, fits) as opened:
        assert opened.recv(4_096).startswith(b"HTTP/1.1 404 ")
    assert closed(endpoint, "large") == 1


def pings(endpoint: WebhookEndpointProcess) -> set[int]:
    return {
        endpoint.client.post(f"/hooks/{endpoint.slug}", data={"webhook_id": "12"}).status_code
        for _ in range(60)
    }


def forms(endpoint: WebhookEndpointProcess) -> set[int]:
    return {
        endpoint.client.post(f"/hooks/{endpoint.slug}", data={"x": "12"}).status_code
        for _ in range(60)
    }


def unsigned(endpoint: WebhookEndpointProcess) -> set[int]:
    return {endpoint.send(b"{}", secret="nobody's").status_code for _ in range(60)}


def begun(endpoint: WebhookEndpointProcess, send: bytes, *, leave: bool) -> set[int]:
    head = (
        f"POST /hooks/{endpoint.slug} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    ).encode()
    statuses = set[int]()
    for _ in range(4):
        with many(endpoint, 15, head + send) as opened:
            time.sleep(0.05)
            statuses |= (
                set()
                if leave
                else {int(connection.recv(4_096).split()[1]) for connection in opened}
            )
    return statuses


def slow(endpoint: WebhookEndpointProcess) -> set[int]:
    return begun(endpoint, b"Content-Length: 100\r\n\r\n", leave=False)


def closed_by_caller(endpoint: WebhookEndpointProcess) -> set[int]:
    return begun(endpoint, b"Content-Length: 100\r\n\r\n", leave=True)


def huge(endpoint: WebhookEndpointProcess) -> set[int]:
    return begun(
        endpoint, b"Transfer-Encoding: chunked\r\n\r\n100000\r\n" + b"x" * 2**20, leave=False
    )


@pytest.mark.parametrize(
    ("flood", "logged_events"),
    [
        (pings, {200}),
        (forms, {415}),
        (unsigned, {401}),
        (slow, {408}),
        (closed_by_caller, set()),
        (huge, {413}),
    ],
)
def test_unauthenticated_callers_use_up_nothing_of_a_sources_rate(
    endpoint: WebhookEndpointProcess,
    flood: Callable[[WebhookEndpointProcess], set[int]],
    logged_events: set[int],
) -> None:
    assert flood(endpoint) == logged_events
    began = time.monotonic()
    assert [genuine(endpoint, number) for number in range(1, 11)] == [200] * 10
    codes = [genuine(endpoint, number) for number in range(11, 40)]
    assert set(codes) <= {200, 429}
    assert codes.count(200) <= refilled(began)


def refilled(began: float) -> float:
    """How many callbacks the source's rate lets in beyond its burst since then, on a machine of any
    speed.
    """
    return 5 * (time.monotonic() - began) + 1


def test_a_body_that_is_sent_again_and_again_uses_up_nothing_of_what_is_new(
    endpoint: WebhookEndpointProcess,
) -> None:
    """WooCommerce signs no time: anybody who has seen one callback can send it for ever."""
    assert genuine(endpoint, 1) == 200
    began = time.monotonic()
    codes = [genuine(endpoint, 1) for _ in range(60)]
    assert set(codes) <= {200, 429}
    assert codes.count(200) <= 10 + refilled(began)
    assert [genuine(endpoint, number) for number in range(2, 10)] == [200] * 8


def test_a_flood_of_pings_is_answered_with_429_and_genuine_callbacks_are_not(
    endpoint: WebhookEndpointProcess,
) -> None:
    codes = [
        endpoint.client.post(f"/hooks/{endpoint.slug}", data={"webhook_id": "12"}).status_code
        for _ in range(400)
    ]
    assert codes.count(200) >= 100
    assert codes.count(429) > 0
    assert genuine(endpoint) == 200
