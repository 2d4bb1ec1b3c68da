"""Ticket Evolution: webhooks as unsigned form posts.

The secret is an unguessable word in the address (`/hooks/<slug>/<word>`, or the password in it). It
keeps unauthenticated callers out and proves nothing. So no content of a body is trusted: it only
names the order to fetch through the signed API (`poll`, `order`). The same address also receives
callbacks that concern us as a buyer, and changes of the catalogue: both are kept and not acted on.
"""

from __future__ import annotations

import base64
import hashlib
import re
from binascii import Error as NoBase64
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from schemas.callbacks import TICKETEVOLUTION
from schemas.text import rfc3339
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules import facts
from services.ingest.vendors.shared.gateway import kept_callback
from services.ingest.vendors.shared.signing import is_one_of
from services.ingest.vendors.shared.source import FORM, ReceivedCallback, Source, WebhookRequest

ORDER_EVENTS = frozenset(
    {"order_created", "order_accepted", "fraud_response_received", "etickets_finalized"}
)
STATES = ("seller_state", "buyer_state", "fraud_check_status")  # of an order, and of nothing else
# The vendor's documentation spells one of them `perfomer_id`.
CATALOGUE_IDS = frozenset({"event_id", "performer_id", "perfomer_id", "venue_id"})
CATALOGUE_EVENT = re.compile(
    r"(?:event|performer|perfomer|venue)_(?:created|updated|deleted)", re.ASCII
)
WORD = re.compile(r"[a-z][a-z0-9_.-]{0,59}", re.ASCII)
ID = re.compile(r"[0-9]{1,19}", re.ASCII)
# Of ` 61449-190823` the right part is the order's id.
NUMBER = re.compile(r"\s*[0-9]{1,19}-([0-9]{1,19})\s*", re.ASCII)
PATH = re.compile(r"/orders/([0-9]{1,19})(?:/.*)?", re.ASCII)
SECRET = re.compile(r"[A-Za-z0-9_.~-]+", re.ASCII)
FIELDS_MAX = 20
TEXT_CHARS_MAX = 60


class TicketEvolutionForm(NamedTuple):
    """A parsed form."""

    group: str  # ties an order to its substitutes; not its id
    recipient: str
    event: str
    is_catalogue: bool
    body: Mapping[str, Any]  # empty when there was none


def verify(request: WebhookRequest) -> bool:
    """Check the word after the slug, or the password of basic credentials. It admits the caller and
    proves nothing of the content.
    """
    in_path = is_one_of(request.path_suffix.encode("utf-8", "replace"), request.secrets)
    return in_path | is_one_of(
        _password(request.headers.get(b"authorization", b"")), request.secrets
    )


def _password(header: bytes) -> bytes:
    kind, _, credentials = header.partition(b" ")
    if kind.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except NoBase64:
        return b""


def signing_key(secret: str) -> bytes:
    if not SECRET.fullmatch(secret):
        raise ValueError(
            "has a character that an address changes: use letters, digits, - and _ (openssl rand "
            "-hex 32)"
        )
    return secret.encode()


def order_ids(body: bytes) -> tuple[str | None]:
    try:
        return (order_id(parsed(body)),)
    except CallbackUnreadable:
        return (None,)


