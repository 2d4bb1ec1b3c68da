"""Every source through the webhook endpoint itself, with a broker that takes everything: its
responses, and its records.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.callbacks import TOPIC
from schemas.envelope import NotAnEvent, Output
from services.ingest import vendors
from services.ingest.config.sources_file import SourceConfig
from services.ingest.errors import CallbackMisaddressed
from services.ingest.rules.facts import ParsedCallback
from services.ingest.settings import IngestSettings
from services.ingest.vendors.adyen.items import document
from services.ingest.webhooks.app import WebhookHandler
from services.ingest.webhooks.certificates import CertificateCache
from services.ingest.webhooks.publisher import CallbackNotAcknowledgedError, CallbackPublisher
from services.runtime.errors import Poison
from services.runtime.records import Record
from tests.support.mutations import mutated
from tests.support.vendors import VENDORS, Sample
from tests.support.vendors.adyen import item
from tests.support.vendors.adyen import sample as adyen_sample
from tests.support.vendors.vendor import Vendor
from tests.unit.ingest.test_every_source import MUTATIONS, ROUNDS

every_kind = pytest.mark.parametrize("kind", VENDORS)


class Taken:
    """Stands for the broker."""

    def __init__(self) -> None:
        self.outputs = list[Output]()

    def publish(self, output: Output) -> asyncio.Future[None]:
        self.outputs.append(output)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def opened(vendor: Vendor, taken: Taken) -> WebhookHandler:
    orders_of = "shop" if vendor.source.needs_orders_of else ""
    key = vendor.source.signing_key(vendor.secret)
    shop = SourceConfig(
        "vendor", vendor.source, (key,), rate_max=1e6, orders_of=orders_of, options=vendor.options
    )
    known = CertificateCache(known=vendor.certificates)
    return WebhookHandler(
        {"vendor": shop}, cast("CallbackPublisher", taken), IngestSettings(), known
    )


def sent(
    kind: str,
    sample: Sample,
    *,
    seconds_off: float = 0.0,
    headers: Mapping[bytes, bytes] | None = None,
) -> tuple[httpx.Response, list[Output]]:
    """`headers`: instead of the vendor's own."""
    vendor, taken = VENDORS[kind], Taken()

    async def send() -> httpx.Response:
        handler = opened(vendor, taken)
        signed = dict(vendor.sign(sample, vendor.secret, time.time() + seconds_off))
        signed.setdefault(b"content-type", vendor.source.media + b"; charset=utf-8")
        signed |= headers or {}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(handler), base_url="http://endpoint"
        ) as client:
            path = f"/hooks/vendor/{vendor.path_suffix}".rstrip("/")
            return await client.post(path, content=sample.body, headers=list(signed.items()))

    return asyncio.run(send()), taken.outputs


def read(output: Output) -> ParsedCallback:
    return vendors.parse(Record(TOPIC, 0, 0, 0, output.key, output.value, output.headers))


@every_kind
def test_every_callback_is_a_record_for_each_of_its_orders_without_card_data(kind: str) -> None:
    vendor = VENDORS[kind]
    for sample in vendor.samples.values():
        answer, outputs = sent(kind, sample)
        assert (answer.status_code, answer.content) == (200, vendor.source.response_body)
        pieces = vendor.source.split_events(vendor.source.unwrap(sample.body))
        named = [vendor.source.order_ids(piece)[0] for piece in pieces]
        shop = b"shop:" if vendor.source.needs_orders_of else b"vendor:"
        for output, order in zip(outputs, named, strict=True):
            assert (output.key or b"").startswith(shop + order.encode() if order else b"vendor:?")
            assert not [
                card_data for card_data in vendor.card_data if card_data in (output.value or b"")
            ]
            signed = vendor.sign(sample, vendor.secret, 0.0)
            logged_headers = {b"content-type", b"paypal-transmission-id"}
            secrets = [
                vendor.secret.encode(),
                *(text for name, text in signed.items() if name not in logged_headers),
            ]
            kept = [output.value or b"", *(text or b"" for _, text in output.headers)]
            assert not [
                secret
                for secret in secrets
                if len(secret) > 30 and any(secret in text for text in kept)
            ]
            read(output)


@every_kind
def test_what_is_signed_is_never_refused_for_its_content(kind: str) -> None:
    """Vendors stop sending, or hold everything else up, when they are refused. The worker
    dead-letters it, with a reason.
    """
    if kind in {"adyen", "ticketevolution", "paypal"}:
        pytest.skip("it cannot sign any bytes: their own tests have their poison")
    for body in (b"", b"{", b"[]", b'{"id":"evt_1"}', b"\xff" * 9):
        answer, outputs = sent(kind, Sample(body))
        assert (answer.status_code, len(outputs)) == (200, 1), body
        with pytest.raises((NotAnEvent, Poison)):
            read(outputs[0])


