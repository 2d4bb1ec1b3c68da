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

from services.ingest.vendors.shared import php_lists
from services.ingest.vendors.shared.poll import MalformedResponseError, PollPage

SEEN_MAX = 2_000  # an overlap of more is told again; a cursor has 100,000 characters
ID = re.compile(
    r"[!#-\[\]-~]{1,200}"
)  # no blank, quote or backslash: it stands in keys, cursors and warnings


def json_document(answer: httpx.Response) -> Any:
    """Raises HTTPStatusError for what is no success, and MalformedResponseError for what is no
    JSON.
    """
    answer.raise_for_status()
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        pass
    # one text of it may be no Unicode, half of a character: that costs only the row where it stands
    try:
        return json.loads(answer.content, parse_constant=refuse_constant)
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


def page_rows(told: list[Any], what: str) -> tuple[list[PageRow], str]:
    """Those that can become callbacks, and a warning of the others: none costs its page."""
    sound, lost = list[PageRow](), 0
    for it in told:
        try:
            found = objects([it], what)[0]
            sound.append(PageRow(required_id(found, what), body_of(found, what)))
        except MalformedResponseError:
            lost += 1
    warning = (
        f"{lost} of the {what} have no id, or cannot be read as JSON with Unicode: left out"
        if lost
        else ""
    )
    return sound, warning


def object_mark(told: bytes) -> str:
    """By which something that was found is known again, in a cursor that holds SEEN_MAX of them."""
    return hashlib.sha256(told).hexdigest()[:16]


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
    told = found.get("id") if isinstance(found, dict) else None
    is_one = (
        isinstance(told, int | str)
        and not isinstance(told, bool)
        and ID.fullmatch(str(told)) is not None
    )
    return str(told) if is_one else ""


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


def listed_webhook(told: Mapping[str, Any], address: str) -> ListedWebhook:
    """One whose id is odd is off or on all the same."""
    return ListedWebhook(
        object_id(told) or "?", str(told.get(address, "")), str(told.get("status", ""))
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
