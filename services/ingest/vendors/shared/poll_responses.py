"""Reads a vendor's response: JSON of the requested shape, or MalformedResponseError."""

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

SEEN_MAX = 2_000  # a larger overlap is published again; a cursor has at most 100,000 characters
# Without blank, quote and backslash, because it stands in keys, cursors and warnings.
ID = re.compile(r"[!#-\[\]-~]{1,200}")


def json_document(response: httpx.Response) -> Any:
    """Return the parsed body. Raises HTTPStatusError if it is no success, and
    MalformedResponseError if it is not JSON.
    """
    response.raise_for_status()
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        pass
    # A text may hold a lone surrogate: that costs only the row in which it is.
    try:
        return json.loads(response.content, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedResponseError("the response is not JSON") from None


def refuse_constant(_constant: str) -> NoReturn:
    raise ValueError("JSON has no such number")


def body_of(row: Mapping[str, Any], object_kind: str) -> bytes:
    try:
        return orjson.dumps(row)
    except orjson.JSONEncodeError:
        raise MalformedResponseError(
            f"one of the {object_kind} cannot be written as JSON"
        ) from None


class PageRow(NamedTuple):
    """An object of a page that can become a callback."""

    id: str
    body: bytes


def page_rows(values: list[Any], object_kind: str) -> tuple[list[PageRow], str]:
    """Return the objects that can become callbacks, and a warning about the others, which never
    cost the page.
    """
    sound, left_out = list[PageRow](), 0
    for value in values:
        try:
            row = objects([value], object_kind)[0]
            sound.append(PageRow(required_id(row, object_kind), body_of(row, object_kind)))
        except MalformedResponseError:
            left_out += 1
    warning = (
        f"{left_out} of the {object_kind} have no id, or cannot be read as JSON with Unicode: "
        "left out"
        if left_out
        else ""
    )
    return sound, warning


def object_mark(value: bytes) -> str:
    """Return a short mark by which a cursor, which holds SEEN_MAX of them, recognises an object."""
    return hashlib.sha256(value).hexdigest()[:16]


def list_of(value: object, object_kind: str) -> list[Any]:
    """Return the list. Some of its objects may be malformed, but not all."""
    # PHP writes an empty list as [], so {} is an object.
    rows = php_lists.list_from_php(value) if value != {} else None
    if rows is None or (rows and not any(isinstance(row, dict) for row in rows)):
        raise MalformedResponseError(f"the response is not a list of {object_kind}")
    return rows


def objects(value: object, object_kind: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise MalformedResponseError(f"the response is not a list of {object_kind}")
    return value


def required_id(row: Mapping[str, Any], object_kind: str) -> str:
    if not (name := object_id(row)):
        raise MalformedResponseError(f"one of the {object_kind} has no id")
    return name


def object_id(row: object) -> str:
    """Return the object's id; empty when it has no usable one."""
    value = row.get("id") if isinstance(row, dict) else None
    is_usable = (
        isinstance(value, int | str)
        and not isinstance(value, bool)
        and ID.fullmatch(str(value)) is not None
    )
    return str(value) if is_usable else ""


def cursor_of(text: str, kind: type[dict[str, Any]] = dict) -> dict[str, Any]:
    """Return the cursor that the last page left; "" is the first."""
    cursor = orjson.loads(text) if text else {}
    if not isinstance(cursor, kind):
        raise MalformedResponseError("the cursor is not an object")
    return cursor


def cursor_text(cursor: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(cursor)).decode()


def seconds_of(at: datetime) -> int:
    """Return seconds since 1970; a time without an offset is UTC."""
    return int((at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp())


class ListedWebhook(NamedTuple):
    """A webhook as a vendor lists it."""

    id: str
    address: str
    state: str


def listed_webhook(webhook: Mapping[str, Any], address_field: str) -> ListedWebhook:
    """Return the webhook; a malformed id does not hide whether it is enabled."""
    return ListedWebhook(
        object_id(webhook) or "?",
        str(webhook.get(address_field, "")),
        str(webhook.get("status", "")),
    )


def webhooks_of_source(slug: str, webhooks: Iterable[ListedWebhook]) -> list[ListedWebhook]:
    """Return the webhooks that call the endpoint of this source."""
    return [
        webhook
        for webhook in webhooks
        if webhook.address.partition("?")[0].rstrip("/").endswith(f"/hooks/{slug}")
    ]


def webhook_page(slug: str, webhooks: Iterable[ListedWebhook], enabled: str) -> PollPage:
    """Return a page without objects, with a warning if no enabled webhook calls the endpoint of
    this source.
    """
    own_webhooks = webhooks_of_source(slug, webhooks)
    if not own_webhooks:
        warning = f"no webhook calls /hooks/{slug}: only polls find its changes"
    else:
        disabled = [webhook.id for webhook in own_webhooks if webhook.state != enabled]
        warning = (
            f"the webhook {', '.join(disabled)} is disabled: enable it again at the source"
            if disabled
            else ""
        )
    return PollPage((), "", is_last=True, warning=warning[:300])
