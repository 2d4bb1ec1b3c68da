"""Bodies of callbacks, from their first byte until they are answered: bounded in size, time, number
and total bytes.

A genuine body arrives at once, or nearly. So when there is no room, the body that has been arriving
for longest is evicted: a caller that begins a body and never ends it keeps no other caller out.
Bodies that wait for Kafka's acknowledgement are never evicted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.types import Receive

from services.ingest.settings import IngestSettings
from services.ingest.webhooks.responses import ProblemError, retry_later, too_large

TOO_MANY_CALLBACKS = "too many callbacks at once"


class RequestBody:
    """A body, which holds its place until it is answered or evicted."""

    __slots__ = ("content", "is_evicted", "limit", "size")

    def __init__(self) -> None:
        # One buffer: a list of parts would cost fifty bytes for a part of one byte.
        self.content, self.size, self.is_evicted = bytearray(), 0, False
        self.limit: asyncio.Timeout | None = None


class RequestBodies:
    """All bodies of the endpoint. Used in one event loop."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._arriving = dict[RequestBody, None]()  # the one that began first is first
        self._count = self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def has_room(self) -> bool:
        """Return whether one more may begin."""
        return self._count < self._settings.webhook_in_flight_max or bool(self._arriving)

    @contextmanager
    def place(self) -> Iterator[RequestBody]:
        """Take a place for a body that `has_room` has admitted."""
        if self._count >= self._settings.webhook_in_flight_max:
            self._evict(next(iter(self._arriving)))
        body = RequestBody()
        self._count += 1
        try:
            yield body
        finally:
            self._release(body)

    async def read(self, receive: Receive, body: RequestBody) -> bytes:
        """Return the whole body, or raise ProblemError. A certificate or an acknowledgement that is
        awaited later has its own bounds.
        """
        self._arriving[body] = None
        try:
            async with asyncio.timeout(self._settings.webhook_body_wait_ms / 1_000) as body.limit:
                while await self._read_on(receive, body):
                    pass
        except TimeoutError:
            if body.is_evicted:
                raise self._full() from None
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time", connection="close"
            ) from None
        finally:
            self._arriving.pop(body, None)
        return bytes(body.content)

    async def _read_on(self, receive: Receive, body: RequestBody) -> bool:
        """Read the next part. Return whether there is more."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the caller disconnected")
        if body.is_evicted:
            raise self._full()
        chunk = message.get("body", b"")
        body.content += chunk
        body.size += len(chunk)
        self._bytes += len(chunk)
        if body.size > self._settings.webhook_body_bytes_max:
            raise too_large(self._settings.webhook_body_bytes_max)
        while self._bytes > self._settings.webhook_in_flight_bytes_max:
            oldest = next(iter(self._arriving))
            if oldest is body:
                raise self._full()
            self._evict(oldest)
        return bool(message.get("more_body", False))

    def _evict(self, body: RequestBody) -> None:
        """Free the place at once. The caller gets its answer as soon as its task runs."""
        self._release(body)
        body.is_evicted = True
        if body.limit is not None:
            body.limit.reschedule(0)

    def _release(self, body: RequestBody) -> None:
        self._arriving.pop(body, None)
        if not body.is_evicted:
            self._count -= 1
            self._bytes -= body.size
            body.content = bytearray()

    def _full(self) -> ProblemError:
        return retry_later(TOO_MANY_CALLBACKS, self._settings.webhook_retry_after_s)
