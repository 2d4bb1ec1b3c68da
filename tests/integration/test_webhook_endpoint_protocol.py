"""HTTP/1.1 at the webhook endpoint, byte by byte: what costs memory without a signature, and offers
of other protocols.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from schemas.topics import MIB
from tests.support.callbacks import signature, signed, woo_order
from tests.support.webhook_endpoint import SECRET, WebhookEndpointProcess

BODY = json.dumps(woo_order(id=727)).encode()
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
RESIDENT_RATIO_MAX = (
    3  # bytes that the process grows by, for each byte that was sent and is not refused
)
SLACK_BYTES = 12 * MIB  # of the allocator and of a read buffer for each connection


@pytest.fixture(scope="module")
def shared(
    bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebhookEndpointProcess]:
    with WebhookEndpointProcess(
        bootstrap_servers, f"t{secrets.token_hex(4)}", tmp_path_factory.mktemp("webhooks")
    ) as opened:
        yield opened


@pytest.fixture
def endpoint(shared: WebhookEndpointProcess) -> WebhookEndpointProcess:
    shared.mark()
    return shared


def connected(endpoint: WebhookEndpointProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", endpoint.client.base_url.port or 0), 20)


def head(
    endpoint: WebhookEndpointProcess, *lines: bytes, method: str = "POST", tail: str = ""
) -> bytes:
    first = f"{method} /hooks/{endpoint.slug}{tail} HTTP/1.1\r\nHost: x\r\n".encode()
    return first + b"".join(line + b"\r\n" for line in lines)


def genuine(secret: str = SECRET) -> tuple[bytes, ...]:
    return tuple(f"{name}: {text}".encode() for name, text in signed(BODY, secret).items())


def sent_whole(opened: socket.socket, content: bytes) -> int:
    """How much of it was taken before the connection was closed."""
    at = 0
    with suppress(ConnectionError):
        while at < len(content):
            at += opened.send(content[at : at + 65_536])
    return at


def answer(opened: socket.socket) -> bytes:
    """All that comes until it is closed, or until the answer is whole."""
    received = b""
    with suppress(ConnectionResetError):
        while part := opened.recv(65_536):
            received += part
            before, _, after = received.partition(b"\r\n\r\n")
            length = [
                line
                for line in before.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            ]
            if length and len(after) >= int(length[0].partition(b":")[2]):
                break
    return received


def status(opened: socket.socket) -> int:
    return int(answer(opened).split()[1])


def statuses(received: bytes) -> list[int]:
    """Of several answers on one connection."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def resident(endpoint: WebhookEndpointProcess) -> int:
    """Of the endpoint itself, which is the child of its launcher where there is one."""
    process = psutil.Process(endpoint.child.pid)
    return int(
        sum(
            one_process.memory_info().rss
            for one_process in (process, *process.children(recursive=True))
        )
    )


def exchanged(endpoint: WebhookEndpointProcess, content: bytes) -> int:
    with connected(endpoint) as opened:
        sent_whole(opened, content)
        return status(opened)


# Memory.


