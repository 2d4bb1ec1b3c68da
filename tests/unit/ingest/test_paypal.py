"""PayPal: which signatures are valid, and what its events report of the money."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from schemas import structs
from schemas.orders import Movement
from services.ingest import vendors
from services.ingest.config import sources_file
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.facts import ParsedCallback
from services.ingest.vendors.paypal import proof as paypal_proof
from services.ingest.vendors.paypal import webhook as paypal
from services.ingest.vendors.shared import certificates
from services.ingest.vendors.shared.source import CertificateNeededError, WebhookRequest
from services.runtime.settings import ConfigurationError
from tests.support.vendors import paypal as vendor
from tests.support.vendors.paypal import (
    APPROVED,
    AT,
    BETWEEN,
    CAPTURE,
    DAY,
    DISPUTE,
    KEY,
    REFUND,
    ROOT,
    VENDOR,
    event,
)
from tests.support.vendors.vendor import NOW, Sample

CAPTURED = Sample(CAPTURE)
DAY_S = 86_400.0


def request(certificate: bytes | None = None, **headers: bytes) -> WebhookRequest:
    """Return the capture's request, with other headers or another certificate at its address."""
    request = VENDOR.request(CAPTURED)
    changed = {b"paypal-" + name.replace("_", "-").encode(): text for name, text in headers.items()}
    held = {vendor.URL: certificate} if certificate is not None else VENDOR.certificates
    return request._replace(headers={**request.headers, **changed}, certificates=held)


def parsed(body: bytes) -> ParsedCallback:
    return vendors.parse(VENDOR.record(Sample(body), slug="paypal"))


def movements(body: bytes) -> Movement:
    (fact,) = parsed(body).movements
    return structs.decode(Movement, fact.content)


# Signatures.


def test_the_text_that_is_signed_is_the_vendors() -> None:
    parts = b"dfb3be50-fd74-11e4-8bf3-77339302725b", b"2015-05-18T15:45:13Z", b"4JH86294D6297924G"
    # as that of the vendor's body, which has 1288 bytes: a CRC is no digest
    same_crc = b'{"id":"WH-BPBVXD2"}'
    p1 = b"dfb3be50-fd74-11e4-8bf3-77339302725b|2015-05-18T15:45:13Z|4JH86294D6297924G|2771810304"
    assert paypal_proof.signed_text(*parts, same_crc) == p1
    # the CRC's own check value, 0xCBF43926
    assert paypal_proof.signed_text(*parts, b"123456789").endswith(b"|3421780262")
    assert paypal_proof.signed_text(*parts, b"").endswith(b"|0")


@pytest.mark.parametrize("age", [-290, 0, DAY_S, 3 * DAY_S + 290])
def test_a_time_may_be_as_old_as_the_last_repeat(age: float) -> None:
    assert paypal.verify(VENDOR.request(CAPTURED, at=NOW - age))


@pytest.mark.parametrize("age", [-310, -DAY_S, 3 * DAY_S + 310, 400 * DAY_S])
def test_a_time_in_the_future_or_beyond_all_repeats_is_refused(age: float) -> None:
    assert not paypal.verify(VENDOR.request(CAPTURED, at=NOW - age))


@pytest.mark.parametrize(
    "url",
    [
        b"http://api.paypal.com/v1/notifications/certs/CERT-1",
        b"https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        b"https://evilpaypal.com/v1/notifications/certs/CERT-1",
        b"https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        b"https://evil.example/v1/notifications/certs/CERT-1?.paypal.com",
        b"https://user:word@api.paypal.com/v1/notifications/certs/CERT-1",
        b"https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
        b"https://api.paypal.com/v1/notifications/certs/../../redirect",
        b"https://api.paypal.com/v1/notifications/certs/CERT-1/x",
        b"https://api.paypal.com/v1/notifications/certs/CERT-1?to=https://evil.example",
        b"https://api.paypal.com/v1/notifications/certs/CERT-1#x",
        b"https://api.paypal.com/v1/notifications/certs/%2e%2e",
        b"https://api.paypal.com/v1/notifications/certs/",
        b"https://api.paypal.com/v1/oauth2/token",
        b"https://.paypal.com/v1/notifications/certs/CERT-1",
        b"https://api.paypal.com\\@evil.example/v1/notifications/certs/CERT-1",
        b"https://api.paypal.com/v1/notifications/certs/CERT-1\n",
        b" https://api.paypal.com/v1/notifications/certs/CERT-1",
        b"https://api.p\xc3\xa5ypal.com/v1/notifications/certs/CERT-1",
        b"https://api.paypal.com/v1/notifications/certs/" + b"C" * 101,
        b"https://" + b"a." * 40 + b"paypal.com/v1/notifications/certs/CERT-1",
        b"",
    ],
)
def test_an_address_that_is_not_paypals_own_is_never_fetched(url: bytes) -> None:
    assert not paypal.verify(request(cert_url=url)._replace(certificates={}))