@every_kind
def test_an_unauthenticated_caller_is_refused_and_nothing_is_published(kind: str) -> None:
    vendor = VENDORS[kind]
    sample = next(iter(vendor.samples.values()))
    if vendor.seal is not None:
        sample = sample._replace(body=vendor.seal(sample.body, vendor.other_secret))
    names = [name for name in vendor.sign(sample, vendor.secret, 0.0) if name != b"content-type"]
    answer, outputs = sent(kind, sample, headers=dict.fromkeys(names, b"AAAA"))
    if vendor.signs_body:
        assert (answer.status_code, outputs) == (401, [])


@pytest.mark.slow
@every_kind
@settings(max_examples=ROUNDS)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_signed_is_published_with_all_its_content(kind: str, seed: int) -> None:
    """10,000 mutated bodies a source, signed as the vendor would: never a 500, never a lost byte,
    always a stated reason.
    """
    vendor, taken, rng = VENDORS[kind], Taken(), random.Random(seed)
    samples = list(vendor.samples.values())

    async def send_all() -> None:
        handler = opened(vendor, taken)
        for _ in range(MUTATIONS):
            sample = signable(vendor, rng.choice(samples), rng)
            status, answer = await passed(handler, vendor, sample)
            if status == 200:
                is_kept(vendor, sample.body, taken)
            else:  # of Adyen: no item in it is signed
                assert (kind, status, taken.outputs) == ("adyen", 401, [])
                assert json.loads(answer)["detail"]
            taken.outputs.clear()

    asyncio.run(send_all())


def signable(vendor: Vendor, sample: Sample, rng: random.Random) -> Sample:
    body = mutated(sample.body, rng)
    if vendor.seal is not None:
        with suppress(KeyError, TypeError):  # it lacks what is signed
            body = vendor.seal(body, vendor.secret)
    return sample._replace(body=body)


async def passed(handler: WebhookHandler, vendor: Vendor, sample: Sample) -> tuple[int, bytes]:
    """Past HTTP."""
    answers = list[MutableMapping[str, Any]]()
    headers = {
        b"content-type": vendor.source.media,
        **vendor.sign(sample, vendor.secret, time.time()),
    }
    path = f"/hooks/vendor/{vendor.path_suffix}"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": sample.body}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    await handler(
        {"type": "http", "method": "POST", "path": path, "headers": list(headers.items())},
        receive,
        send,
    )
    start, end = answers
    return start["status"], end["body"]


def is_kept(vendor: Vendor, body: bytes, taken: Taken) -> None:
    """Byte for byte, but for card data, which is empty, and what an order or an item came wrapped
    in.
    """
    values, reasons = [output.value or b"" for output in taken.outputs], list[str]()
    for output in taken.outputs:
        try:
            read(output)
        except (NotAnEvent, Poison) as error:
            reasons.append(str(error).strip())
    assert all(reasons)
    if values == [body]:
        return
    # a malformed character of Adyen's refuses nothing
    loads = document if vendor.source.kind == "adyen" else json.loads
    try:
        expected = loads(body)
    except (ValueError, RecursionError):
        expected = None
    if expected is None:
        assert vendor.card_data  # or there was nothing to change
        assert [bool(value) for value in values] == [bool(body)]
        return
    kept = [loads(value) for value in values]
    if vendor.source.kind == "native" and "specversion" in expected:
        expected = expected["data"]
    if vendor.source.kind == "adyen":
        items = {
            json.dumps(notification_item): notification_item
            for notification_item in expected["notificationItems"]
        }
        kept = [
            item for notification_body in kept for item in notification_body["notificationItems"]
        ]
        assert len(kept) == len(items)
        expected = list(items.values())
    else:
        (kept,) = kept
    has_the_same_content(expected, kept, is_emptied=bool(vendor.card_data))


def has_the_same_content(expected: object, kept: object, *, is_emptied: bool) -> None:
    if is_emptied and kept in ("", None, {}, 0):
        return
    if isinstance(expected, dict) and isinstance(kept, dict):
        assert expected.keys() == kept.keys()
        for name in expected:
            has_the_same_content(expected[name], kept[name], is_emptied=is_emptied)
    elif isinstance(expected, list) and isinstance(kept, list):
        for one, other in zip(expected, kept, strict=True):
            has_the_same_content(one, other, is_emptied=is_emptied)
    else:
        assert expected == kept


def test_adyen_is_never_refused_for_the_content_of_an_item() -> None:
    for poison in (
        item(eventDate="yesterday"),
        item(success="perhaps"),
        item(amount={"currency": "X", "value": 1}),
    ):
        answer, outputs = sent("adyen", adyen_sample(poison))
        assert (answer.status_code, answer.content, len(outputs)) == (200, b"[accepted]", 1)


