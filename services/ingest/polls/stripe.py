"""Stripe: events that no endpoint has taken, and whether the endpoint is still on.

An event is in that list from its first second, until it was delivered. The list begins with the newest and is turned by the
id of an event, so what comes or goes meanwhile moves nothing past us; a walk ends at the time before which the last one
has seen everything.
"""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from services.ingest.polls.answers import cursor_of, document, identifier, kept, listening, objects
from services.ingest.polls.poll import DAY_S, Found, NonsenseError, Page, Poll, Polled

URL = "https://api.stripe.com"
NEEDS = ("key",)
TYPE = "stubline.callback.stripe.v1"
PAGE = 100  # the most that Stripe answers at once
OVERLAP_S = 300
SEEN_MAX = 300
KEPT_S = 29 * DAY_S  # Stripe lists events for 30 days


def ask(http: httpx.Client, polled: Polled, path: str, parameters: dict[str, str | int]) -> tuple[list[Any], bool]:
    """Objects, and whether there are more behind them."""
    answer = http.get(f"{polled.url}/v1/{path}", params=parameters, headers={"Authorization": f"Bearer {polled.key}"})
    told = document(answer)
    if not isinstance(told, dict):
        raise NonsenseError("the answer is no object")
    return objects(told.get("data"), path), told.get("has_more") is True


def events(http: httpx.Client, polled: Polled, cursor: str, now: float, *, size: int = PAGE) -> Page:
    """The next events of a walk from now back to `since`: `behind` which event, `newest` seen by it, and what was `seen`."""
    at = cursor_of(cursor)
    since = max(int(at.get("since", now - polled.first_days * DAY_S)), int(now - KEPT_S))
    parameters: dict[str, str | int] = {"delivery_success": "false", "limit": size, "created[gte]": since}
    if behind := at.get("behind") if int(at.get("began", now)) > now - DAY_S else None:
        parameters["starting_after"] = str(behind)
    told, has_more = ask(http, polled, "events", parameters)
    newest = max([int(at.get("newest", since)), *(created(event) for event in told)])
    walk = {"since": since, "newest": newest, "began": int(at["began"]) if behind else int(now)}
    seen = dict.fromkeys(at.get("seen", ()))
    found = {identifier(event, "events"): event for event in told}
    new = [Found(None, TYPE, orjson.dumps(event)) for name, event in found.items() if name not in seen]
    marks = list(seen | dict.fromkeys(found))[-SEEN_MAX:]
    if has_more and told:
        return Page(new, kept({**walk, "behind": list(found)[-1], "seen": marks}), is_last=False)
    begin = max(since, min(newest, walk["began"]) - OVERLAP_S)
    return Page(new, kept({"since": begin, "seen": marks}), is_last=True)


def created(event: dict[str, Any]) -> int:
    told = event.get("created")
    if isinstance(told, bool) or not isinstance(told, int):
        raise NonsenseError("an event says no time")
    return told


def webhook(http: httpx.Client, polled: Polled, _cursor: str, _now: float) -> Page:
    told, _ = ask(http, polled, "webhook_endpoints", {"limit": PAGE})
    endpoints = [(identifier(it, "endpoints"), str(it.get("url", "")), str(it.get("status", ""))) for it in told]
    return listening(polled.slug, endpoints, "enabled")


POLLS = (Poll("stripe", "events", 300.0, events), Poll("stripe", "webhook", 900.0, webhook))
