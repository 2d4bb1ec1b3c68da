"""Signatures with a shared secret."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

from services.ingest.vendors.shared.source import WebhookRequest

# precedes secrets of Stripe and of Standard Webhooks, and does not count towards their strength
WHSEC_PREFIX = "whsec_"


def is_hmac_of_body(
    request: WebhookRequest, given: bytes, *, is_hex: bool = False, signed: bytes | None = None
) -> bool:
    """Return whether `given` is the HMAC-SHA256 of the raw body (or of `signed`), in base64 or in
    hexadecimal digits.

    All secrets are tried, so the time does not show which one fits.
    """
    text, fits = request.body if signed is None else signed, False
    for secret in request.secrets:
        digest = hmac.digest(secret, text, "sha256")
        fits |= hmac.compare_digest(
            digest.hex().encode() if is_hex else base64.b64encode(digest), given
        )
    return fits


def is_one_of(given: bytes, secrets: Sequence[bytes]) -> bool:
    """Return whether the text is one of the secrets, in constant time."""
    fits = False
    for secret in secrets:
        fits |= hmac.compare_digest(secret, given)
    return fits
