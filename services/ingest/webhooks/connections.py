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
        wanted: int,
        headers_wait_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        descriptors: Callable[[], int] = descriptors_max,
    ) -> None:
        self._wanted, self._wait_s, self._clock, self._descriptors = (
            wanted,
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
        self._coming = dict[HttpConnection, None]()  # their bodies, the first that began first
        self._closed: Counter[str] = Counter()
        self._log = logs.get("door")
        self._most = wanted
        self._bound()

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn makes one of for each connection."""
        return type("BoundConnection", (HttpConnection,), {"among": self})

    def opened(self, one: HttpConnection) -> bool:
        """Whether there is room for it."""
        if len(self._open) >= self._most and not self._make_room():
            self._closed["full"] += 1
            return False
        self._open.add(one)
        self.wait(one)
        return True

    def lost(self, one: HttpConnection) -> None:
        self._open.discard(one)
        self._unread.pop(one, None)
        self.leave(one)

    def leave(self, one: HttpConnection) -> None:
        """It asks nothing more. It counts until it is closed: perhaps it does not read its last
        answer.
        """
        self._waiting.pop(one, None)
        self._idle.pop(one, None)
        self._coming.pop(one, None)

    def wait(self, one: HttpConnection) -> None:
        """For its headers. Whoever waits already gets no more time."""
        if one in self._open and one not in self._waiting:
            self._waiting[one] = self._clock() + self._wait_s

    def came(self, one: HttpConnection) -> None:
        self._waiting.pop(one, None)

    def begin(self, one: HttpConnection) -> None:
        """Its body, if it has one."""
        if one in self._open:
            self._coming[one] = None

    def end(self, one: HttpConnection) -> None:
        self._coming.pop(one, None)

    def rest(self, one: HttpConnection) -> None:
        """It was answered, and may ask again."""
        if one in self._open:
            self._idle[one] = None

    def wake(self, one: HttpConnection) -> None:
        self._idle.pop(one, None)

    def refuse(self, one: HttpConnection, why: str) -> None:
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

    def _close(self, one: HttpConnection, why: str) -> None:
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
            WEBHOOK_CONNECTIONS_CLOSED.add(count, outcome=why)
        if closed:
            self._log.warning("connections were closed", open=len(self._open), **closed)
        WEBHOOK_CONNECTIONS.set(len(self._open))

    def _sweep_unread(self, now: float) -> None:
        """An answer is small: what of it does not fit into the system's buffers lies here only when
        nobody reads.
        """
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
            self._log.warning(
                "file descriptors bound the connections", most=most, wanted=self._wanted
            )
        self._most = most
        try:
            os.close(os.dup(2))
        except OSError as error:  # whoever connects is dropped by the event loop without a word
            self._log.error(
                "no file descriptor is left", open=len(self._open), error=error.strerror
            )