HALVES = [
    pytest.param(b"Ada \\ud83d", id="half an emoji"),
    pytest.param(b"Ada \xf0\x9f", id="half of its bytes"),
]


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("count", [1, 2])
def test_half_a_character_where_adyen_signs_nothing_costs_no_payment(
    name: bytes, count: int
) -> None:
    """A refusal would stop the queue of all payments for a month."""
    several = adyen_sample(*[item(pspReference=f"PAYMENT{number}") for number in range(count)])
    body = several.body.replace(b'"Ada Example"', b'"' + name + b'"')
    body = body.replace(b'"cardPaymentMethod":"visa"', b'"shopperName":"' + name + b'"')
    assert body.count(name) == 2 * count
    answer, outputs = sent("adyen", Sample(body))
    assert (answer.status_code, answer.content) == (200, b"[accepted]")
    assert [fact.name for output in outputs for fact in read(output).movements] == [
        f"moved:vendor:authorisation:PAYMENT{number}" for number in range(count)
    ]


def test_half_a_character_in_adyens_order_reference_costs_no_payment_either() -> None:
    """Java signs a question mark in its place. No order has that name: the payment is reported by
    its own name.
    """
    body = adyen_sample(item(merchantReference="727?")).body.replace(b'"727?"', b'"727\\ud83d"')
    answer, (output,) = sent("adyen", Sample(body))
    sample = read(output)
    assert (answer.status_code, sample.order_id, len(sample.payments), len(sample.movements)) == (
        200,
        None,
        1,
        1,
    )
    assert (output.key or b"").startswith(b"vendor:?")


@pytest.mark.parametrize(
    "reason",
    [b'"Ada \\ud83d"', b'"J\xfcrgen"', b'"a\nb"', b"NaN", b"9" * 5_000, b'"\\u0000"', b"1e999"],
    ids=[
        "half an emoji",
        "Latin-1",
        "a raw line end",
        "NaN",
        "many digits",
        "NUL",
        "beyond all numbers",
    ],
)
def test_adyen_is_never_refused_for_the_characters_of_a_field_that_it_does_not_sign(
    reason: bytes,
) -> None:
    """A refusal stops the queue of all payments."""
    body = adyen_sample(item(reason="x")).body.replace(b'"x"', reason)
    for sample in (body, b"\xef\xbb\xbf" + body):
        answer, (kept,) = sent("adyen", Sample(sample))
        assert (answer.status_code, kept.value) == (
            200,
            VENDORS["adyen"].source.without_cards(sample),
        )
        assert read(kept).order_id == "shop:727"
    poison = body.replace(b'"hmacSignature":"', b'"hmacSignature":"\\ud800')
    assert sent("adyen", Sample(poison))[0].status_code == 401
    for name in ("merchantReference", "pspReference"):
        sample = adyen_sample(item(**{name: "?"})).body.replace(
            b'"%b":"?"' % name.encode(), b'"%b":"\\ud800"' % name.encode()
        )
        answer, (kept,) = sent("adyen", Sample(sample))  # Java signs a question mark
        assert (answer.status_code, kept.value) == (
            200,
            VENDORS["adyen"].source.without_cards(sample),
        )


class Refusing(Taken):
    """Stands for a broker that takes nothing."""

    def publish(self, output: Output) -> asyncio.Future[None]:
        self.outputs.append(output)
        refused = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(
            refused.set_exception, CallbackNotAcknowledgedError("it rests")
        )
        return refused


def test_pieces_that_kafka_does_not_take_are_one_refusal_and_leave_no_unretrieved_error() -> None:
    sample = adyen_sample(item(), item(pspReference="B1"), item(pspReference="C1"))
    complaints = list[object]()

    async def send() -> int:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        status, _ = await passed(opened(VENDORS["adyen"], refusing), VENDORS["adyen"], sample)
        await asyncio.sleep(0)
        gc.collect()
        return status

    refusing = Refusing()
    assert asyncio.run(send()) == 503
    assert len(refusing.outputs) == 3
    assert complaints == []


@pytest.mark.parametrize("seconds_off", [-400, 400])
@pytest.mark.parametrize("kind", [kind for kind, vendor in VENDORS.items() if vendor.signs_time])
def test_a_signature_is_refused_when_its_time_is_far_off(kind: str, seconds_off: float) -> None:
    sample = next(iter(VENDORS[kind].samples.values()))
    answer, outputs = sent(kind, sample, seconds_off=seconds_off)
    assert (answer.status_code, outputs) == (401, [])


def test_a_storefronts_own_event_is_kept_alike_in_either_mode() -> None:
    """What is beside the order is not signed, or is only the storefront's claim: the endpoint sets
    the source.
    """
    native = VENDORS["native"].samples
    (plain,), (wrapped,) = (sent("native", native[name])[1] for name in ("order", "structured"))
    assert read(plain).key == read(wrapped).key == "vendor:727 e-1"
    assert read(plain).content_hash == read(wrapped).content_hash
    other = Sample(native["structured"].body.replace(b"/sources/vendor", b"/sources/elsewhere"))
    assert read(sent("native", other)[1][0]).order_id == "vendor:727"
    foreign = Sample(native["order"].body.replace(b'"source": "vendor"', b'"source": "elsewhere"'))
    with pytest.raises(CallbackMisaddressed):
        read(sent("native", foreign)[1][0])