@pytest.mark.parametrize(
    "host", ["paypal.com", "api.paypal.com", "api.sandbox.paypal.com", "api.paypal.com:443"]
)
def test_an_unknown_certificate_at_paypal_is_fetched(host: str) -> None:
    url = f"https://{host}/v1/notifications/certs/CERT-1"
    with pytest.raises(CertificateNeededError) as needed:
        paypal.verify(request(cert_url=url.encode()))
    assert needed.value.url == url


@pytest.mark.parametrize(
    "headers",
    [
        {"auth_algo": b"SHA1withRSA"},
        {"auth_algo": b""},
        {"transmission_sig": b""},
        {"transmission_sig": b"!" * 344},
        {"transmission_sig": b"A" * 5_000},
        {"transmission_id": b"a|2026-11-20T15:30:08Z"},
        {"transmission_id": b""},
        {"transmission_time": b"yesterday"},
        {"transmission_time": b"2026-11-20T15:30:08"},
        {"transmission_time": b"2026-13-40T99:99:99Z"},
    ],
)
def test_what_cannot_be_genuine_needs_no_certificate(headers: dict[str, bytes]) -> None:
    assert not paypal.verify(request(**headers)._replace(certificates={}))


def test_without_a_webhook_id_nothing_is_accepted_and_nothing_is_fetched() -> None:
    assert not paypal.verify(request()._replace(secrets=(), certificates={}))


UNKNOWN_ROOT = vendor.Authority("Nobody's root")
OTHER_KEY = rsa.generate_private_key(65_537, 2_048)
WEAK_KEY = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - refused because it is weak


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(UNKNOWN_ROOT.sign(KEY) + UNKNOWN_ROOT.pem, id="of a root that nobody trusts"),
        pytest.param(UNKNOWN_ROOT.sign(KEY) + BETWEEN.pem, id="beside a chain that is not its own"),
        pytest.param(BETWEEN.sign(KEY), id="without the one between"),
        pytest.param(ROOT.sign(KEY, name="paypal.com.evil.example"), id="of another name"),
        pytest.param(ROOT.sign(KEY, name="evilpaypal.com"), id="of a name that ends alike"),
        pytest.param(ROOT.sign(KEY, end=AT - DAY), id="that has ended"),
        pytest.param(ROOT.sign(KEY, begin=AT + DAY), id="that has not begun"),
        pytest.param(
            ROOT.sign(ec.generate_private_key(ec.SECP256R1())), id="with a key that is not RSA"
        ),
        pytest.param(ROOT.sign(WEAK_KEY), id="with a key that is too short"),
        pytest.param(ROOT.sign(KEY) * 20, id="too many"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="that is none"
        ),
        pytest.param(b"\xff\x00", id="of any bytes"),
        pytest.param(b"", id="of no bytes"),
    ],
)
def test_a_certificate_that_does_not_verify_is_fetched_again_and_never_trusted(
    pem: bytes,
) -> None:
    with pytest.raises(CertificateNeededError):
        paypal.verify(request(pem))


def test_a_certificate_that_another_leaf_has_signed_is_not_believed() -> None:
    """Otherwise the owner of any certificate under `.paypal.com` could issue one."""
    leaf = vendor.Authority("messageverificationcerts.paypal.com", ROOT)
    by_leaf = leaf.sign(KEY)
    plain = ROOT.sign(leaf.key, name="shop.example")
    with pytest.raises(CertificateNeededError):
        paypal.verify(request(by_leaf + plain))