def parsed(body: bytes) -> TicketEvolutionForm:
    """Parse the form. Raises CallbackUnreadable."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except UnicodeError:
        raise CallbackUnreadable("the form is not text") from None
    except ValueError:
        raise CallbackUnreadable(f"the form has more than {FIELDS_MAX} fields") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise CallbackUnreadable("the form has a field twice")
    event = fields.get("event_type", "").strip().lower()
    if not event:
        raise CallbackUnreadable("the form has no event_type")
    group, text = fields.get("order_group_id", "").strip(), fields.get("body", "")
    is_catalogue = CATALOGUE_EVENT.fullmatch(event) is not None or (
        not group and not CATALOGUE_IDS.isdisjoint(fields)
    )
    content = {} if is_catalogue and not text else _loaded(text)
    return TicketEvolutionForm(
        group, fields.get("recipient", "").strip().lower(), event, is_catalogue, content
    )


def _loaded(text: str) -> Mapping[str, Any]:
    try:
        document = orjson.loads(text)
    except ValueError:
        raise CallbackUnreadable("the form's field body is not JSON") from None
    if not isinstance(document, dict):
        raise CallbackUnreadable("the form's field body is not a JSON object")
    return document


def order_id(form: TicketEvolutionForm) -> str | None:
    """Return the order's id. The body is an order, or an item or shipment of one: what names the
    order precedes `id`.
    """
    if form.is_catalogue:
        return None
    body = form.body
    if (named := _id(body.get("order_id"))) is not None:
        return named
    for name, pattern in (("url", PATH), ("oid", NUMBER)):
        text = body.get(name)
        if isinstance(text, str) and (match := pattern.fullmatch(text)):
            return match[1]
    is_order = form.event == "order_created" or any(name in body for name in STATES)
    return _id(body.get("id")) if is_order else None


def _id(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip() if isinstance(value, str) or abs(value) < 10**19 else ""
    return text if ID.fullmatch(text) else None


def identify(received: ReceivedCallback, form: TicketEvolutionForm) -> str:
    """Return the key. There is no delivery id, so it is group, recipient, type, id, time of change
    and the words that may change within a second, if all are there; else the hash of the form.
    """
    body = form.body
    identifier, at = _id(body.get("id")), _instant(body.get("updated_at"))
    words = [form.recipient, form.event, *(body.get(name) or "none" for name in STATES)]
    if (
        identifier
        and at
        and ID.fullmatch(form.group)
        and all(isinstance(word, str) and WORD.fullmatch(word) for word in words)
    ):
        return " ".join((received.source, form.group, identifier, at, *words))
    return f"{received.source} {hashlib.sha256(received.body).hexdigest()}"


def _instant(value: object) -> str:
    """Return the instant in one form for all spellings; empty if it is none."""
    if not isinstance(value, str) or len(value) > TEXT_CHARS_MAX:
        return ""
    try:
        at = datetime.fromisoformat(value)
        return rfc3339(at) if at.tzinfo else ""
    except (ValueError, OverflowError):
        return ""


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    """Return an order to fetch, or a callback to keep; never facts, because no form is trusted."""
    form = parsed(received.body)
    key, event = identify(received, form), _word(form.event)
    if form.is_catalogue:
        return _not_acted_on(received, key, f"catalogue: {event}")
    if form.recipient == "buyer":
        return _not_acted_on(received, key, f"to us as a buyer: {event}")
    external_id = order_id(form)
    orders_to_fetch = (f"{received.order_source}:{external_id}",) if external_id else ()
    if form.recipient == "seller" and form.event in ORDER_EVENTS:
        if not orders_to_fetch:
            raise CallbackUnreadable(f"the body of {event} names no order")
        return facts.parsed_callback(key, None, orders_to_fetch=orders_to_fetch)
    cause = event if form.recipient == "seller" else f"{event} to {_word(form.recipient)}"
    drift_notice = facts.DriftNotice(
        received.source, "unknown-type", cause, received.body, is_kept=True
    )
    return facts.parsed_callback(key, None, orders_to_fetch=orders_to_fetch, drift=(drift_notice,))


def read_options(options: Mapping[str, str], _folder: Path) -> Mapping[str, str]:
    if options.get("direct_buyer_type", "Office") not in {"Office", "Client"}:
        raise ValueError("direct_buyer_type is Office or Client")
    return options


def _not_acted_on(received: ReceivedCallback, key: str, cause: str) -> facts.ParsedCallback:
    return kept_callback(received, key, "not-acted-on", cause, is_reported=False)


def _word(text: str) -> str:
    return text if WORD.fullmatch(text) else ascii(text[:TEXT_CHARS_MAX])[:100]


SOURCE = Source(
    kind="ticketevolution",
    type=TICKETEVOLUTION,
    verify=verify,
    uses_path_suffix=True,
    normalise=normalise,
    order_ids=order_ids,
    signing_key=signing_key,
    media=FORM,
    options={
        "direct_buyer_type": (
            "Poll only the orders of these buyers: Office or Client. Default: all."
        )
    },
    read_options=read_options,
)
