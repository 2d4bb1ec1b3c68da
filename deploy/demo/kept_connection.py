"""A kept HTTP/1.1 connection to one server on this machine: one request at a time, at a fraction of
what a general client costs. It reads responses that have a Content-Length, as the webhook
endpoint's have.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Self, cast

from deploy.local.ports import HOST

HEAD_BYTES_MAX = 64 * 1024


class Response(NamedTuple):
    """A status and its header fields, with names in small letters."""

    status: int
    headers: dict[bytes, bytes]


class KeptConnection(asyncio.Protocol):
    """Opened by the first request, and again by the next one after the server closed it."""

    def __init__(self, port: int) -> None:
        self._port, self._buffer = port, bytearray()
        self._transport: asyncio.Transport | None = None
        self._response: asyncio.Future[Response] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._transport is not None:
            self._transport.close()

    async def request(self, encoded: bytes) -> Response:
        """Send a whole request and return its response. Raises ConnectionError."""
        loop, transport = asyncio.get_running_loop(), self._transport
        if transport is None or transport.is_closing():
            opened, _ = await loop.create_connection(lambda: self, HOST, self._port)
            transport = opened
        self._response = loop.create_future()
        transport.write(encoded)
        return await self._response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._buffer.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._response is not None and not self._response.done():
            self._response.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX and self._transport is not None:
                self._transport.abort()
            return
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        fields = (line.partition(b":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        if len(self._buffer) < end + 4 + int(headers.get(b"content-length", b"0")):
            return
        self._buffer.clear()
        if self._response is not None and not self._response.done():
            self._response.set_result(Response(int(first.split(b" ", 2)[1]), headers))


def post(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return a whole request."""
    lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body
