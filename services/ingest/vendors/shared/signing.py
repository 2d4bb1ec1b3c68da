"""Signatures with a shared secret."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

from services.ingest.vendors.shared.source import WebhookRequest

# before the secrets of Stripe and of Standard Webhooks, and no part of what must be guessed
WHSEC_PREFIX = "whsec_"


def is_hmac_of_body(
    request: WebhookRequest, given: bytes, *, is_hex: bool = False, signed: bytes | None = None
) -> bool:
    """HMAC-SHA256 of the raw body (or of `signed`) in base64, or in hexadecimal digits.

    All secrets are tried, so the time tells nothing of which one fits.
    """
    text, fits = request.body if signed is None else signed, False
    for secret in request.secrets:
        made = hmac.digest(secret, text, "sha256")
        fits |= hmac.compare_digest(
            made.hex().encode() if is_hex else base64.b64encode(made), given
        )
    return fits


def is_one_of(given: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether a text is one of the secrets itself, in constant time."""
    fits = False
    for secret in secrets:
        fits |= hmac.compare_digest(secret, given)
    return fits
