"""PayPal: events, and how it signs them, by a certificate of an authority that lives as long as the
tests.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.callbacks import FIXTURES
from tests.support.certificates import AUTHORITY_USAGE
from tests.support.vendors.vendor import NOW, Sample, Vendor

URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
CAPTURE, REFUND, DISPUTE, APPROVED = (
    (FIXTURES / "paypal" / f"{name}.json").read_bytes().strip()
    for name in ("capture", "refund", "dispute", "approved")
)
DAY = timedelta(days=1)
AT = datetime.fromtimestamp(NOW, UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority:
    """Signs certificates: a root, or one that a root has signed."""

    def __init__(self, name: str, above: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = above or self
        self.certificate = (
            issued(self.name, self.key.public_key(), issuer, AT - 3_650 * DAY, AT + 3_650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(AUTHORITY_USAGE, critical=True)
            .sign(issuer.key, SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def sign(
        self,
        key: Key,
        name: str = "messageverificationcerts.paypal.com",
        begin: datetime = AT - 300 * DAY,
        end: datetime = AT + 90 * DAY,
    ) -> bytes:
        """A certificate as PayPal's host shows it."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return (
            issued(subject, key.public_key(), self, begin, end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self.key, SHA256())
            .public_bytes(Encoding.PEM)
        )


def issued(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    by: Authority,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
    return (
        x509.CertificateBuilder(by.name, subject, key, x509.random_serial_number(), begin, end)
        .add_extension(authority, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


KEY = rsa.generate_private_key(65_537, 2_048)
ROOT = Authority("Root of the tests")
BETWEEN = Authority("Between root and PayPal", ROOT)
CERTIFICATE, ROOTS = BETWEEN.sign(KEY) + BETWEEN.pem, ROOT.pem
FOLDER = "PAYPAL_OF_THE_TESTS"  # where another process has written its own, so that both sign alike
FILES = ("key.pem", "chain.pem", "roots.pem")


def share(folder: Path) -> None:
    key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in zip(FILES, (key, CERTIFICATE, ROOTS), strict=True):
        (folder / name).write_bytes(content)


if shared := os.environ.get(FOLDER):
    pem, CERTIFICATE, ROOTS = ((Path(shared) / name).read_bytes() for name in FILES)
    KEY = cast("rsa.RSAPrivateKey", load_pem_private_key(pem, None))


def event(
    sample: bytes, event_type: str | None = None, event_id: str | None = None, **resource: object
) -> bytes:
    """A sample with other values in its resource."""
    body: dict[str, Any] = json.loads(sample)
    body["resource"] |= resource
    body["event_type"] = event_type or body["event_type"]
    body["id"] = event_id or f"{body['id']}{zlib.crc32(json.dumps(body).encode())}"
    return json.dumps(body).encode()


def moment(at: float) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def signature(
    number: bytes, at: bytes, webhook: str, body: bytes, key: rsa.RSAPrivateKey | None = None
) -> bytes:
    text = b"|".join([number, at, webhook.encode(), str(zlib.crc32(body)).encode()])
    return base64.b64encode((key or KEY).sign(text, padding.PKCS1v15(), SHA256()))


def sign(sample: Sample, secret: str, at: float) -> Mapping[bytes, bytes]:
    number = str(uuid5(NAMESPACE_OID, sample.body.hex())).encode()  # each its own
    return {
        b"content-type": b"application/json",
        b"paypal-transmission-id": number,
        b"paypal-transmission-time": moment(at),
        b"paypal-transmission-sig": signature(number, moment(at), secret, sample.body),
        b"paypal-cert-url": URL.encode(),
        b"paypal-auth-algo": b"SHA256withRSA",
    }


VENDOR = Vendor(
    kind="paypal",
    secret="4JH86294D6297924G",
    other_secret="0EH40505U7160970P",
    samples={
        "captured": Sample(CAPTURE),
        "pending": Sample(event(CAPTURE, "PAYMENT.CAPTURE.PENDING", status="PENDING")),
        "refunded in part": Sample(REFUND),
        "disputed": Sample(DISPUTE),
        "dispute resolved": Sample(
            event(
                DISPUTE,
                "CUSTOMER.DISPUTE.RESOLVED",
                status="RESOLVED",
                dispute_outcome={"outcome_code": "RESOLVED_SELLER_FAVOUR"},
            )
        ),
        "approved by the buyer": Sample(APPROVED),
        "of a type of tomorrow": Sample(event(CAPTURE, "PAYMENT.CAPTURE.TELEPORTED")),
    },
    sign=sign,
    options={"roots": ROOTS.decode()},
    certificates={URL: CERTIFICATE},
    card_data=(b"7704", b"2029-11", b"411112", b"Ada Cardholder"),
)
