"""Certificates with which vendors sign, fetched once. A source's `verify` has checked an address
before it is fetched.

Any caller can name addresses at the vendor's host. So few are fetched at once and per minute, few
callbacks wait for them, an address that failed is not fetched again for a while, and a certificate
that has verified a callback is never evicted for one that has not. Beyond a bound the answer is
503, and the vendor repeats its callback.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import httpx

from services.runtime.failures.token_bucket import TokenBucket
from services.runtime.observability import logs

FETCH_TIMEOUT_S = 5.0
BYTES_MAX = 64 * 1_024
CACHED_MAX = 32  # a vendor has a handful; an attacker may name many
FETCHES_MAX = 4  # at once
FETCHES_PER_S = 0.5  # in the long run, so that no flood is passed on to the vendor
WAITING_MAX = 100  # callbacks that wait
RETRY_AFTER_S = 30.0  # before an address that failed is fetched again
FAILED_MAX = 1_000
REFRESH_AFTER_S = 60 * 60.0  # before a certificate that verifies nothing is fetched again
PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"


class CertificateCache:
    """Used in one event loop. `known` may be read at any time and holds PEM as the vendor's host
    sent it.
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
        # callbacks that need the same certificate share one fetch
        self._fetches: dict[str, asyncio.Task[bool]] = {}
        self._waiting = 0
        self._rate_limit = TokenBucket(FETCHES_PER_S, FETCHES_MAX / FETCHES_PER_S)
        self._log = logs.get("webhooks")

    async def fetch(self, url: str) -> bool:
        """Return whether the certificate is known and current. Never raises, and waits at most for
        one fetch.
        """
        now = self._clock()
        if url in self.known and now - self._fetched[url] < REFRESH_AFTER_S:
            return True
        fetch_task = self._fetches.get(url) or self._start_fetch(url, now)
        if fetch_task is None or self._waiting >= WAITING_MAX:
            return url in self.known
        self._waiting += 1
        try:
            return await asyncio.shield(fetch_task)  # other callbacks wait for it too
        finally:
            self._waiting -= 1

    def mark_proven(self, url: str) -> None:
        """Keep a certificate that has verified a callback."""
        if url in self.known:
            self._proven.add(url)

    def _start_fetch(self, url: str, now: float) -> asyncio.Task[bool] | None:
        """Start a fetch. None: not now."""
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
            self._log.warning("certificate fetch failed", url=url, error=type(error).__name__)
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
        """Evict the oldest certificate, preferably one that has verified nothing."""
        oldest = min(self.known, key=lambda url: (url in self._proven, self._fetched[url]))
        del self.known[oldest], self._fetched[oldest]
        self._proven.discard(oldest)

    async def _read(self, url: str) -> bytes:
        """Fetch at most BYTES_MAX, without decoding and without following redirects."""
        if self._client is None:
            # In a thread: it reads this machine's certificate authorities, which takes a while.
            self._client = await asyncio.to_thread(
                httpx.AsyncClient, timeout=FETCH_TIMEOUT_S, follow_redirects=False
            )
        async with self._client.stream(
            "GET", url, headers={"accept-encoding": "identity"}
        ) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"response {answer.status_code}")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("it is encoded")
            content = bytearray()
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > BYTES_MAX:
                    raise ValueError("it is too large")
            if PEM_BEGIN not in content:
                raise ValueError("it is not a certificate")
            return bytes(content)
