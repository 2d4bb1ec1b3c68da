"""The shop, which posts its callbacks over HTTP, signed, some of them twice at one instant."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http import HTTPStatus

from deploy.demo import kept_connection
from deploy.demo.evening import Callback
from deploy.demo.kept_connection import KeptConnection
from deploy.demo.woocommerce import headers

AT_ONCE = 16  # callbacks: a shop's queue runner posts some in parallel
TRIES = 40  # this shop sends again after a 503, so that the demonstration can kill any process
UNREACHABLE = 0  # counted beside the status codes
WAIT_S = 1.0  # before another try, where the response names no time


@dataclass
class DemoStorefront:
    """`responses` counts status codes. `completed_at` is when an order's first callback with the
    status `completed` was posted.
    """

    port: int
    path: str
    secret: str
    responses: Counter[int] = field(default_factory=Counter)
    completed_at: dict[int, float] = field(default_factory=dict)
    sent: int = 0

    def send(
        self, callbacks: Sequence[Callback], *, per_second: float, at_half: Callable[[], None]
    ) -> None:
        """Send all and return when each was answered. `at_half` is called once, halfway."""
        asyncio.run(self._send(callbacks, per_second, at_half))

    async def _send(
        self, callbacks: Sequence[Callback], per_second: float, at_half: Callable[[], None]
    ) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        started_at, tasks = time.monotonic(), set[asyncio.Task[None]]()
        async with AsyncExitStack() as open_until_the_end:
            connections = ConnectionPool(self.port, open_until_the_end)

            async def post(callback: Callback, number: int) -> None:
                async with slots:
                    await asyncio.gather(
                        *(self._post(connections, callback, number) for _ in range(callback.twins))
                    )

            for number, callback in enumerate(callbacks):
                await asyncio.sleep(max(0.0, started_at + number / per_second - time.monotonic()))
                task = asyncio.create_task(post(callback, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                if number == len(callbacks) // 2:
                    await asyncio.to_thread(at_half)
            await asyncio.gather(*tasks)

    async def _post(self, connections: ConnectionPool, callback: Callback, number: int) -> None:
        signed = headers(self.secret, callback.topic, callback.body, second=number // 50)
        request = kept_connection.post(self.path, signed, callback.body)
        for _ in range(TRIES):
            if callback.completes and callback.order_id is not None:
                self.completed_at.setdefault(callback.order_id, time.time())
            status, wait_s = await connections.try_once(request)
            self.responses[status] += 1
            if status not in {UNREACHABLE, HTTPStatus.SERVICE_UNAVAILABLE}:
                break
            await asyncio.sleep(wait_s)
        self.sent += 1


class ConnectionPool:
    """As many connections as there are requests at one time; each is kept for the next ones."""

    def __init__(self, port: int, open_until_the_end: AsyncExitStack) -> None:
        self._port, self._stack = port, open_until_the_end
        self._idle: list[KeptConnection] = []

    async def try_once(self, request: bytes) -> tuple[int, float]:
        """Return the status, or UNREACHABLE, and the seconds to wait before another try."""
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = await self._stack.enter_async_context(KeptConnection(self._port))
        try:
            response = await connection.request(request)
        except OSError:
            return UNREACHABLE, WAIT_S
        finally:
            self._idle.append(connection)
        return response.status, float(response.headers.get(b"retry-after", WAIT_S))
