"""Certificates by which vendors sign, fetched once. A source's `verify` has judged the address before anything is asked of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import httpx

from services.runtime import logs

WAIT_S = 5.0
BYTES_MAX = 64 * 1_024
KEPT_MAX = 32  # a vendor has a handful; an attacker may name many
FAILED_S = 30.0  # before an address that gave nothing is asked again
KEPT_S = 24 * 60 * 60.0


class Certificates:
    """Used in one event loop. `known` may be read at any time; its contents are PEM as the vendor's host sent them."""

    def __init__(self, client: httpx.AsyncClient | None = None, known: Mapping[str, bytes] | None = None) -> None:
        self.known = dict(known or {})
        self._client = client
        self._fetched = dict.fromkeys(self.known, time.monotonic())
        self._failed: dict[str, float] = {}
        self._one = asyncio.Lock()  # callbacks that wait for the same one fetch it once
        self._log = logs.get("door")

    async def fetch(self, url: str) -> bool:
        """Whether it is known now. Never raises; one at a time, for a flood of addresses is not passed on to the vendor."""
        async with self._one:
            now = time.monotonic()
            if url in self.known and now - self._fetched[url] < KEPT_S:
                return True
            if now - self._failed.get(url, float("-inf")) < FAILED_S:
                return False
            if len(self._failed) >= KEPT_MAX:
                self._failed.clear()
            try:
                found = await self._ask(url)
            except (httpx.HTTPError, ValueError, TimeoutError, OSError) as error:
                self._failed[url] = now
                self._log.warning("a vendor's certificate cannot be fetched", url=url, error=type(error).__name__)
                return False
            if len(self.known) >= KEPT_MAX:
                oldest = min(self._fetched, key=self._fetched.__getitem__)
                del self.known[oldest], self._fetched[oldest]
            self.known[url], self._fetched[url] = found, now
            return True

    async def _ask(self, url: str) -> bytes:
        """Bounded in time and size; no redirect leads elsewhere."""
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=WAIT_S, follow_redirects=False, trust_env=True)
        async with asyncio.timeout(WAIT_S), self._client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"answered {answer.status_code}")
            found = bytearray()
            async for chunk in answer.aiter_bytes():
                found += chunk
                if len(found) > BYTES_MAX:
                    raise ValueError("it is too large")
            return bytes(found)
