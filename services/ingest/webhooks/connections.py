"""Connections of the webhook endpoint: how long one may take over its headers and over reading its
responses, and how many there may be.

Between requests uvicorn's own timer applies, and during a body the application's. Connections that
send no request and do not close, or do not read their responses, are swept once a second; no
request has a timer of its own.
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

DESCRIPTORS_RESERVE = 64  # for Kafka, logs, and certificates that are fetched


def descriptors_max() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


class OpenConnections:
    """All open connections. When they are full, one is closed: the oldest that awaits its headers,
    else the longest idle, else one that does not read its responses, else the one whose body has
    been arriving for longest.
    """

    def __init__(
        self,
        configured_max: int,
        headers_wait_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        descriptors: Callable[[], int] = descriptors_max,
    ) -> None:
        self._configured_max, self._wait_s = configured_max, headers_wait_s
        self._clock, self._descriptors = clock, descriptors
        self._open = set[HttpConnection]()
        # their deadlines; all wait equally long, so the first is the oldest
        self._waiting = dict[HttpConnection, float]()
        self._idle = dict[HttpConnection, None]()
        self._unread = dict[HttpConnection, float]()  # their deadlines
        self._reading_bodies = dict[HttpConnection, None]()  # the one that began first is first
        self._closed: Counter[str] = Counter()
        self._log = logs.get("webhooks")
        self._limit = configured_max
        self._bound()

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the protocol class that uvicorn instantiates for each connection."""
        return type("BoundConnection", (HttpConnection,), {"open_connections": self})

    def admit(self, connection: HttpConnection) -> bool:
        """Return whether there is room for the connection."""
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
        """The connection sends nothing more. It counts until it is closed: it may not have read its
        last response.
        """
        self._waiting.pop(connection, None)
        self._idle.pop(connection, None)
        self._reading_bodies.pop(connection, None)

    def expect_headers(self, connection: HttpConnection) -> None:
        """Start the time for headers. A connection that waits already gets no more time."""
        if connection in self._open and connection not in self._waiting:
            self._waiting[connection] = self._clock() + self._wait_s

    def headers_received(self, connection: HttpConnection) -> None:
        self._waiting.pop(connection, None)

    def body_started(self, connection: HttpConnection) -> None:
        """The request's headers are complete; a body may follow."""
        if connection in self._open:
            self._reading_bodies[connection] = None

    def body_received(self, connection: HttpConnection) -> None:
        self._reading_bodies.pop(connection, None)

    def request_ended(self, connection: HttpConnection) -> None:
        """The request was answered; the connection is idle."""
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
        """Close connections that take too long, and report what was closed since the last call.
        Called about once a second.
        """
        now = self._clock()
        while (connection := next(iter(self._waiting), None)) is not None and self._waiting[
            connection
        ] <= now:
            if connection.is_answering:  # it is not read from while it is being answered
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
            self._log.warning("connections closed", open=len(self._open), **closed)
        WEBHOOK_CONNECTIONS.set(len(self._open))

    def _sweep_unread(self, now: float) -> None:
        """Close connections that do not read. A response is small: it stays in our buffer only
        while nobody reads.
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
        """Set the limit from the open-file limit, which can change while the process runs."""
        limit = max(1, min(self._configured_max, self._descriptors() - DESCRIPTORS_RESERVE))
        if limit < self._configured_max and limit != self._limit:
            self._log.warning(
                "connections limited by open files",
                limit=limit,
                configured_max=self._configured_max,
            )
        self._limit = limit
        try:
            os.close(os.dup(2))
        except OSError as error:  # the event loop drops new connections without logging it
            self._log.error("no file descriptors left", open=len(self._open), error=error.strerror)
