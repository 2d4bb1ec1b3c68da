"""Certificates by which vendors sign, fetched once. A source's `verify` has judged the address
before anything is asked of it.

Whoever may call the door can name addresses at the vendor's host. So few are asked at once and in a
minute, few callbacks wait for them, an address that gave nothing is left alone for a while, and
what proved good is never given up for what did not. Beyond a bound the answer is that it cannot be
had now, and the vendor asks again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import httpx

from services.ingest.webhooks.rate_limit import TokenBucket
from services.runtime.observability import logs

FETCH_TIMEOUT_S = 5.0
BYTES_MAX = 64 * 1_024
CACHED_MAX = 32  # a vendor has a handful; an attacker may name many
FETCHES_MAX = 4  # addresses at once
FETCHES_PER_S = 0.5  # and in the long run, so that no flood is passed on to the vendor
WAITING_MAX = 100  # callbacks
RETRY_AFTER_S = 30.0  # before an address that gave nothing is asked again
FAILED_MAX = 1_000
REFRESH_AFTER_S = 60 * 60.0  # before one that is held, and is not good, is asked for again
PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"


class CertificateCache:
    """Used in one event loop. `known` may be read at any time; its contents are PEM as the vendor's
    host sent them.
    """

    def __init__(
        self,
        client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
        known: Mapping[str, bytes] | None = None,
    ) -> None:
        self.known = dict(known or {})
        self._client, self._clock = client, clock
        self._fetched = dict.fromkeys(self.known, clock())
        self._proven: set[str] = set()
        self._failed: dict[str, float] = {}  # the oldest first
        self._fetches: dict[
            str, asyncio.Task[bool]
        ] = {}  # callbacks that wait for the same one fetch it once
        self._waiting = 0
        self._rate_limit = TokenBucket(FETCHES_PER_S, burst_s=FETCHES_MAX / FETCHES_PER_S)
        self._log = logs.get("webhooks")

    async def fetch(self, url: str) -> bool:
        """Whether it is known now, as it is at the vendor's. Never raises, and never waits longer
        than it takes to ask once.
        """
        now = self._clock()
        if url in self.known and now - self._fetched[url] < REFRESH_AFTER_S:
            return True
        fetch_task = self._fetches.get(url) or self._start_fetch(url, now)
        if fetch_task is None or self._waiting >= WAITING_MAX:
            return url in self.known
        self._waiting += 1
        try:
            return await asyncio.shield(fetch_task)  # others wait for it too
        finally:
            self._waiting -= 1

    def mark_proven(self, url: str) -> None:
        """A callback's signature fitted it: it stays."""
        if url in self.known:
            self._proven.add(url)

    def _start_fetch(self, url: str, now: float) -> asyncio.Task[bool] | None:
        """None: not now."""
        if (
            len(self._fetches) >= FETCHES_MAX
            or now - self._failed.get(url, float("-inf")) < RETRY_AFTER_S
        ):
            return None
        if not self._rate_limit.take(now):
            return None
        fetch_task = self._fetches[url] = asyncio.create_task(self._fetched_now(url))
        fetch_task.add_done_callback(lambda _: self._fetches.pop(url, None))
        return fetch_task

    async def _fetched_now(self, url: str) -> bool:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                content = await self._read(url)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            httpx.StreamError,
            ValueError,
            TimeoutError,
            OSError,
        ) as error:
            self._remember_failure(url)
            self._log.warning(
                "a vendor's certificate cannot be fetched", url=url, error=type(error).__name__
            )
            return url in self.known
        if url not in self.known and len(self.known) >= CACHED_MAX:
            self._evict_one()
        self.known[url], self._fetched[url] = content, self._clock()
        self._failed.pop(url, None)
        return True

    def _remember_failure(self, url: str) -> None:
        self._failed.pop(url, None)
        if len(self._failed) >= FAILED_MAX:
            del self._failed[next(iter(self._failed))]
        self._failed[url] = self._clock()
        if url in self.known:
            self._fetched[url] = self._clock()

    def _evict_one(self) -> None:
        """The oldest of those that nothing was ever signed by, if there is one."""
        oldest = min(self.known, key=lambda url: (url in self._proven, self._fetched[url]))
        del self.known[oldest], self._fetched[oldest]
        self._proven.discard(oldest)

    async def _read(self, url: str) -> bytes:
        """Bounded in size, and never unpacked; no redirect leads elsewhere."""
        if self._client is None:
            # In a thread, for it reads the authorities of this machine: the door goes on meanwhile.
            self._client = await asyncio.to_thread(
                httpx.AsyncClient, timeout=FETCH_TIMEOUT_S, follow_redirects=False
            )
        async with self._client.stream(
            "GET", url, headers={"accept-encoding": "identity"}
        ) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"answered {answer.status_code}")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("it is packed")
            content = bytearray()
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > BYTES_MAX:
                    raise ValueError("it is too large")
            if PEM_BEGIN not in content:
                raise ValueError("it is no certificate")
            return bytes(content)
