"""An HTTP client with bounds: on its request rate, on the time and size of a response, and on
redirects, which are not followed.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore
import httpx
from typing_extensions import override

from services.runtime.observability.version import CODE_VERSION

TIMEOUT_S = 10.0  # for a connection, and for each read
RESPONSE_MAX_S = 30.0  # for the whole response
RESPONSE_BYTES_MAX = 16 * 2**20
PER_SECOND = 1.0
ETAG_CHARS_MAX, ETAGS_MAX = 256, 4
NOT_MODIFIED = httpx.codes.NOT_MODIFIED


def is_usable_etag(text: str) -> bool:
    """Return whether a request can carry the ETag back."""
    return 0 < len(text) <= ETAG_CHARS_MAX and text.isascii() and text.isprintable()


class MalformedResponseError(ValueError):
    """A response that cannot be what was requested. Its text quotes nothing of the response, so it
    may be logged.
    """


class ResponseTooLargeError(MalformedResponseError):
    """A response larger than the client reads; a smaller page may fit."""


class NotModifiedError(Exception):
    """All that was requested is unchanged since the last time (304)."""


class PartlyNotModifiedError(Exception):
    """Only some of a page's requests were answered with 304. Without ETags all of them are answered
    in full.
    """


class DeadlineBackend(httpcore.SyncBackend):
    """A network backend whose reads and writes all end at `until` (monotonic), however few bytes
    each of them brings.
    """

    def __init__(self) -> None:
        self.until = float("inf")

    def left(self, timeout: float | None, error: type[Exception]) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise error("the response takes too long")
        return left if timeout is None else min(timeout, left)

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = self.left(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(
            super().connect_tcp(host, port, left, local_address, socket_options), self
        )


class DeadlineStream(httpcore.NetworkStream):
    """A connection of a DeadlineBackend."""

    def __init__(self, inner: httpcore.NetworkStream, network: DeadlineBackend) -> None:
        self._inner, self._network = inner, network

    @override
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._network.left(timeout, httpcore.ReadTimeout))

    @override
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._network.left(timeout, httpcore.WriteTimeout))

    @override
    def close(self) -> None:
        self._inner.close()

    @override
    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._network.left(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(
            self._inner.start_tls(ssl_context, server_hostname, left), self._network
        )

    @override
    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class BoundedHttpClient(httpx.Client):
    """An httpx client for one API, used in one thread at a time. Redirects are not followed; TLS is
    verified, as httpx does.
    """

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        answer_s: float = RESPONSE_MAX_S,
        wait_s: float = TIMEOUT_S,
    ) -> None:
        agent = {
            "User-Agent": f"stubline/{CODE_VERSION}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        super().__init__(
            timeout=wait_s,
            follow_redirects=False,
            headers=agent,
            limits=httpx.Limits(max_connections=2),
        )
        self._pause_s, self._answer_s, self._next_at = 1 / per_second, answer_s, 0.0
        self._known: Mapping[str, str] = {}
        self._answers = 0
        self._network = DeadlineBackend()
        for transport in (self._transport, *self._mounts.values()):
            # httpx has no deadline for a whole response. A test sends headers byte by byte.
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = self._network  # noqa: SLF001 - see above
        self.tags: dict[str, str] = {}

    def begin_page(self, tags: Mapping[str, str]) -> None:
        """Begin a page. Its requests carry these ETags, which the last responses had, by address;
        `tags` collects those of the new responses.
        """
        self._known, self.tags, self._answers = tags, {}, 0

    @override
    def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        time.sleep(max(0.0, self._next_at - time.monotonic()))
        address = str(request.url)
        if request.method == "GET" and is_usable_etag(tag := self._known.get(address, "")):
            request.headers["If-None-Match"] = tag
        self._network.until = until = time.monotonic() + self._answer_s
        try:
            response = self._bounded(super().send(request, **how | {"stream": True}), until)
        finally:
            self._next_at = time.monotonic() + self._pause_s
        if response.status_code == NOT_MODIFIED and address in self._known:
            raise PartlyNotModifiedError if self._answers else NotModifiedError
        self._answers += 1
        if is_usable_etag(tag := response.headers.get("etag", "")) and len(self.tags) < ETAGS_MAX:
            self.tags[address] = tag
        return response

    @staticmethod
    def _bounded(response: httpx.Response, until: float) -> httpx.Response:
        """Return the response with its body read, or raise at a bound."""
        try:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise MalformedResponseError("the response is encoded, which was not requested")
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > RESPONSE_BYTES_MAX:
                    raise ResponseTooLargeError("the response is too large")
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("the response takes too long", request=response.request)
        finally:
            response.close()
        # Headers are copied as bytes, since decoding could change them.
        headers = [
            header for header in response.headers.raw if header[0].lower() != b"transfer-encoding"
        ]
        return httpx.Response(
            response.status_code, headers=headers, content=bytes(body), request=response.request
        )
