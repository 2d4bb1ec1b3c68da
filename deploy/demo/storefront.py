"""The shop, which posts its callbacks over HTTP, signed, some of them twice at one instant."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from deploy.demo.evening import Callback
from deploy.demo.woocommerce import headers

AT_ONCE = 16  # connections: a shop's queue runner posts some in parallel
TRIES = 40  # this shop sends again after a 503, so that the demonstration can kill any process


@dataclass
class DemoStorefront:
    """`responses` counts status codes. `completed_at` is when an order's first callback with the
    status `completed` was posted.
    """

    url: str
    secret: str
    responses: Counter[int] = field(default_factory=Counter)
    completed_at: dict[int, float] = field(default_factory=dict)
    sent: int = 0

    async def _post(self, client: httpx.AsyncClient, callback: Callback, number: int) -> None:
        signed = headers(self.secret, callback.topic, callback.body, second=number // 50)
        for _ in range(TRIES):
            if callback.completes and callback.order_id is not None:
                self.completed_at.setdefault(callback.order_id, time.time())
            response = await client.post(self.url, content=callback.body, headers=signed)
            self.responses[response.status_code] += 1
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            await asyncio.sleep(float(response.headers.get("Retry-After", "1")))
        self.sent += 1

    async def _send(
        self, callbacks: Sequence[Callback], per_second: float, at_half: Callable[[], None]
    ) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        started_at, tasks = time.monotonic(), set[asyncio.Task[None]]()
        async with httpx.AsyncClient(timeout=30.0) as client:

            async def post(callback: Callback, number: int) -> None:
                async with slots:
                    await asyncio.gather(
                        *(self._post(client, callback, number) for _ in range(callback.twins))
                    )

            for number, callback in enumerate(callbacks):
                await asyncio.sleep(max(0.0, started_at + number / per_second - time.monotonic()))
                task = asyncio.create_task(post(callback, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                if number == len(callbacks) // 2:
                    await asyncio.to_thread(at_half)
            await asyncio.gather(*tasks)

    def send(
        self, callbacks: Sequence[Callback], *, per_second: float, at_half: Callable[[], None]
    ) -> None:
        """Send all and return when each was answered. `at_half` is called once, halfway."""
        asyncio.run(self._send(callbacks, per_second, at_half))
