"""Certificates of vendors: what an unauthenticated caller can make the endpoint fetch, how often,
and what it can make it forget.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest

from services.ingest.webhooks import certificates
from services.ingest.webhooks.certificates import CertificateCache

HOST = "https://api.paypal.com/v1/notifications/certs/"
PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
Handler = Callable[[httpx.Request], Coroutine[Any, Any, httpx.Response]]


class CertificateServer:
    """Answers as configured, and remembers its requests."""

    def __init__(
        self, status: int = 200, content: bytes = PEM, headers: dict[str, str] | None = None
    ) -> None:
        self.requests: list[str] = []
        self.status, self.content, self.headers = status, content, headers or {}
        self.now = 1_000.0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(str(request.url))
        await self.gate.wait()
        return httpx.Response(self.status, content=self.stream(), headers=self.headers)

    async def stream(self) -> AsyncIterator[bytes]:
        yield self.content

    def certificates(self) -> CertificateCache:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self), follow_redirects=False)
        return CertificateCache(client, clock=lambda: self.now)


def test_callbacks_that_wait_for_the_same_one_fetch_it_once() -> None:
    async def run() -> None:
        vendor = CertificateServer()
        held = vendor.certificates()
        assert await asyncio.gather(*(held.fetch(HOST + "A") for _ in range(50))) == [True] * 50
        assert await held.fetch(HOST + "A")
        assert vendor.requests == [HOST + "A"]
        assert held.known == {HOST + "A": PEM}

    asyncio.run(run())


def test_a_caller_that_disconnects_takes_the_certificate_from_no_other() -> None:
    async def run() -> None:
        vendor = CertificateServer()
        vendor.gate.clear()
        held = vendor.certificates()
        first, second = (asyncio.create_task(held.fetch(HOST + "A")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        vendor.gate.set()
        assert await second
        assert len(vendor.requests) == 1

    asyncio.run(run())


def test_a_flood_of_addresses_is_not_passed_on_and_keeps_nobody_waiting() -> None:
    async def run() -> None:
        vendor = CertificateServer()
        vendor.gate.clear()
        held = vendor.certificates()
        flood = [asyncio.create_task(held.fetch(f"{HOST}{n}")) for n in range(1_000)]
        await asyncio.sleep(0.05)
        assert len(vendor.requests) == certificates.FETCHES_MAX
        assert sum(task.done() for task in flood) == 1_000 - certificates.FETCHES_MAX
        assert not any(task.result() for task in flood if task.done())
        vendor.now += 600  # a host that never answers has no more of them at once for that
        assert not await held.fetch(HOST + "LATER")
        assert len(vendor.requests) == certificates.FETCHES_MAX
        vendor.gate.set()
        await asyncio.gather(*flood)

    asyncio.run(run())


def test_in_the_long_run_few_addresses_are_fetched() -> None:
    async def run() -> None:
        vendor = CertificateServer(404)
        held = vendor.certificates()
        for second in range(600):
            vendor.now = 1_000.0 + second
            await held.fetch(f"{HOST}{second}")
        assert len(vendor.requests) <= 600 * certificates.FETCHES_PER_S + certificates.FETCHES_MAX
        assert len(held._failed) <= certificates.FAILED_MAX

    asyncio.run(run())


def test_few_callbacks_wait_and_the_others_are_answered_at_once() -> None:
    async def run() -> None:
        vendor = CertificateServer()
        vendor.gate.clear()
        held = vendor.certificates()
        waiting = [
            asyncio.create_task(held.fetch(HOST + "A"))
            for _ in range(certificates.WAITING_MAX + 500)
        ]
        await asyncio.sleep(0.05)
        assert sum(task.done() for task in waiting) == 500
        vendor.gate.set()
        assert sum(await asyncio.gather(*waiting)) == certificates.WAITING_MAX

    asyncio.run(run())


def test_a_proven_certificate_is_never_evicted_for_an_unproven_one() -> None:
    async def run() -> None:
        vendor = CertificateServer()
        held = vendor.certificates()
        await held.fetch(HOST + "GOOD")
        held.mark_proven(HOST + "GOOD")
        for n in range(200):
            vendor.now += 10.0
            assert await held.fetch(f"{HOST}{n}")
        assert len(held.known) == certificates.CACHED_MAX
        assert HOST + "GOOD" in held.known
        held.mark_proven(HOST + "NEVER-HELD")
        assert HOST + "NEVER-HELD" not in held._proven

    asyncio.run(run())


def test_an_address_that_failed_is_not_fetched_again_for_a_while() -> None:
    async def run() -> None:
        vendor = CertificateServer(500)
        held = vendor.certificates()
        assert [await held.fetch(HOST + "A") for _ in range(5)] == [False] * 5
        assert len(vendor.requests) == 1
        vendor.now += certificates.RETRY_AFTER_S + 1
        vendor.status = 200
        assert await held.fetch(HOST + "A")

    asyncio.run(run())


def test_a_cached_certificate_is_fetched_again_after_an_hour_and_kept_when_that_fails() -> None:
    async def run() -> None:
        vendor = CertificateServer()
        held = vendor.certificates()
        await held.fetch(HOST + "A")
        vendor.now += certificates.REFRESH_AFTER_S + 1
        vendor.status = 503
        assert await held.fetch(HOST + "A")
        assert held.known[HOST + "A"] == PEM
        vendor.now += certificates.REFRESH_AFTER_S + 1
        vendor.status, vendor.content = 200, PEM + PEM
        assert await held.fetch(HOST + "A")
        assert held.known[HOST + "A"] == PEM + PEM
        assert len(vendor.requests) == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        (302, PEM, {"location": "https://evil.example/"}),
        (404, PEM, {}),
        (204, b"", {}),
        (200, b"<html>no certificate</html>", {}),
        (200, b"", {}),
        (200, PEM + b"x" * certificates.BYTES_MAX, {}),
        (200, PEM, {"content-encoding": "gzip"}),
    ],
)
def test_what_is_no_plain_small_certificate_is_not_kept(
    status: int, content: bytes, headers: dict[str, str]
) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "api.paypal.com"  # no redirect leads elsewhere
        assert request.headers["accept-encoding"] == "identity"

        async def stream() -> AsyncIterator[bytes]:
            yield content

        return httpx.Response(status, content=stream(), headers=headers)

    async def run() -> None:
        held = CertificateCache(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
        assert not await held.fetch(HOST + "A")
        assert not held.known

    asyncio.run(run())


def test_an_answer_without_end_is_cut_off_by_its_size_and_one_that_drips_by_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 4_096

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    async def run() -> None:
        for stream in (endless(), dripping()):
            answer = httpx.Response(200, content=stream)
            held = CertificateCache(
                httpx.AsyncClient(
                    transport=httpx.MockTransport(lambda _, response=answer: response)
                )
            )
            async with asyncio.timeout(5):
                assert not await held.fetch(HOST + "A")
        assert read < 40

    monkeypatch.setattr(certificates, "FETCH_TIMEOUT_S", 0.2)
    asyncio.run(run())


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("no"), httpx.ReadTimeout("late"), OSError("down"), ValueError("odd")],
)
def test_no_failure_is_raised(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    async def run() -> None:
        assert not await CertificateCache(
            httpx.AsyncClient(transport=httpx.MockTransport(fail))
        ).fetch(HOST + "A")

    asyncio.run(run())