def test_the_roots_of_the_browsers_do_not_know_the_tests_authority() -> None:
    with pytest.raises(CertificateNeededError):
        paypal.verify(request()._replace(options={}))


def test_a_good_certificate_of_another_key_is_no_proof() -> None:
    assert not paypal.verify(request(ROOT.sign(OTHER_KEY)))


def test_a_certificate_ends_to_the_second_though_it_was_checked_before() -> None:
    at = NOW - NOW % certificates.RECHECK_S + 100
    pem = ROOT.sign(KEY, end=AT.fromtimestamp(at + 10, tz=AT.tzinfo))
    for seconds, is_good in ((0, True), (10, True), (11, False)):
        certificate = certificates.signer(pem, "paypal.com", ROOT.pem.decode(), at + seconds)
        assert (certificate is not None) is is_good


def test_a_certificate_is_checked_once_an_hour() -> None:
    certificates._checked.cache_clear()
    for _ in range(5):
        assert paypal.verify(request())
    assert certificates._checked.cache_info().misses == 1


# The settings block.


def test_the_roots_of_the_settings_block_are_read_when_the_endpoint_starts(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_bytes(ROOT.pem)
    block = '[sources.paypal]\nkind = "paypal"\nsecrets = ["env:ID"]\norders_of = "shop"\n'
    path = tmp_path / "sources.toml"
    path.write_text(block + 'roots = "roots.pem"\n', "utf-8")
    config = sources_file.read(path, {"ID": VENDOR.secret})["paypal"]
    assert config.refusal is None
    assert config.options["roots"] == ROOT.pem.decode()
    for text in ("", "nothing in PEM"):
        (tmp_path / "roots.pem").write_text(text, "utf-8")
        with pytest.raises(ConfigurationError, match="roots"):
            sources_file.read(path, {"ID": VENDOR.secret})
    (tmp_path / "roots.pem").unlink()
    with pytest.raises(ConfigurationError, match="roots"):
        sources_file.read(path, {"ID": VENDOR.secret})
    path.write_text(block, "utf-8")
    assert sources_file.read(path, {"ID": VENDOR.secret})["paypal"].options["roots"] == ""


# Contents.


@pytest.mark.parametrize(
    ("body", "kind", "state", "amount"),
    [
        (CAPTURE, "capture", "done", 1500),
        (event(CAPTURE, "PAYMENT.CAPTURE.PENDING", status="PENDING"), "capture", "open", 1500),
        (event(CAPTURE, "PAYMENT.CAPTURE.DENIED", status="DECLINED"), "capture", "failed", 1500),
        (event(CAPTURE, "PAYMENT.CAPTURE.DECLINED", status="DECLINED"), "capture", "failed", 1500),
        (event(CAPTURE, "PAYMENT.CAPTURE.REVERSED"), "capture", "undone", 1500),
        (event(CAPTURE, "PAYMENT.CAPTURE.REVERSED", links=[]), "capture", "undone", 1500),
        (event(REFUND, "PAYMENT.CAPTURE.REVERSED"), "refund", "done", 500),
        (REFUND, "refund", "done", 500),
        (event(REFUND, status="PENDING"), "refund", "open", 500),
        (event(REFUND, "PAYMENT.REFUND.FAILED", status="FAILED"), "refund", "failed", 500),
        (event(REFUND, status="TOMORROW"), "refund", "open", 500),
        (event(CAPTURE, "PAYMENT.AUTHORIZATION.CREATED"), "authorisation", "done", 1500),
        (event(CAPTURE, "PAYMENT.AUTHORIZATION.VOIDED"), "authorisation", "undone", 1500),
        (DISPUTE, "dispute", "open", 1500),
        (event(CAPTURE, amount=None), "capture", "done", None),
        (event(CAPTURE, amount={"currency_code": "JPY", "value": "1500"}), "capture", "done", 1500),
        (event(CAPTURE, amount={"currency_code": "KWD", "value": "1.5"}), "capture", "done", 1500),
    ],
)
def test_an_event_has_the_amount_that_moved(
    body: bytes, kind: str, state: str, amount: int | None
) -> None:
    movement = movements(body)
    assert (movement.gateway, movement.kind, movement.state, movement.amount_minor) == (
        "paypal",
        kind,
        state,
        amount,
    )


@pytest.mark.parametrize(
    "body",
    [event(CAPTURE, amount=None), event(REFUND, amount=None), event(DISPUTE, dispute_amount=None)],
    ids=["capture", "refund", "dispute"],
)
def test_a_movement_that_lacks_its_amount_is_accepted_and_reported(body: bytes) -> None:
    assert movements(body).amount_minor is None
    what = f"amount of '{json.loads(body)['event_type']}'"
    assert [(drift_notice.kind, drift_notice.cause) for drift_notice in parsed(body).drift] == [
        ("missing-field", what)
    ]


def test_a_refund_that_names_no_capture_is_a_refund_all_the_same() -> None:
    movement = movements(event(REFUND, "PAYMENT.CAPTURE.REFUNDED", links=[]))
    assert (movement.kind, movement.state, movement.amount_minor) == ("refund", "done", 500)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("RESOLVED_BUYER_FAVOUR", "done"),
        ("ACCEPTED", "done"),
        ("RESOLVED_WITH_PAYOUT", "done"),
        ("RESOLVED_SELLER_FAVOUR", "undone"),
        ("CANCELED_BY_BUYER", "undone"),
        ("NONE", "open"),
    ],
)
def test_a_dispute_ends_in_somebodys_favour_or_stays_open(outcome: str, state: str) -> None:
    body = event(DISPUTE, "CUSTOMER.DISPUTE.RESOLVED", dispute_outcome={"outcome_code": outcome})
    assert movements(body).state == state
    assert [drift_notice.cause for drift_notice in parsed(body).drift] == (
        ["NONE"] if state == "open" else []
    )


