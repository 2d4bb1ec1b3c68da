"""Ticket Evolution's webhooks: unsigned form posts, to an address that holds a secret word."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from schemas.callbacks import TICKETEVOLUTION_ORDER
from services.runtime.records import Record
from tests.support import callbacks
from tests.support.callbacks import FIXTURES
from tests.support.vendors.vendor import Sample, Vendor

ORDER: dict[str, Any] = json.loads((FIXTURES / "ticketevolution" / "order.json").read_bytes())
ITEM: dict[str, Any] = json.loads((FIXTURES / "ticketevolution" / "item.json").read_bytes())
WORD = "3f0c1e-an-unguessable-word"
FORM = "application/x-www-form-urlencoded"
WEBHOOK = (FIXTURES / "ticketevolution" / "webhook.txt").read_bytes().strip()


def order(**changes: Any) -> dict[str, Any]:
    """The sample of the wire-format notes, with other values where a test wants them."""
    named = (
        {"oid": f"4606857-{changes['id']}", "url": f"/orders/{changes['id']}"}
        if "id" in changes
        else {}
    )
    return {**ORDER, **named, **changes}


def form(
    body: Mapping[str, Any] | str,
    event: str = "order_created",
    recipient: str = "seller",
    group: str = "4606857",
) -> bytes:
    """As it is posted."""
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    return urlencode(
        {"order_group_id": group, "recipient": recipient, "event_type": event, "body": text}
    ).encode()


def record(read: Mapping[str, Any] | bytes, *, source: str = "tevo", **more: Any) -> Record:
    """Return an order that was read through the API, as it is in the topic."""
    body = read if isinstance(read, bytes) else json.dumps(read).encode()
    named = str(json.loads(body)["id"]) if not isinstance(read, bytes) else "10324712"
    return callbacks.record(
        body, kind=TICKETEVOLUTION_ORDER, source=source, **{"order": named} | more
    )


def sign(_sample: Sample, secret: str, _at: float) -> Mapping[bytes, bytes]:
    """Return the basic credentials of the address. The word is also in its path (`path_suffix`)."""
    return {
        b"content-type": FORM.encode(),
        b"authorization": b"Basic " + base64.b64encode(f"tevo:{secret}".encode()),
    }


VENDOR = Vendor(
    kind="ticketevolution",
    secret=WORD,
    other_secret="the-word-before-also-long",
    samples={
        "order created": Sample(form(ORDER)),
        "the sample of the notes": Sample(WEBHOOK),
        "fraud word": Sample(
            form({**ORDER, "fraud_check_status": "approved"}, "fraud_response_received")
        ),
        "an item": Sample(form(ITEM, "etickets_finalized")),
        "as a buyer": Sample(form(ORDER, "order_accepted", "buyer")),
        "an unknown type": Sample(form(ORDER, "order_teleported")),
        "catalogue": Sample(
            urlencode({"event_id": "915177", "event_type": "event_updated"}).encode()
        ),
    },
    sign=sign,
    signs_body=False,
    path_suffix=WORD,
)
