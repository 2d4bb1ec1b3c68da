"""A storefront that posts its own orders to the webhook endpoint, signed as Standard Webhooks
specifies.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping

from schemas.callbacks import NATIVE
from tests.support.callbacks import native_order
from tests.support.vendors.vendor import Sample, Vendor

SECRET = "whsec_" + base64.b64encode(b"a storefront's key, 32 bytes long").decode()
PAN = "4111111111111111"
ORDER = native_order(source="vendor")
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/sources/vendor",
    "type": NATIVE,
    "time": "2026-11-20T15:28:09Z",
}


def signing_key(secret: str) -> bytes:
    return base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()


def sign(sample: Sample, secret: str, at: float) -> Mapping[bytes, bytes]:
    signed = b"e-1.%d.%b" % (int(at), sample.body)
    signature = base64.b64encode(hmac.digest(signing_key(secret), signed, "sha256"))
    is_structured = b'"specversion"' in sample.body
    media = b"application/cloudevents+json" if is_structured else b"application/json"
    return {
        b"content-type": media,
        b"webhook-id": b"e-1",
        b"webhook-timestamp": b"%d" % int(at),
        b"webhook-signature": b"v1,AAAA v1," + signature,
    }


VENDOR = Vendor(
    kind="native",
    secret=SECRET,
    other_secret="a storefront's plain text",
    samples={
        "order": Sample(json.dumps(ORDER).encode()),
        "gift": Sample(
            json.dumps(
                ORDER
                | {
                    "lines": [
                        ORDER["lines"][0] | {"recipient": {"name": "Bob", "email": "b@example.org"}}
                    ]
                }
            ).encode()
        ),
        "deleted": Sample(json.dumps(ORDER | {"is_deleted": True}).encode()),
        "with card data": Sample(
            json.dumps(ORDER | {"buyer": ORDER["buyer"] | {"card_number": PAN}}).encode()
        ),
        "structured": Sample(json.dumps(EVENT | {"data": ORDER}).encode()),
    },
    sign=sign,
    signs_time=True,
    card_data=(PAN.encode(),),
    body_for_source=lambda body, slug: body.replace(
        b'"source": "vendor"', b'"source": "%b"' % slug.encode()
    ),
)
