"""How a vendor's answer is read: JSON, of the shape that was asked for, or MalformedResponseError."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import httpx
import orjson

from services.clients.http import MalformedResponseError
from services.ingest.vendors.shared import php_lists
from services.ingest.vendors.shared.poll import PollPage

SEEN_MAX = 2_000  # an overlap of more is told again; a cursor has 100,000 characters
ID = re.compile(
    r"[!#-\[\]-~]{1,200}"
)  # no blank, quote or backslash: it stands in keys, cursors and warnings


def json_document(response: httpx.Response) -> Any:
    """Raises HTTPStatusError for what is no success, and MalformedResponseError for what is no
    JSON.
    """
    response.raise_for_status()
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        pass
    # one text of it may be no Unicode, half of a character: that costs only the row where it stands
    try:
        return json.loads(response.content, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedResponseError("the answer is no JSON") from None


def refuse_constant(_constant: str) -> NoReturn:
    raise ValueError("JSON has no such number")


def body_of(found: Mapping[str, Any], what: str) -> bytes:
    try:
        return orjson.dumps(found)
    except orjson.JSONEncodeError:
        raise MalformedResponseError(f"one of the {what} cannot be written as JSON") from None


class PageRow(NamedTuple):
    """One of a page that can become a callback."""

    id: str
    body: bytes


def page_rows(values: list[Any], what: str) -> tuple[list[PageRow], str]:
    """Those that can become callbacks, and a warning of the others: none costs its page."""
    sound, left_out = list[PageRow](), 0
    for value in values:
        try:
            row = objects([value], what)[0]
            sound.append(PageRow(required_id(row, what), body_of(row, what)))
        except MalformedResponseError:
            left_out += 1
    warning = (
        f"{left_out} of the {what} have no id, or cannot be read as JSON with Unicode: left out"
        if left_out
        else ""
    )
    return sound, warning


def object_mark(value: bytes) -> str:
    """By which something that was found is known again, in a cursor that holds SEEN_MAX of them."""
    return hashlib.sha256(value).hexdigest()[:16]


def list_of(found: object, what: str) -> list[Any]:
    """Some of it may be odd, but not all."""
    rows_found = (
        php_lists.list_from_php(found) if found != {} else None
    )  # an empty list is written as one
    if rows_found is None or (rows_found and not any(isinstance(it, dict) for it in rows_found)):
        raise MalformedResponseError(f"the answer is no list of {what}")
    return rows_found


def objects(found: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(it, dict) for it in found):
        raise MalformedResponseError(f"the answer is no list of {what}")
    return found


def required_id(found: Mapping[str, Any], what: str) -> str:
    if not (name := object_id(found)):
        raise MalformedResponseError(f"one of the {what} has no id")
    return name


def object_id(found: object) -> str:
    """Its id; empty when it has none that can be one."""
    value = found.get("id") if isinstance(found, dict) else None
    is_usable = (
        isinstance(value, int | str)
        and not isinstance(value, bool)
        and ID.fullmatch(str(value)) is not None
    )
    return str(value) if is_usable else ""


def cursor_of(text: str, kind: type[dict[str, Any]] = dict) -> dict[str, Any]:
    """What the last page left. "" is nothing, the first time."""
    found = orjson.loads(text) if text else {}
    if not isinstance(found, kind):
        raise MalformedResponseError("the cursor is no object")
    return found


def cursor_text(cursor: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(cursor)).decode()


def seconds_of(at: datetime) -> int:
    """Since 1970; a time without an offset is UTC."""
    return int((at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp())


class ListedWebhook(NamedTuple):
    """As a vendor lists it."""

    id: str
    address: str
    state: str


def listed_webhook(webhook: Mapping[str, Any], address_field: str) -> ListedWebhook:
    """One whose id is odd is off or on all the same."""
    return ListedWebhook(
        object_id(webhook) or "?",
        str(webhook.get(address_field, "")),
        str(webhook.get("status", "")),
    )


def webhooks_of_source(slug: str, webhooks: Iterable[ListedWebhook]) -> list[ListedWebhook]:
    """Those that tell the door of this source."""
    return [
        it for it in webhooks if it.address.partition("?")[0].rstrip("/").endswith(f"/hooks/{slug}")
    ]


def webhook_page(slug: str, webhooks: Iterable[ListedWebhook], enabled: str) -> PollPage:
    """Whether one tells the door of this source. Finds nothing but a warning."""
    found = webhooks_of_source(slug, webhooks)
    if not found:
        warning = f"no webhook tells /hooks/{slug}: only polls find its news"
    else:
        disabled = [it.id for it in found if it.state != enabled]
        warning = (
            f"the webhook {', '.join(disabled)} is disabled: switch it on again at the source"
            if disabled
            else ""
        )
    return PollPage((), "", is_last=True, warning=warning[:300])
