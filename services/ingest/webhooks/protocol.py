"""HTTP/1.1 on one connection, by httptools and uvicorn, with every parser callback bounded."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar, Protocol

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from schemas.topics import MIB
from services.ingest.webhooks.upgrades import without_upgrade

HEADERS_BYTES_MAX = 64 * 1_024
# A line of 4 bytes costs about 150 bytes as Python objects; trailer lines count in the same way.
HEADER_LINES_MAX = 100
TRAILERS_BYTES_MAX = 8 * 1_024  # trailers are parsed and never kept
TARGET_BYTES_MAX = 8 * 1_024  # of a request line: the path with its query
PIPELINED_MAX = 16  # requests that are queued while one is being answered
REQUEST_BYTES_MAX = 8 * MIB  # as sent, with the framing of chunks and what follows the body
CONNECTION_CLOSE = b"content-length: 0\r\nconnection: close\r\n\r\n"
FIELDS_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + CONNECTION_CLOSE
BODY_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\n" + CONNECTION_CLOSE
TARGET_TOO_LONG = b"HTTP/1.1 414 URI Too Long\r\n" + CONNECTION_CLOSE
# A line for each malformed request would let unauthenticated callers fill the log.
SILENT_LOGGER = logging.getLogger("uvicorn.connections")
SILENT_LOGGER.setLevel(logging.ERROR)


class LimitExceededError(Exception):
    """Raised in a parser callback when the request exceeds one of the limits above. It ends the
    parser.
    """

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer.partition(b"\r\n")[0].decode())
        self.answer = answer


class PipelineFullError(Exception):
    """Raised in a parser callback when more requests were pipelined than may wait."""


class ConnectionRegistry(Protocol):
    """What a connection reports about itself, so that all open ones are bounded together."""

    def admit(self, connection: HttpConnection) -> bool: ...
    def remove(self, connection: HttpConnection) -> None: ...
    def expect_headers(self, connection: HttpConnection) -> None: ...
    def request_started(self, connection: HttpConnection) -> None: ...
    def headers_received(self, connection: HttpConnection) -> None: ...
    def body_started(self, connection: HttpConnection) -> None: ...
    def body_received(self, connection: HttpConnection) -> None: ...
    def request_ended(self, connection: HttpConnection) -> None: ...
    def refuse(self, connection: HttpConnection, why: str) -> None: ...


class HttpConnection(HttpToolsProtocol):
    """One connection.

    What bounds the input of each parser callback, and so the Python objects that it becomes:

    - `data_received`: one read of the event loop (256 KB); between two reads only the following is
      kept
    - `on_message_begin`: PIPELINED_MAX; earlier requests are answered, then the connection is
      closed
    - `on_url`: TARGET_BYTES_MAX
    - `on_header`, headers: HEADER_LINES_MAX and HEADERS_BYTES_MAX; their time by `connections.py`
    - `on_header`, trailers: the same number of lines, and TRAILERS_BYTES_MAX; no trailer is kept or
      replaces a header
    - `on_body`: HIGH_WATER_LIMIT until the application takes it, then the bounds of `RequestBodies`
    - chunk headers and extensions: none is kept; REQUEST_BYTES_MAX bounds a request as it was sent
    """

    open_connections: ClassVar[ConnectionRegistry]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = SILENT_LOGGER
        self._is_in_headers = self._is_in_trailers = self._was_in_trailers = False
        self._ignores_input = False
        self._bytes = self._chunk = 0
        self._trailer_lines = self._trailer_fields_bytes = self._trailer_bytes = 0
        # the request that is being answered: of pipelined ones uvicorn knows only the last
        self._current_cycle: RequestResponseCycle | None = None

    @property
    def is_answering(self) -> bool:
        # uvicorn's types omit the None before the first request
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def _is_input_over(self) -> bool:
        """Whether further input is ignored."""
        return self._ignores_input or self.transport.is_closing()

    @property
    def has_unread(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if not self.open_connections.admit(self):
            transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.remove(self)
        super().connection_lost(exc)
        if self._current_cycle is not None:
            # Otherwise any caller could make uvicorn log a defect, by not receiving its response.
            self._current_cycle.disconnected = True

    @override
    def data_received(self, data: bytes) -> None:
        if self._ignores_input:
            return
        self.open_connections.request_started(self)
        self._chunk = len(data)
        self._bytes += self._chunk
        self._was_in_trailers = self._is_in_trailers
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._is_input_over:
            return
        if self._is_in_trailers:  # the parser keeps a line without an end, and does not report it
            self._trailer_bytes += (
                self._chunk if self._was_in_trailers else self._chunk - 1 - data.rfind(b"\n")
            )
        if self._bytes > (HEADERS_BYTES_MAX if self._is_in_headers else REQUEST_BYTES_MAX):
            self._refuse(FIELDS_TOO_LARGE if self._is_in_headers else BODY_TOO_LARGE)
        elif self._is_in_trailers and self._trailer_bytes > TRAILERS_BYTES_MAX:
            self._refuse(FIELDS_TOO_LARGE)
        # bytes or blank lines of an answered request may still arrive
        elif self._is_in_headers or not self.is_answering:
            self.open_connections.expect_headers(self)

    def _feed(self, data: bytes) -> None:
        """Parse as uvicorn's `data_received` does, except for upgrades: uvicorn would drop the body
        of a request that offers one.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            remainder = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, PipelineFullError):
                self._finish_and_close()
            else:
                self._refuse(cause.answer if isinstance(cause, LimitExceededError) else b"")
            return
        else:
            return
        # outside the handler: there, this error would become the context of the next one
        self._feed_without_upgrade(remainder)

    def _feed_without_upgrade(self, remainder: bytes) -> None:
        """Parse the request again without its upgrade offer. A server ignores an upgrade that it
        does not know (RFC 9110, 7.8), which httptools cannot be configured to do.
        """
        head = without_upgrade(
            self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers
        )
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head)
        if remainder and not self._is_input_over:
            self._feed(remainder)

    @override
    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED_MAX:
            raise PipelineFullError
        self._is_in_headers, self._is_in_trailers, self._bytes = True, False, self._chunk
        self._trailer_lines = self._trailer_fields_bytes = 0
        super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > TARGET_BYTES_MAX:
            raise LimitExceededError(TARGET_TOO_LONG)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. It replaces uvicorn's method instead of calling it for each line, which
        alone costs a percent of the endpoint's time.
        """
        if not self._is_in_headers:
            self._trailer_lines += 1
            self._trailer_fields_bytes += len(name) + len(value)
            if (
                self._trailer_lines > HEADER_LINES_MAX
                or self._trailer_fields_bytes > TRAILERS_BYTES_MAX
            ):
                raise LimitExceededError(FIELDS_TOO_LARGE)
            return
        if len(self.headers) >= HEADER_LINES_MAX:
            raise LimitExceededError(FIELDS_TOO_LARGE)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    @override
    def on_headers_complete(self) -> None:
        if self._bytes > HEADERS_BYTES_MAX:  # the count may include some of the body
            size = len(self.url) + sum(len(name) + len(text) + 4 for name, text in self.headers)
            if size > HEADERS_BYTES_MAX:
                raise LimitExceededError(FIELDS_TOO_LARGE)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this is not a proxy")
            return  # `_feed_without_upgrade` calls this again
        self._is_in_headers = False
        self.open_connections.headers_received(self)
        is_first = not self.is_answering
        super().on_headers_complete()
        if is_first:
            self._current_cycle = self.cycle
        self.open_connections.body_started(self)

    def on_chunk_header(self) -> None:
        """Expect trailers: until a byte of the body arrives, this may have been the last chunk."""
        self._is_in_trailers, self._trailer_bytes = True, 0
        self._was_in_trailers = False  # what preceded it in this read is body

    @override
    def on_body(self, body: bytes) -> None:
        self._is_in_trailers = False
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if self._is_in_headers:
            return  # of an upgrade, which is parsed again
        self._is_in_trailers = False
        self.open_connections.body_received(self)
        super().on_message_complete()

    def _refuse(self, answer: bytes) -> None:
        """Send the response (empty: 400) and close. Requests that arrived completely before this
        one are answered first.
        """
        self.open_connections.refuse(self, "large" if answer else "malformed")
        if self._finish_and_close():
            return
        if answer:
            self.transport.write(answer)
            self.transport.close()
        else:
            super().send_400_response("this is not an HTTP/1.1 request")

    def _finish_and_close(self) -> bool:
        """Return whether earlier requests remain to be answered. Then nothing more is read, and the
        last response closes the connection.
        """
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()  # it did not arrive completely
        elif not self.is_answering or (not self._is_in_headers and self.cycle.more_body):
            return False
        last = self.pipeline[0][0] if self.pipeline else self._current_cycle
        if last is None or last.response_complete:
            return False
        self._ignores_input, self.cycle, last.keep_alive = True, last, False
        return True

    @override
    def on_response_complete(self) -> None:
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._current_cycle = following
        if not self.transport.is_closing() and not self.is_answering and not self._is_in_headers:
            self.open_connections.request_ended(self)
