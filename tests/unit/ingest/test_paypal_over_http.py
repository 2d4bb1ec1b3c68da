"""PayPal's callbacks through the webhook endpoint's application, whose certificates come from a
fake host.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest

from schemas.envelope import Output
from services.ingest.config.sources_file import SourceConfig
from services.ingest.settings import IngestSettings
from services.ingest.vendors.paypal import webhook as paypal
from services.ingest.webhooks.app import WebhookHandler
from services.ingest.webhooks.certificates import CertificateCache
from services.ingest.webhooks.publisher import CallbackPublisher
from tests.support.vendors.paypal import BETWEEN, CAPTURE, DAY, KEY, ROOT, URL, VENDOR
from tests.support.vendors.vendor import Sample

OTHER_URL = URL[:-1] + "8"


@dataclass
class Played:
    """Kafka, which takes everything, and PayPal's host."""

    pem: bytes
    status: int = 200
    pause_s: float = 0.0
    kept: list[Output] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def publish(self, output: Output) -> asyncio.Future[None]:
        self.kept.append(output)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(str(request.url))
        await asyncio.sleep(self.pause_s)

        async def content() -> Any:
            yield self.pem

        return httpx.Response(self.status, content=content())

    def handler(self, rate_max: float | None = None, **settings: int) -> WebhookHandler:
        options = {"roots": ROOT.pem.decode()}
        shop = SourceConfig(
            "paypal",
            paypal.SOURCE,
            (VENDOR.secret.encode(),),
            rate_max=rate_max,
            orders_of="shop",
            options=options,
        )
        client = httpx.AsyncClient(transport=httpx.MockTransport(self))
        given = IngestSettings.model_construct(**{**IngestSettings().model_dump(), **settings})
        return WebhookHandler(
            {"paypal": shop}, cast("CallbackPublisher", self), given, CertificateCache(client)
        )


@pytest.fixture
def played() -> Played:
    """With a certificate that is good on the day of the test."""
    now = datetime.now(UTC)
    return Played(BETWEEN.sign(KEY, begin=now - DAY, end=now + DAY) + BETWEEN.pem)


async def send(
    handler: WebhookHandler, body: bytes = CAPTURE, secret: str = VENDOR.secret, url: str = URL
) -> tuple[int, Any]:
    headers: Mapping[bytes, bytes] = {
        **VENDOR.sign(Sample(body), secret, time.time()),
        b"paypal-cert-url": url.encode(),
    }
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/hooks/paypal",
        "headers": [*headers.items(), (b"content-type", b"application/json")],
    }
    sent_messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent_messages.append(message)

    await handler(scope, receive, send)
    return sent_messages[0]["status"], sent_messages[1]["body"]


def test_the_certificate_is_fetched_once_and_cards_stay_outside(played: Played) -> None:
    async def run() -> None:
        handler = played.handler()
        assert [(await send(handler))[0] for _ in range(3)] == [200, 200, 200]
        assert played.requests == [URL]
        assert len(played.kept) == 3
        for output in played.kept:
            assert output.key == b"shop:727"
            assert not [
                card_data for card_data in VENDOR.card_data if card_data in (output.value or b"")
            ]
        assert (
            json.loads(played.kept[0].value or b"")["resource"]["payment_source"]["card"]["brand"]
            == "VISA"
        )

    asyncio.run(run())


def test_a_forged_signature_is_refused_whatever_certificate_it_names(played: Played) -> None:
    async def run() -> None:
        handler = played.handler()
        assert (await send(handler, secret="0EH40505U7160970P"))[0] == 401
        assert (await send(handler, url="https://evil.example/v1/notifications/certs/CERT-1"))[
            0
        ] == 401
        assert played.requests == [URL]
        played.pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        assert (await send(handler, url=OTHER_URL))[0] == 401
        assert not played.kept

    asyncio.run(run())


def test_when_the_certificate_is_unavailable_paypal_is_answered_with_retry_after(
    played: Played,
) -> None:
    async def run() -> None:
        played.status = 503
        status, body = await send(played.handler())
        assert status == 503
        assert b"certificate" in body
        assert not played.kept

    asyncio.run(run())


def test_a_slow_host_is_not_counted_as_a_slow_body(played: Played) -> None:
    async def run() -> None:
        played.pause_s = 0.4
        assert (await send(played.handler(webhook_body_wait_ms=100)))[0] == 200

    asyncio.run(run())


def test_unauthenticated_callers_that_name_certificates_use_up_nothing_of_paypals_rate(
    played: Played,
) -> None:
    async def run() -> None:
        handler = played.handler(rate_max=5, webhook_in_flight_max=50)
        assert (await send(handler))[0] == 200
        played.pause_s, played.status = 2.0, 404
        flood = [asyncio.create_task(send(handler, url=f"{URL}{n}")) for n in range(9)]
        await asyncio.sleep(0.1)
        # they wait for PayPal's host; the others were refused at once
        waiting = [task for task in flood if not task.done()]
        assert (await send(handler))[0] == 200
        assert waiting
        assert not any(task.done() for task in waiting)
        assert {status for status, _ in await asyncio.gather(*flood)} == {503}
        assert [(await send(handler))[0] for _ in range(5)] == [200] * 5

    asyncio.run(run())