def test_an_update_after_the_resolution_does_not_reopen_a_dispute() -> None:
    ended: dict[str, Any] = {
        "status": "RESOLVED",
        "dispute_outcome": {"outcome_code": "RESOLVED_BUYER_FAVOUR"},
    }
    movement = movements(event(DISPUTE, "CUSTOMER.DISPUTE.UPDATED", **ended))
    assert (movement.kind, movement.state) == ("dispute", "done")
    assert (
        movements(event(DISPUTE, "CUSTOMER.DISPUTE.UPDATED", status="UNDER_REVIEW")).state == "open"
    )


def test_all_that_is_reported_of_one_payment_names_it_alike() -> None:
    names = [set(parsed(body).payments) for body in (CAPTURE, REFUND, DISPUTE)]
    assert set.intersection(*names) == {"shop/42311647XV020574X"}
    assert {movements(body).payment for body in (CAPTURE, REFUND, DISPUTE)} == {"42311647XV020574X"}
    assert names[0] == {
        "shop/42311647XV020574X",
        "shop/5O190127TN364715T",
        "shop/0AW2184448108334S",
    }


@pytest.mark.parametrize(
    ("resource", "order"),
    [
        ({"custom_id": "727"}, "shop:727"),
        ({"custom_id": 727}, "shop:727"),
        ({"custom_id": '{"order_id":727,"order_key":"wc_order_x"}'}, "shop:727"),
        ({"custom_id": '{"order_id":"727"}'}, "shop:727"),
        ({"custom_id": "wc_order_abc"}, "shop:wc_order_abc"),
        ({"custom_id": '{"other":1}', "invoice_id": "WC-727"}, "shop:WC-727"),
        ({"custom_id": '{"order_id":', "invoice_id": None}, None),
        ({"custom_id": "[" * 9_000, "invoice_id": "a b"}, None),
        ({"custom_id": "?0123", "invoice_id": "\u202e"}, None),
        ({"custom_id": None, "invoice_id": None}, None),
        ({"custom_id": None, "invoice_id": None, "purchase_units": [{"custom_id": "9"}]}, "shop:9"),
    ],
)
def test_the_order_is_what_the_shop_gave_paypal_to_keep(
    resource: dict[str, object], order: str | None
) -> None:
    """An event that names no order is no loss: it reaches every order that names the payment."""
    callback = parsed(event(CAPTURE, None, None, **resource))
    assert callback.order_id == order
    assert callback.payments