TINY = b"a:b\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
CASES = {
    "trailers": (b"\r\n1\r\nx\r\n0\r\n", TINY * (7_900_000 // 5), 10),
    "a trailer without an end": (b"\r\n1\r\nx\r\n0\r\na: ", b"x" * 7_900_000, 10),
    "headers": (b"", TINY * (64_000 // 5), 300),
    "a header without an end": (b"a: ", b"x" * 64_000, 300),
    "a chunk extension": (b"\r\n1;a=", b"b" * 7_900_000, 10),
    "chunk extensions": (b"\r\n1;a=b\r\nx\r\n", b"1;a=b\r\nx\r\n" * 790_000, 10),
    "chunks of one byte": (b"\r\n", b"1\r\nx\r\n" * 1_000_000, 10),
}


@pytest.mark.parametrize("kind", list(CASES))
def test_an_unsigned_body_costs_little_more_memory_than_it_has_bytes(
    bootstrap_servers: str, prefix: str, tmp_path: Path, kind: str
) -> None:
    begin, remainder, count = CASES[kind]
    with (
        WebhookEndpointProcess(bootstrap_servers, prefix, tmp_path) as endpoint,
        ExitStack() as stack,
    ):
        assert (
            exchanged(
                endpoint,
                head(endpoint, *genuine(), b"Content-Length: %d" % len(BODY)) + b"\r\n" + BODY,
            )
            == 200
        )
        before, taken, most = resident(endpoint), 0, 0
        for _ in range(count):
            opened = stack.enter_context(connected(endpoint))
            framing = () if kind.startswith(("headers", "a header")) else (CHUNKED,)
            taken += sent_whole(
                opened,
                head(endpoint, b"Content-Type: application/json", *framing) + begin + remainder,
            )
            most = max(most, resident(endpoint))
        assert endpoint.health.get("/livez").status_code == 200
        most = max(most, resident(endpoint))
        print(f"{kind}: {taken:,} bytes sent, resident {before:,} -> {most:,}")
        assert most - before < min(RESIDENT_RATIO_MAX * taken, 64 * MIB) + SLACK_BYTES


def test_requests_that_are_sent_at_once_are_answered_in_their_sequence_and_only_a_few_wait(
    endpoint: WebhookEndpointProcess,
) -> None:
    """Each waits for its turn as some kilobytes of objects, and is sent as 40 bytes."""
    request = head(endpoint, *genuine(), b"Content-Length: %d" % len(BODY)) + b"\r\n" + BODY
    before = resident(endpoint)
    with connected(endpoint) as opened:
        sent_whole(opened, request * 3 + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 7_000)
        received = b""
        with suppress(ConnectionResetError):
            while part := opened.recv(65_536):
                received += part
    codes = statuses(received)
    assert set(codes) == {200}
    assert 4 <= len(codes) < 7_003
    assert resident(endpoint) - before < SLACK_BYTES


def test_a_request_that_is_refused_is_answered_after_those_before_it(
    endpoint: WebhookEndpointProcess,
) -> None:
    request = head(endpoint, *genuine(), b"Content-Length: %d" % len(BODY)) + b"\r\n" + BODY
    for wrong in (
        b"\x00 nonsense\r\n\r\n",
        head(endpoint) + b"a:b\r\n" * 200,
        head(endpoint, CHUNKED) + b"\r\nzz\r\n",
    ):
        with connected(endpoint) as opened:
            sent_whole(opened, request + wrong)
            assert status(opened) == 200
            assert answer(opened) == b""


# Limits, and what is answered at them.


@pytest.mark.parametrize(
    ("lines", "code"),
    [(60, 200), (200, 431)],
)
def test_header_lines_are_counted(endpoint: WebhookEndpointProcess, lines: int, code: int) -> None:
    more = [b"x-%d: y" % number for number in range(lines)]
    request = head(endpoint, *genuine(), b"Content-Length: %d" % len(BODY), *more) + b"\r\n" + BODY
    assert exchanged(endpoint, request) == code


@pytest.mark.parametrize(
    ("trailers", "code"),
    [
        (b"", 200),
        (b"x-checksum: abc\r\n", 200),
        (TINY * 90, 200),
        (TINY * 200, 431),
        (b"a: " + b"x" * 40_000 + b"\r\n", 431),
        (b"no trailer\r\n", 400),
    ],
)
def test_trailers_are_read_past_and_bounded(
    endpoint: WebhookEndpointProcess, trailers: bytes, code: int
) -> None:
    body = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY) + trailers + b"\r\n"
    with connected(endpoint) as opened:
        for part in (
            head(endpoint, *genuine(), CHUNKED) + b"\r\n",
            body[: len(body) // 2],
            body[len(body) // 2 :],
        ):
            sent_whole(opened, part)
        assert status(opened) == code


def test_a_signature_in_a_trailer_replaces_none_in_the_headers(
    endpoint: WebhookEndpointProcess,
) -> None:
    trailer = f"X-WC-Webhook-Signature: {signature(BODY, SECRET)}\r\n\r\n".encode()
    body = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY) + trailer
    assert exchanged(endpoint, head(endpoint, *genuine("wrong"), CHUNKED) + b"\r\n" + body) == 401
    unsigned = [line for line in genuine() if b"signature" not in line.lower()]
    assert exchanged(endpoint, head(endpoint, *unsigned, CHUNKED) + b"\r\n" + body) == 401
    assert endpoint.records() == []


def test_a_body_in_chunks_of_one_byte_is_accepted(endpoint: WebhookEndpointProcess) -> None:
    body = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    assert exchanged(endpoint, head(endpoint, *genuine(), CHUNKED) + b"\r\n" + body) == 200
    (kept,) = endpoint.records()
    assert kept.value == BODY


def test_targets_are_bounded(endpoint: WebhookEndpointProcess) -> None:
    assert exchanged(endpoint, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") == 414
    assert exchanged(endpoint, b"GET /" + b"a" * 2_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") == 404


def test_the_public_port_names_no_source(endpoint: WebhookEndpointProcess) -> None:
    for path in ("/metrics", "/readyz", "/docs", "/openapi.json"):
        answer = endpoint.client.get(path)
        assert (answer.status_code, endpoint.slug in answer.text) == (404, False)
    assert endpoint.client.get("/livez").text == "ok\n"
    assert (
        f'source="{endpoint.slug}"' in endpoint.metrics() or endpoint.send(BODY).status_code == 200
    )


@pytest.mark.parametrize("tail", ["%2f..", "/anything", "/..", "//", "%2F", "%00"])
def test_a_path_below_a_source_that_reads_none_is_not_found(
    endpoint: WebhookEndpointProcess, tail: str
) -> None:
    request = (
        head(endpoint, *genuine(), b"Content-Length: %d" % len(BODY), tail=tail) + b"\r\n" + BODY
    )
    assert exchanged(endpoint, request) == (200 if tail == "%2F" else 404)


# Offers of other protocols.


@pytest.mark.parametrize(
    "offer",
    [
        H2C,
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: upgrade, keep-alive\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
        b"Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/2.0, foo\r\n",
        b"Upgrade: h2c\r\n",
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("in_parts", [False, True])
def test_an_upgrade_that_is_not_known_is_ignored(
    endpoint: WebhookEndpointProcess, offer: bytes, framing: str, in_parts: bool
) -> None:
    chunked = framing == "chunked"
    framed = CHUNKED if chunked else b"Content-Length: %d" % len(BODY)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    request = head(endpoint, *genuine(), framed) + offer + b"\r\n" + body
    with connected(endpoint) as opened:
        for _ in range(2):  # the connection lives on
            for at in range(0, len(request), 97 if in_parts else len(request)):
                opened.sendall(request[at : at + (97 if in_parts else len(request))])
            assert status(opened) == 200
    assert [record.value for record in endpoint.records()] == [BODY, BODY]


def test_an_upgrade_moves_no_boundary_between_requests(endpoint: WebhookEndpointProcess) -> None:
    """What follows the body is the next request, and a wrong signature stays wrong."""
    wrong = (
        head(endpoint, *genuine("wrong"), b"Content-Length: %d" % len(BODY)) + H2C + b"\r\n" + BODY
    )
    right = head(endpoint, *genuine(), b"Content-Length: %d" % len(BODY)) + H2C + b"\r\n" + BODY
    with connected(endpoint) as opened:
        opened.sendall(wrong + right)
        received = b""
        while len(statuses(received)) < 2 and (part := opened.recv(65_536)):
            received += part
    assert statuses(received) == [401, 200]
    assert len(endpoint.records()) == 1


def test_a_caller_that_waits_for_100_gets_it(endpoint: WebhookEndpointProcess) -> None:
    with connected(endpoint) as opened:
        opened.sendall(
            head(endpoint, *genuine(), b"Content-Length: %d" % len(BODY), b"Expect: 100-continue")
            + b"\r\n"
        )
        assert opened.recv(4_096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(BODY)
        assert status(opened) == 200
    with connected(endpoint) as opened:  # and an unauthenticated caller is not
        opened.sendall(
            head(endpoint, b"Content-Length: 9", b"Expect: 100-continue", tail="-nobody") + b"\r\n"
        )
        assert status(opened) == 404


def test_a_caller_that_starts_with_http_2_is_answered_in_http_1_and_closed(
    endpoint: WebhookEndpointProcess,
) -> None:
    with connected(endpoint) as opened:
        opened.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        assert answer(opened).startswith(b"HTTP/1.1 400 ")
        assert answer(opened) == b""
    assert exchanged(endpoint, b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n") == 400


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_that_offers_http_2_is_served(
    endpoint: WebhookEndpointProcess, tmp_path: Path
) -> None:
    sent = tmp_path / "body"
    sent.write_bytes(BODY)
    more = [
        argument
        for name, text in signed(BODY, SECRET).items()
        for argument in ("-H", f"{name}: {text}")
    ]
    url = f"{endpoint.client.base_url}/hooks/{endpoint.slug}"
    command = ["curl", "-s", "--http2", "-w", "%{http_code}", "-o", "/dev/null", *more]
    done = subprocess.run(
        [*command, "--data-binary", f"@{sent}", url], capture_output=True, text=True, check=False
    )
    assert done.stdout == "200", done.stderr


JAVA = """
import java.net.URI; import java.net.http.*; import java.nio.file.*;
public class Post { public static void main(String[] given) throws Exception {
  var request = HttpRequest.newBuilder(URI.create(given[0]))
    .header("Content-Type", "application/json")
    .header("X-WC-Webhook-Topic", "order.updated").header("X-WC-Webhook-Signature", given[1])
    .POST(HttpRequest.BodyPublishers.ofFile(Path.of(given[2]))).build();
  var response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
  System.out.print(response.statusCode()); } }
"""


@pytest.mark.skipif(
    not (shutil.which("javac") and shutil.which("java")), reason="no JDK is installed"
)
def test_javas_own_client_is_served(endpoint: WebhookEndpointProcess, tmp_path: Path) -> None:
    """It offers h2c by default. Its bytes are also those of the first offer above, for machines
    without a compiler.
    """
    source, sent = tmp_path / "Post.java", tmp_path / "body"
    source.write_text(JAVA)
    sent.write_bytes(BODY)
    url = f"{endpoint.client.base_url}/hooks/{endpoint.slug}"
    command = ["java", str(source), url, signature(BODY, SECRET), str(sent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "200", done.stderr
