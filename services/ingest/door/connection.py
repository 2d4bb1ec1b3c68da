"""Connections of the door: how long one may take over its headers and over its answers, how large headers may be, and how many
there may be at once.

Between requests uvicorn's own timer counts, and while a body comes the application's. Whoever takes neither a request nor
leaves, or leaves his answers unread, is swept once a second; no request has a timer of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from schemas.topics import MIB
from services.ingest.metrics import DOOR_CONNECTIONS, DOOR_CONNECTIONS_CLOSED
from services.runtime import logs

HEADERS_BYTES_MAX = 64 * 1_024
REQUEST_BYTES_MAX = 8 * MIB  # as sent: a body in small chunks is larger than the body, and what stands behind it counts
DESCRIPTORS_RESERVE = 64  # for Kafka, for logs, for certificates that are fetched
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
QUIET = logging.getLogger("uvicorn.connections")  # a line for each request of nonsense would let strangers fill the log
QUIET.setLevel(logging.ERROR)


def descriptors() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


class Connections:
    """All that are open. Full, one makes room: the oldest without its headers, else the longest idle, else one whose answers
    are not read, else the one whose body has been coming for longest.
    """

    def __init__(
        self,
        wanted: int,
        headers_wait_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        descriptors: Callable[[], int] = descriptors,
    ) -> None:
        self._wanted, self._wait_s, self._clock, self._descriptors = wanted, headers_wait_s, clock, descriptors
        self._open = set[Connection]()
        self._waiting = dict[Connection, float]()  # until when; the same wait for all, so the first is the oldest
        self._idle = dict[Connection, None]()
        self._unread = dict[Connection, float]()  # until when their answers may lie here
        self._coming = dict[Connection, None]()  # their bodies, the first that began first
        self._closed: Counter[str] = Counter()
        self._log = logs.get("door")
        self._most = wanted
        self._bound()

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn makes one of for each connection."""
        return type("BoundConnection", (Connection,), {"among": self})

    def opened(self, one: Connection) -> bool:
        """Whether there is room for it."""
        if len(self._open) >= self._most and not self._make_room():
            self._closed["full"] += 1
            return False
        self._open.add(one)
        self.wait(one)
        return True

    def lost(self, one: Connection) -> None:
        self._open.discard(one)
        self._unread.pop(one, None)
        self.leave(one)

    def leave(self, one: Connection) -> None:
        """It asks nothing more. It counts until it is closed: perhaps it does not read its last answer."""
        self._waiting.pop(one, None)
        self._idle.pop(one, None)
        self._coming.pop(one, None)

    def wait(self, one: Connection) -> None:
        """For its headers. Whoever waits already gets no more time."""
        if one in self._open and one not in self._waiting:
            self._waiting[one] = self._clock() + self._wait_s

    def came(self, one: Connection) -> None:
        self._waiting.pop(one, None)

    def begin(self, one: Connection) -> None:
        """Its body, if it has one."""
        if one in self._open:
            self._coming[one] = None

    def end(self, one: Connection) -> None:
        self._coming.pop(one, None)

    def rest(self, one: Connection) -> None:
        """It was answered, and may ask again."""
        if one in self._open:
            self._idle[one] = None

    def wake(self, one: Connection) -> None:
        self._idle.pop(one, None)

    def refuse(self, one: Connection, why: str) -> None:
        self._closed[why] += 1
        self.leave(one)

    def _make_room(self) -> bool:
        one = (
            next((it for it in self._waiting if not it.is_answering), None)
            or next(iter(self._idle), None)
            or next(iter(self._unread), None)
            or next(iter(self._coming), None)
        )
        if one is not None:
            self._close(one, "room")
        return one is not None

    def _close(self, one: Connection, why: str) -> None:
        self.refuse(one, why)
        self.lost(one)
        one.transport.abort()

    def tell(self) -> None:
        """About once a second: closes whoever takes too long, and says what was closed since."""
        now = self._clock()
        while (one := next(iter(self._waiting), None)) is not None and self._waiting[one] <= now:
            if one.is_answering:  # it is not read from meanwhile
                self.came(one)
                self.wait(one)
            else:
                self._close(one, "slow")
        self._sweep_unread(now)
        self._bound()
        while len(self._open) > self._most and self._make_room():
            pass
        closed, self._closed = self._closed, Counter()
        for why, count in closed.items():
            DOOR_CONNECTIONS_CLOSED.add(count, outcome=why)
        if closed:
            self._log.warning("connections were closed", open=len(self._open), **closed)
        DOOR_CONNECTIONS.set(len(self._open))

    def _sweep_unread(self, now: float) -> None:
        """An answer is small: what of it does not fit into the system's buffers lies here only when nobody reads."""
        for one in self._open:
            if not one.has_unread:
                self._unread.pop(one, None)
            elif one not in self._unread:
                self._unread[one] = now + self._wait_s
        for one in [it for it, until in self._unread.items() if until <= now]:
            self._close(one, "unread")

    def _bound(self) -> None:
        """By what the process may have open now, which can be changed while it runs."""
        most = max(1, min(self._wanted, self._descriptors() - DESCRIPTORS_RESERVE))
        if most < self._wanted and most != self._most:
            self._log.warning("file descriptors bound the connections", most=most, wanted=self._wanted)
        self._most = most
        try:
            os.close(os.dup(2))
        except OSError as error:  # whoever connects is dropped by the event loop without a word
            self._log.error("no file descriptor is left", open=len(self._open), error=error.strerror)