@pytest.mark.parametrize(
    ("body", "order_id"),
    [
        (CAPTURE, "727"),
        (REFUND, "727"),
        (DISPUTE, "727"),
        (event(CAPTURE, custom_id=None), "WC-727"),
        (event(CAPTURE, custom_id=None, invoice_id=None), None),
    ],
)
def test_the_endpoint_reads_the_same_order_from_the_bytes(
    body: bytes, order_id: str | None
) -> None:
    assert paypal.order_ids(body) == (order_id,)
    order = parsed(body).order_id
    assert order == (f"shop:{order_id}" if order_id else None)


def test_an_event_is_known_by_its_own_id_in_every_transmission() -> None:
    assert parsed(CAPTURE).key == "paypal:WH-58D329510W468432D-8HN650336L201105X"


@pytest.mark.parametrize(
    ("body", "what", "is_reported"),
    [
        (APPROVED, "CHECKOUT.ORDER.APPROVED", False),
        (event(CAPTURE, "BILLING.SUBSCRIPTION.CREATED"), "BILLING.SUBSCRIPTION.CREATED", False),
        (event(CAPTURE, "PAYMENT.CAPTURE.TELEPORTED"), "PAYMENT.CAPTURE.TELEPORTED", True),
    ],
)
def test_what_is_no_payment_is_kept_and_moves_nothing(
    body: bytes, what: str, is_reported: bool
) -> None:
    callback = parsed(body)
    assert not callback.movements
    assert callback.order_id is None
    (drift_notice,) = callback.drift
    assert (
        drift_notice.kind,
        drift_notice.cause,
        drift_notice.is_kept,
        drift_notice.is_reported,
    ) == (
        "unknown-type",
        what,
        True,
        is_reported,
    )


@pytest.mark.parametrize(
    ("currency", "value", "kind"),
    [("EUR", "1.005", "unreadable-amount"), ("IRT", "1500", "unknown-currency")],
)
def test_an_amount_that_cannot_be_counted_is_kept_as_a_text(
    currency: str, value: str, kind: str
) -> None:
    body = event(CAPTURE, amount={"currency_code": currency, "value": value})
    assert (movements(body).amount_minor, movements(body).amount_text) == (
        None,
        f"{value} {currency}",
    )
    assert [drift_notice.kind for drift_notice in parsed(body).drift] == [kind]


def test_lists_with_gaps_are_read_and_a_time_of_change_that_cannot_be_read_is_the_events() -> None:
    links = json.loads(event(CAPTURE))["resource"].get("links") or []
    odd = event(
        CAPTURE, links={str(2 * at + 1): link for at, link in enumerate(links)}, update_time=""
    )
    assert parsed(odd).payments == parsed(event(CAPTURE)).payments
    assert movements(odd).at == datetime.fromisoformat(json.loads(odd)["create_time"])


def test_what_names_nothing_is_a_dead_letter() -> None:
    with pytest.raises(CallbackUnreadable):
        parsed(event(CAPTURE, id=None))
    with pytest.raises(CallbackUnreadable):
        parsed(event(DISPUTE, disputed_transactions=[]))


# Cards.


def test_card_data_is_removed_and_the_brand_and_the_names_of_others_stay() -> None:
    body = event(
        CAPTURE, payer={"name": {"given_name": "Ada"}}, custom_id='"card":{"name":"x"}, "cvv":"123"'
    )
    cleaned = paypal.without_cards(body)
    assert b"VISA" in cleaned
    assert json.loads(cleaned)["resource"]["payer"]["name"] == {"given_name": "Ada"}
    assert b'"country_code":"IE"' in cleaned
    assert parsed(cleaned)._replace(proof=None) == parsed(body)._replace(proof=None)
    assert paypal.without_cards(cleaned) == cleaned


@pytest.mark.parametrize(
    "body",
    [
        b'"card":{"a":',
        b'"card":{"name":"',
        b'"cvv":"\\',
        b'"card":{[[[[',
        b'"card":{"x":{"y":{"z":{',
        b'"last4":9',
    ],
)
def test_no_body_keeps_the_endpoint_busy(body: bytes) -> None:
    cleaned = paypal.without_cards(body * (200_000 // len(body)))
    assert cleaned
