"""A vendor's HTTP server on a free port, which checks its requests and can fail in every way that a
vendor does.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

import httpx

DRIPS = 600  # of a tenth of a second


class SentRequest(NamedTuple):
    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""


class FakeResponse(NamedTuple):
    status: int
    document: Any
    headers: Mapping[str, str] = {}


class Refused(Exception):
    """What a vendor would not answer: the test that caused it fails by `faults`."""

    def __init__(self, status: int, why: str, *, is_fault: bool = True) -> None:
        """Wrong credentials, and a request for an order that does not exist, are no fault."""
        super().__init__(why)
        self.status, self.is_fault = status, is_fault


class FakeVendor:
    """`behave("500", "429 7", "hang", "broken", "huge", "elsewhere", "gzip", "drip", "drip body")`
    sets how the next requests end, one each.

    `requests` are those that it received; `faults` what was wrong with them. With `has_tags` it
    sends ETags, and answers 304.
    """

    def __init__(self) -> None:
        self.requests, self.faults = list[SentRequest](), list[str]()
        self.has_tags = False
        self._next = list[str]()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def answer(self, request: SentRequest) -> FakeResponse:
        raise Refused(404, f"{request.path} is nothing of it")

    def behave(self, *ways: str) -> None:
        with self._lock:
            self._next += ways

    def next_behaviour(self) -> str:
        """Take the next of the ways to behave; an empty one if none is left."""
        with self._lock:
            return self._next.pop(0) if self._next else ""

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def client(self) -> httpx.Client:
        """Past the network: for thousands of pages in a law."""

        def handled(request: httpx.Request) -> httpx.Response:
            url, headers = request.url, dict(request.headers)
            response = self.respond(
                SentRequest(request.method, url.path, dict(url.params), headers, request.read())
            )
            return httpx.Response(
                response.status, content=json.dumps(response.document), headers=response.headers
            )

        return httpx.Client(
            headers={"Accept": "application/json"}, transport=httpx.MockTransport(handled)
        )

    def respond(self, request: SentRequest) -> FakeResponse:
        with self._lock:
            self.requests.append(request)
            if request.method != "GET" or "application/json" not in request.headers.get(
                "accept", ""
            ):
                self.faults.append(
                    f"{request.method} {request.path} for {request.headers.get('accept')}"
                )
            if request.body:
                self.faults.append(f"{request.path} with a body of {len(request.body)} bytes")
            try:
                response = self.answer(request)
            except Refused as refused:
                if refused.is_fault:
                    self.faults.append(str(refused))
                return FakeResponse(refused.status, {"code": "refused", "message": str(refused)})
            if self.has_tags and response.status == 200:
                tag = (
                    f'W/"{hashlib.sha256(json.dumps(response.document).encode()).hexdigest()[:20]}"'
                )
                if request.headers.get("if-none-match") == tag:
                    return FakeResponse(304, None, {"ETag": tag})
                return FakeResponse(200, response.document, {**response.headers, "ETag": tag})
            return response

    def __enter__(self) -> Self:
        fake = self

        class VendorHandler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                parameters = {
                    name: values[-1]
                    for name, values in parse_qs(url.query, keep_blank_values=True).items()
                }
                headers = {name.lower(): text for name, text in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", "0")))
                request = SentRequest(self.command, url.path, parameters, headers, body)
                way = fake.next_behaviour()
                if way == "hang":
                    time.sleep(3)
                response = fake.respond(request)
                if way.startswith("drip"):
                    self.drip(b"X-%d: y\r\n" if way == "drip" else b"\r\n%10d")
                    return
                status, document, more = misbehaving(way, response)
                self.send_response(status)
                for name, text in {"Content-Type": "application/json", **more}.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as above

            def drip(self, part: bytes) -> None:
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000")
                self.wfile.write(b"\r\n" if part.startswith(b"X") else b"\r\n\r\n")
                for number in range(DRIPS):
                    time.sleep(0.1)
                    self.wfile.write(part % number)

            def log_message(self, *_args: object) -> None:
                """Nothing on a test's stderr."""

        class VendorServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                """A caller that does not wait is no fault."""

        self._server = VendorServer(("127.0.0.1", 0), VendorHandler)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


def misbehaving(way: str, response: FakeResponse) -> tuple[int, bytes, Mapping[str, str]]:
    document = b"" if response.document is None else json.dumps(response.document).encode()
    status, _, wait = way.partition(" ")
    if status.isdigit():
        return (
            int(status),
            b'{"message":"as the test requested"}',
            {"Retry-After": wait.replace("_", " ")} if wait else {},
        )
    ways: dict[str, tuple[int, bytes, Mapping[str, str]]] = {
        "broken": (200, document[: len(document) // 2] + b"<", {}),
        "huge": (200, b" " * (17 * 2**20) + document, {}),
        "elsewhere": (302, b"", {"Location": "http://127.0.0.1:1/else"}),
        "gzip": (200, document, {"Content-Encoding": "gzip"}),
    }
    return ways.get(way, (response.status, document, response.headers))
