"""Gateways at the door itself, with a broker that takes everything: what they are answered, and what is kept of a card."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import httpx
import pytest

from schemas.envelope import Output
from services.ingest.api import Callbacks
from services.ingest.publisher import Publisher
from services.ingest.settings import Settings
from services.ingest.shops import Shop
from tests.support.vendors import VENDORS, Sample
from tests.support.vendors.adyen import item, sample


class Taken:
    """Stands for the broker."""

    def __init__(self) -> None:
        self.outputs = list[Output]()

    def publish(self, output: Output) -> asyncio.Future[None]:
        self.outputs.append(output)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def sent(kind: str, told: Sample, *, seconds_off: float = 0.0) -> tuple[httpx.Response, list[Output]]:
    vendor, taken = VENDORS[kind], Taken()
    shop = Shop(kind, vendor.source, (vendor.source.key_of(vendor.secret),), orders_of="shop")

    async def send() -> httpx.Response:
        door = Callbacks({kind: shop}, cast("Publisher", taken), Settings())
        headers = vendor.sign(told, vendor.secret, time.time() + seconds_off)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://door") as client:
            return await client.post(
                f"/hooks/{kind}",
                content=told.body,
                headers=[(b"content-type", b"application/json; charset=utf-8"), *headers.items()],
            )

    return asyncio.run(send()), taken.outputs


@pytest.mark.parametrize("kind", ["stripe", "adyen"])
def test_every_item_of_a_gateway_is_a_record_of_its_order_without_the_card(kind: str) -> None:
    vendor = VENDORS[kind]
    for told in vendor.samples.values():
        answer, outputs = sent(kind, told)
        assert (answer.status_code, answer.content) == (200, vendor.source.answer)
        assert len(outputs) == len(vendor.source.orders(told.body))
        for output, order in zip(outputs, vendor.source.orders(told.body), strict=True):
            assert (output.key or b"").startswith(b"shop:" + order.encode() if order else kind.encode() + b":?")
            assert not [it for it in vendor.card_data if it in (output.value or b"")]


def test_adyen_is_never_refused_for_what_an_item_says() -> None:
    for poison in (item(eventDate="yesterday"), item(success="perhaps"), item(amount={"currency": "X", "value": 1})):
        answer, outputs = sent("adyen", sample(poison))
        assert (answer.status_code, answer.content, len(outputs)) == (200, b"[accepted]", 1)


@pytest.mark.parametrize("seconds_off", [-400, 400])
def test_stripes_signature_is_refused_when_its_time_is_far_off(seconds_off: float) -> None:
    answer, outputs = sent("stripe", VENDORS["stripe"].samples["paid"], seconds_off=seconds_off)
    assert (answer.status_code, outputs) == (401, [])