class Connection(HttpToolsProtocol):
    """One of them."""

    among: ClassVar[Connections]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = QUIET
        self._is_in_headers = self._is_too_large = False
        self._bytes = self._chunk = 0
        self._answered: RequestResponseCycle | None = None  # of several that were sent at once: uvicorn knows the last

    @property
    def is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn's types say
        return cycle is not None and not cycle.response_complete

    @property
    def has_unread(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if not self.among.opened(self):
            transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.among.lost(self)
        super().connection_lost(exc)
        if self._answered is not None:
            self._answered.disconnected = (
                True  # or what it says to nobody would be told as a defect, at a stranger's will
            )

    @override
    def data_received(self, data: bytes) -> None:
        self.among.wake(self)
        self._chunk = len(data)
        self._bytes += self._chunk
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._bytes > (HEADERS_BYTES_MAX if self._is_in_headers else REQUEST_BYTES_MAX):
            self._is_too_large = True
            self.send_400_response("")
        elif self._is_in_headers or not self.is_answering:  # of what was answered bytes may still come, or blank lines
            self.among.wait(self)

    @override
    def on_message_begin(self) -> None:
        self._is_in_headers, self._bytes = True, self._chunk
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        if self._bytes > HEADERS_BYTES_MAX:  # perhaps with some of the body
            size = len(self.url) + sum(len(name) + len(text) + 4 for name, text in self.headers)
            self._is_too_large = size > HEADERS_BYTES_MAX
            if self._is_too_large:
                raise ValueError("the headers are too large")  # ends the parser, which has it answered
        self._is_in_headers = False
        self.among.came(self)
        is_first = not self.is_answering
        super().on_headers_complete()
        if is_first:
            self._answered = self.cycle
        self.among.begin(self)

    @override
    def on_message_complete(self) -> None:
        self.among.end(self)
        super().on_message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        self.among.refuse(self, "large" if self._is_too_large else "nonsense")
        if self._is_too_large:
            self.transport.write(TOO_LARGE)
            self.transport.close()
        else:
            super().send_400_response(msg)

    @override
    def on_response_complete(self) -> None:
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._answered = following
        if not self.transport.is_closing() and not self.is_answering and not self._is_in_headers:
            self.among.rest(self)
