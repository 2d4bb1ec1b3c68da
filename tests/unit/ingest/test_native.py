"""A storefront's own orders at the webhook endpoint: the signature is that of Standard Webhooks."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from schemas import structs
from schemas.callbacks import NATIVE
from schemas.envelope import NotAnEvent
from schemas.orders import Line, Person, Storefront
from services.ingest import vendors
from services.ingest.errors import CallbackTypeUnknown, CallbackUnreadable
from services.ingest.rules.facts import STOREFRONT, ParsedCallback
from services.ingest.vendors.native import webhook as native
from services.ingest.vendors.shared.source import WebhookRequest
from services.runtime.records import Record
from tests.support.callbacks import native as published
from tests.support.callbacks import native_order, record
from tests.support.vendors import VENDORS, Sample

EVENT: Mapping[str, object] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/sources/vendor",
    "type": NATIVE,
}
PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "publish-orders-yourself.md"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page's lines sign with openssl")
def test_the_lines_that_sign_for_the_endpoint_are_accepted(tmp_path: Path) -> None:
    """As written, but for curl, whose arguments are checked instead."""
    (lines,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    # over several lines, as people write it
    order = json.dumps(native_order(source="myshop"), indent=1)
    (tmp_path / "order.json").write_text(order + "\n", "utf-8")
    (tmp_path / "curl").write_text(
        '#!/bin/sh\nfor it in "$@"; do printf "%s\\0" "$it"; done > arguments\n', "utf-8"
    )
    (tmp_path / "curl").chmod(0o755)
    (tmp_path / "uuidgen").write_text(
        "#!/bin/sh\necho 0193f1a0-0000-7000-8000-000000000001\n", "utf-8"
    )
    (tmp_path / "uuidgen").chmod(0o755)
    secret = "a secret of the storefront"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MYSHOP_SECRET": secret}
    subprocess.run(["sh", "-ec", lines], cwd=tmp_path, env=environment, check=True)
    arguments = (tmp_path / "arguments").read_bytes().split(b"\0")
    sent = [
        arguments[at + 1].partition(b": ")
        for at, argument in enumerate(arguments)
        if argument == b"-H"
    ]
    body = arguments[arguments.index(b"--data-raw") + 1]
    request = WebhookRequest(
        {name: text for name, _, text in sent}, body, [secret.encode()], time.time()
    )
    assert native.verify(request)
    assert not native.verify(request._replace(secrets=[b"another secret of it"]))
    assert native.event_id(request) == "0193f1a0-0000-7000-8000-000000000001"
    assert native.order_ids(native.unwrap(body)) == ("727",)


def test_a_secret_as_the_libraries_of_standard_webhooks_write_it() -> None:
    """Their specification's own example of a secret, and a signature made by its steps here."""
    key = native.signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert key == base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = native.signature(key, b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"1614265330", body)
    assert signature == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    with pytest.raises(ValueError, match="is not base64 after it"):
        native.signing_key("whsec_***")


# An event in structured mode has its own attributes, by whichever way it comes.


def over_http(event: Mapping[str, object]) -> ParsedCallback:
    return vendors.parse(VENDORS["native"].record(Sample(json.dumps(event).encode())))


def over_kafka(event: Mapping[str, object]) -> ParsedCallback:
    headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    return vendors.parse(Record("t", 0, 0, 0, b"vendor:727", json.dumps(event).encode(), headers))


either_way = pytest.mark.parametrize("read", [over_http, over_kafka])


@either_way
def test_a_structured_event_of_another_type_is_no_order_whatever_its_data_holds(
    read: Callable[[Mapping[str, object]], ParsedCallback],
) -> None:
    """A storefront may send its quotes in the same form."""
    order = native_order(source="vendor")
    assert read({**EVENT, "data": order}).order_id == "vendor:727"
    with pytest.raises(CallbackTypeUnknown, match=r"com\.shop\.quote"):
        read({**EVENT, "type": "com.shop.quote.v1", "data": order})
    for event, reason in (
        ({**EVENT, "specversion": "0.3", "data": order}, "specversion is '0.3'"),
        ({**EVENT, "specversion": ["1.0"], "data": order}, "specversion|attribute"),
        ({**EVENT, "data_base64": "no base64!"}, "data|base64"),
        (EVENT, "data|EOF"),
    ):
        with pytest.raises((CallbackUnreadable, NotAnEvent), match=reason):
            read(event)


@either_way
def test_the_order_of_a_structured_event_may_stand_in_base64(
    read: Callable[[Mapping[str, object]], ParsedCallback],
) -> None:
    order = native_order(source="vendor")
    encoded = read({**EVENT, "data_base64": base64.b64encode(json.dumps(order).encode()).decode()})
    assert encoded.facts == read({**EVENT, "data": order}).facts


# What is known of the people and the order.


def line_of(**recipient: str) -> Line:
    arguments = published(
        native_order(lines=[{"line_id": "1", "quantity": 1, "recipient": recipient}])
    )
    (content,) = [
        fact.content for fact in vendors.parse(arguments).facts if fact.name == STOREFRONT
    ]
    return structs.decode(Storefront, content).lines[0]


@pytest.mark.feature("SF-035", "SF-037")
def test_a_gift_without_a_recipient_is_no_gift() -> None:
    """Storefronts fill in every field of their forms."""
    for recipient in ({}, {"name": "", "email": ""}, {"name": " \u202e", "email": "no address"}):
        assert line_of(**recipient).recipient is None
    assert line_of(name="Bob", email="no address").recipient == Person(name="Bob")
    assert line_of(email="b@c.d").recipient == Person(email="b@c.d")


@pytest.mark.parametrize("order_id", ["?", "?0123456789abcdef", "7\ufffd27"])
def test_an_order_whose_key_would_name_no_source_or_order_is_refused(order_id: str) -> None:
    """An order is found by its key when a person's data has to be erased."""
    with pytest.raises(CallbackUnreadable, match="order_id"):
        vendors.parse(record(native_order(order_id=order_id), kind=NATIVE, order=order_id))
