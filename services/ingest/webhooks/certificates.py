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
        self._proved: set[str] = set()
        self._failed: dict[str, float] = {}  # the oldest first
        self._asked: dict[
            str, asyncio.Task[bool]
        ] = {}  # callbacks that wait for the same one fetch it once
        self._waiting = 0
        self._pace = TokenBucket(FETCHES_PER_S, burst_s=FETCHES_MAX / FETCHES_PER_S)
        self._log = logs.get("door")

    async def fetch(self, url: str) -> bool:
        """Whether it is known now, as it is at the vendor's. Never raises, and never waits longer
        than it takes to ask once.
        """
        now = self._clock()
        if url in self.known and now - self._fetched[url] < REFRESH_AFTER_S:
            return True
        asked = self._asked.get(url) or self._ask(url, now)
        if asked is None or self._waiting >= WAITING_MAX:
            return url in self.known
        self._waiting += 1
        try:
            return await asyncio.shield(asked)  # others wait for it too
        finally:
            self._waiting -= 1

    def prove(self, url: str) -> None:
        """A callback's signature fitted it: it stays."""
        if url in self.known:
            self._proved.add(url)

    def _ask(self, url: str, now: float) -> asyncio.Task[bool] | None:
        """None: not now."""
        if (
            len(self._asked) >= FETCHES_MAX
            or now - self._failed.get(url, float("-inf")) < RETRY_AFTER_S
        ):
            return None
        if not self._pace.take(now):
            return None
        asked = self._asked[url] = asyncio.create_task(self._get(url))
        asked.add_done_callback(lambda _: self._asked.pop(url, None))
        return asked

    async def _get(self, url: str) -> bool:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                found = await self._read(url)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            httpx.StreamError,
            ValueError,
            TimeoutError,
            OSError,
        ) as error:
            self._note_failure(url)
            self._log.warning(
                "a vendor's certificate cannot be fetched", url=url, error=type(error).__name__
            )
            return url in self.known
        if url not in self.known and len(self.known) >= CACHED_MAX:
            self._give_up_one()
        self.known[url], self._fetched[url] = found, self._clock()
        self._failed.pop(url, None)
        return True

    def _note_failure(self, url: str) -> None:
        self._failed.pop(url, None)
        if len(self._failed) >= FAILED_MAX:
            del self._failed[next(iter(self._failed))]
        self._failed[url] = self._clock()
        if url in self.known:
            self._fetched[url] = self._clock()

    def _give_up_one(self) -> None:
        """The oldest of those that nothing was ever signed by, if there is one."""
        oldest = min(self.known, key=lambda url: (url in self._proved, self._fetched[url]))
        del self.known[oldest], self._fetched[oldest]
        self._proved.discard(oldest)

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
            found = bytearray()
            async for chunk in answer.aiter_raw():
                found += chunk
                if len(found) > BYTES_MAX:
                    raise ValueError("it is too large")
            if PEM_BEGIN not in found:
                raise ValueError("it is no certificate")
            return bytes(found)
