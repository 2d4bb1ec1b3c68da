"""Stripe: polls events that no endpoint has accepted, and whether the endpoint is enabled.

The list of undelivered events holds an event from its first second until it was delivered. It
begins with the newest and is paged by event id, so events that appear or disappear meanwhile move
nothing past us. A walk ends at the time before which the last walk has seen everything.

Events that happen while no endpoint is enabled are sent to nobody and are never in that list. Then,
and once more when the endpoint is enabled again, a walk goes over all events and publishes those
that an order needs.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import httpx

from services.clients.http import MalformedResponseError
from services.ingest.rules.polling import PAGE_MAX
from services.ingest.vendors.shared.poll import DAY_S, FoundObject, Poll, PollConfig, PollPage
from services.ingest.vendors.shared.poll_responses import (
    SEEN_MAX,
    ListedWebhook,
    cursor_of,
    cursor_text,
    json_document,
    list_of,
    listed_webhook,
    object_id,
    object_mark,
    page_rows,
    webhook_page,
    webhooks_of_source,
)
from services.ingest.vendors.stripe.events import TYPES

URL = "https://api.stripe.com"
NEEDS = ("key",)
TYPE = "stubline.callback.stripe.v1"
ENABLED = "enabled"
OVERLAP_S = 300
LOOKBACK_S = int(DAY_S)  # of the walk after one that was empty: the clocks differ by less
KEPT_S = 29 * DAY_S  # Stripe lists events for 30 days


def request(
    http: httpx.Client, config: PollConfig, path: str, parameters: dict[str, str | int]
) -> tuple[list[Any], bool]:
    """Return the objects, and whether there are more."""
    response = http.get(
        f"{config.url}/v1/{path}",
        params=parameters,
        headers={"Authorization": f"Bearer {config.key}"},
    )
    value = json_document(response)
    if not isinstance(value, dict):
        raise MalformedResponseError("the response is not an object")
    return list_of(value.get("data"), path), value.get("has_more") is True


def read_events(http: httpx.Client, config: PollConfig, cursor: str, now: float) -> PollPage:
    """Read the next events of a walk from now back to `since`. The cursor has

    - `after`: the event after which the page begins
    - `newest`: the newest time seen
    - `seen`: marks of the objects that were found last
    - `off`: the endpoint was disabled at the start
    - `all`: the walk goes over all events
    """
    at = cursor_of(cursor)
    since = max(int(at.get("since", now - config.first_days * DAY_S)), int(now - KEPT_S))
    after = at.get("after") if int(at.get("began", now)) > now - DAY_S else None
    is_off = bool(at.get("off")) if after else not is_on(http, config)
    is_all = bool(at.get("all")) if after else is_off or bool(at.get("off"))
    listed_events, has_more = request(
        http, config, "events", parameters(since, after, config.page, is_all=is_all)
    )
    newest = max(
        [
            int(at.get("newest", since)),
            *(second for event in listed_events if (second := created(event)) is not None),
        ]
    )
    walk = {"since": since, "newest": newest, "began": int(at["began"]) if after else int(now)}
    seen = dict.fromkeys(at.get("seen", ()))
    sound, warning = page_rows(
        [event for event in listed_events if not is_all or is_needed(event)], "events"
    )
    bodies = {object_mark(event.id.encode()): event.body for event in sound}
    new = [FoundObject(None, TYPE, body) for marked, body in bodies.items() if marked not in seen]
    marks = list(seen | dict.fromkeys(bodies))[-SEEN_MAX:]
    following = next_position(walk, listed_events if has_more else [])
    following |= {"seen": marks, "off": is_off}
    is_last = "after" not in following
    if not is_last:
        following["all"] = is_all
    return PollPage(new, cursor_text(following), is_last=is_last, warning=warning)


def next_position(walk: dict[str, int], page: list[Any]) -> dict[str, Any]:
    """Return where the next page of the walk begins; without a page, where the next walk ends."""
    if not page:
        newest, began = min(walk["newest"], walk["began"]), walk["began"]
        return {"since": max(walk["since"], newest - OVERLAP_S, began - LOOKBACK_S)}
    last = next((name for event in reversed(page) if (name := object_id(event))), None)
    if last is None:
        raise MalformedResponseError("no event of a page has an id")
    return {**walk, "after": last}


def parameters(since: int, after: object, size: int, *, is_all: bool) -> dict[str, str | int]:
    wanted: dict[str, str | int] = {"limit": size, "created[gte]": since}
    if not is_all:
        wanted["delivery_success"] = "false"
    if after:
        wanted["starting_after"] = str(after)
    return wanted


def is_on(http: httpx.Client, config: PollConfig) -> bool:
    """Return whether an enabled endpoint receives current events. If the key may not read
    endpoints, assume that one does.
    """
    try:
        return any(
            webhook.state == ENABLED
            for webhook in webhooks_of_source(config.slug, endpoints(http, config))
        )
    except httpx.HTTPStatusError as error:
        if error.response.status_code != HTTPStatus.FORBIDDEN:
            raise
        return True


def is_needed(event: object) -> bool:
    return (
        not isinstance(event, dict)
        or not isinstance(kind := event.get("type"), str)
        or kind in TYPES
    )


def created(event: object) -> int | None:
    value = event.get("created") if isinstance(event, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def endpoints(http: httpx.Client, config: PollConfig) -> list[ListedWebhook]:
    webhooks, _ = request(http, config, "webhook_endpoints", {"limit": PAGE_MAX})
    return [listed_webhook(webhook, "url") for webhook in webhooks if isinstance(webhook, dict)]


def read_webhook(http: httpx.Client, config: PollConfig, _cursor: str, _now: float) -> PollPage:
    return webhook_page(config.slug, endpoints(http, config), ENABLED)


POLLS = (
    Poll("stripe", "events", 300.0, read_events),
    Poll("stripe", "webhook", 900.0, read_webhook),
)
