"""Verifies that PayPal sent a callback: RSA, by a certificate of PayPal's that a header names.

PayPal shares no secret. The signed text names the webhook for which it was made, and the body only
by its CRC-32. That is no digest: anybody who has seen one callback can send other bodies under its
signature. So a transmission, whose id is signed, proves the first body that came with it and no
other (`webhook.normalise`); against a forgery that arrives before the genuine callback there is
only TLS.

It is unknown whether PayPal signs a repeat again. It repeats for three days, so a signed time may
be that old, and is in the future by no more than the tolerance. A replay within that time is
recognised by the id in its body.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from services.ingest.vendors.shared.certificates import signer, trust_store
from services.ingest.vendors.shared.source import CertificateNeededError, WebhookRequest
from services.runtime import files as bounded

TRANSMISSION_CHARS_MAX = 200

ID = b"paypal-transmission-id"
TIME = b"paypal-transmission-time"
SIGNATURE = b"paypal-transmission-sig"
CERTIFICATE = b"paypal-cert-url"
ALGORITHM = b"paypal-auth-algo"
DOMAIN = "paypal.com"
ADDRESS = re.compile(
    rb"https://(?:[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\.){0,4}paypal\.com(?::443)?/v1/notifications/certs/[A-Za-z0-9_-]{1,100}"
)
TRANSMISSION = re.compile(rb"[!-{}~]{1,200}")  # one word, without the bar that separates the parts
MOMENT = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}(?:Z|[+-][0-9]{2}:[0-9]{2})")
SIGNATURE_CHARS_MAX = 2_000
ROOTS_BYTES_MAX = 2**20
REPEATS_S = 3 * 24 * 60 * 60.0
PADDING, HASH = PKCS1v15(), SHA256()


def event_id(request: WebhookRequest) -> str:
    """Return the signed transmission id, which becomes the record's id."""
    return request.headers.get(ID, b"").decode("ascii", "replace")[:TRANSMISSION_CHARS_MAX]


def verify(request: WebhookRequest) -> bool:
    """Return whether PayPal signed the callback for one of our webhooks, whose ids are the
    `secrets`.

    The certificate's address is checked before it is fetched. A cached certificate that does not
    verify is fetched again, because it may have been renewed.
    """
    headers = request.headers
    address, moment = headers.get(CERTIFICATE, b""), headers.get(TIME, b"")
    number = headers.get(ID, b"")
    if (
        headers.get(ALGORITHM) != b"SHA256withRSA"
        or not request.secrets
        or not ADDRESS.fullmatch(address)
    ):
        return False
    signature = decoded_signature(headers.get(SIGNATURE, b""))
    if not signature or not TRANSMISSION.fullmatch(number) or not is_recent(moment, request):
        return False
    url = address.decode()
    pem = request.certificates.get(url)
    if pem is None:
        raise CertificateNeededError(url)
    by = signer(pem, DOMAIN, request.options.get("roots", ""), request.at)
    if by is None:
        raise CertificateNeededError(url)
    for webhook in request.secrets:
        try:
            by.key.verify(
                signature, signed_text(number, moment, webhook, request.body), PADDING, HASH
            )
        except InvalidSignature:
            continue
        return True
    return False


def signed_text(number: bytes, moment: bytes, webhook: bytes, body: bytes) -> bytes:
    return b"%b|%b|%b|%d" % (number, moment, webhook, zlib.crc32(body))


def is_recent(moment: bytes, request: WebhookRequest) -> bool:
    if not MOMENT.fullmatch(moment):
        return False
    try:
        age = request.at - datetime.fromisoformat(moment.decode()).timestamp()
    except (ValueError, OverflowError):
        return False
    return -request.tolerance_s <= age <= REPEATS_S + request.tolerance_s


def decoded_signature(text: bytes) -> bytes:
    if len(text) > SIGNATURE_CHARS_MAX:
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def read_options(options: Mapping[str, str], folder: Path) -> Mapping[str, str]:
    """Return the options with the roots' content in the place of their file name. Raises ValueError
    when they cannot be read.
    """
    name, roots = options.get("roots", ""), ""
    try:
        if name:
            roots = bounded.read_text(folder / name, ROOTS_BYTES_MAX)
        trust_store(roots)  # slow the first time, so done before a callback waits for it
    except (OSError, ValueError):
        raise ValueError(f"roots: {name} is not a readable file with certificates in PEM") from None
    if name and not roots.strip():  # an empty text would stand for the usual authorities
        raise ValueError(f"roots: {name} is empty")
    return {**options, "roots": roots}
