"""Connections of the door: how long one may take over its headers and over its answers, and how
many there may be at once.

Between requests uvicorn's own timer counts, and while a body comes the application's. Whoever takes
neither a request nor leaves, or leaves his answers unread, is swept once a second; no request has a
timer of its own.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import Counter
from collections.abc import Callable

from services.ingest.metrics import WEBHOOK_CONNECTIONS, WEBHOOK_CONNECTIONS_CLOSED
from services.ingest.webhooks.protocol import HttpConnection
from services.runtime.observability import logs

DESCRIPTORS_RESERVE = 64  # for Kafka, for logs, for certificates that are fetched


def descriptors_max() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


class OpenConnections:
    """All that are open. Full, one makes room: the oldest without its headers, else the longest
    idle, else one whose answers are not read, else the one whose body has been coming for longest.
    """

    def __init__(
        self,
        configured_max: int,
        headers_wait_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        descriptors: Callable[[], int] = descriptors_max,
    ) -> None:
        self._configured_max, self._wait_s, self._clock, self._descriptors = (
            configured_max,
            headers_wait_s,
            clock,
            descriptors,
        )
        self._open = set[HttpConnection]()
        self._waiting = dict[
            HttpConnection, float
        ]()  # until when; the same wait for all, so the first is the oldest
        self._idle = dict[HttpConnection, None]()
        self._unread = dict[HttpConnection, float]()  # until when their answers may lie here
        self._reading_bodies = dict[
            HttpConnection, None
        ]()  # their bodies, the first that began first
        self._closed: Counter[str] = Counter()
        self._log = logs.get("webhooks")
        self._limit = configured_max
        self._bound()

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn makes one of for each connection."""
        return type("BoundConnection", (HttpConnection,), {"open_connections": self})

    def admit(self, connection: HttpConnection) -> bool:
        """Whether there is room for it."""
        if len(self._open) >= self._limit and not self._make_room():
            self._closed["full"] += 1
            return False
        self._open.add(connection)
        self.expect_headers(connection)
        return True

    def remove(self, connection: HttpConnection) -> None:
        self._open.discard(connection)
        self._unread.pop(connection, None)
        self.input_ended(connection)

    def input_ended(self, connection: HttpConnection) -> None:
        """It asks nothing more. It counts until it is closed: perhaps it does not read its last
        answer.
        """
        self._waiting.pop(connection, None)
        self._idle.pop(connection, None)
        self._reading_bodies.pop(connection, None)

    def expect_headers(self, connection: HttpConnection) -> None:
        """For its headers. Whoever waits already gets no more time."""
        if connection in self._open and connection not in self._waiting:
            self._waiting[connection] = self._clock() + self._wait_s

    def headers_received(self, connection: HttpConnection) -> None:
        self._waiting.pop(connection, None)

    def body_started(self, connection: HttpConnection) -> None:
        """Its body, if it has one."""
        if connection in self._open:
            self._reading_bodies[connection] = None

    def body_received(self, connection: HttpConnection) -> None:
        self._reading_bodies.pop(connection, None)

    def request_ended(self, connection: HttpConnection) -> None:
        """It was answered, and may ask again."""
        if connection in self._open:
            self._idle[connection] = None

    def request_started(self, connection: HttpConnection) -> None:
        self._idle.pop(connection, None)

    def refuse(self, connection: HttpConnection, why: str) -> None:
        self._closed[why] += 1
        self.input_ended(connection)

    def _make_room(self) -> bool:
        connection = (
            next((connection for connection in self._waiting if not connection.is_answering), None)
            or next(iter(self._idle), None)
            or next(iter(self._unread), None)
            or next(iter(self._reading_bodies), None)
        )
        if connection is not None:
            self._close(connection, "room")
        return connection is not None

    def _close(self, connection: HttpConnection, why: str) -> None:
        self.refuse(connection, why)
        self.remove(connection)
        connection.transport.abort()

    def report(self) -> None:
        """About once a second: closes whoever takes too long, and says what was closed since."""
        now = self._clock()
        while (connection := next(iter(self._waiting), None)) is not None and self._waiting[
            connection
        ] <= now:
            if connection.is_answering:  # it is not read from meanwhile
                self.headers_received(connection)
                self.expect_headers(connection)
            else:
                self._close(connection, "slow")
        self._sweep_unread(now)
        self._bound()
        while len(self._open) > self._limit and self._make_room():
            pass
        closed, self._closed = self._closed, Counter()
        for why, count in closed.items():
            WEBHOOK_CONNECTIONS_CLOSED.add(count, outcome=why)
        if closed:
            self._log.warning("connections were closed", open=len(self._open), **closed)
        WEBHOOK_CONNECTIONS.set(len(self._open))

    def _sweep_unread(self, now: float) -> None:
        """An answer is small: what of it does not fit into the system's buffers lies here only when
        nobody reads.
        """
        for connection in self._open:
            if not connection.has_unread:
                self._unread.pop(connection, None)
            elif connection not in self._unread:
                self._unread[connection] = now + self._wait_s
        for connection in [
            connection for connection, until in self._unread.items() if until <= now
        ]:
            self._close(connection, "unread")

    def _bound(self) -> None:
        """By what the process may have open now, which can be changed while it runs."""
        limit = max(1, min(self._configured_max, self._descriptors() - DESCRIPTORS_RESERVE))
        if limit < self._configured_max and limit != self._limit:
            self._log.warning(
                "file descriptors bound the connections",
                limit=limit,
                configured_max=self._configured_max,
            )
        self._limit = limit
        try:
            os.close(os.dup(2))
        except OSError as error:  # whoever connects is dropped by the event loop without a word
            self._log.error(
                "no file descriptor is left", open=len(self._open), error=error.strerror
            )
