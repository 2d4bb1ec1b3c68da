"""Stripe: events that no endpoint has taken, and whether the endpoint is still on.

An event is in that list from its first second, until it was delivered. The list begins with the newest and is turned by the
id of an event, so what comes or goes meanwhile moves nothing past us; a walk ends at the time before which the last one
has seen everything.
"""

from __future__ import annotations

from typing import Any

import httpx

from services.ingest.polls.answers import ID, cursor_of, document, identifier, kept, listed, listening, objects, rows
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
    return listed(told.get("data"), path), told.get("has_more") is True


def events(http: httpx.Client, polled: Polled, cursor: str, now: float) -> Page:
    """The next events of a walk from now back to `since`: `behind` which event, `newest` seen by it, and what was `seen`."""
    at = cursor_of(cursor)
    since = max(int(at.get("since", now - polled.first_days * DAY_S)), int(now - KEPT_S))
    parameters: dict[str, str | int] = {"delivery_success": "false", "limit": polled.page, "created[gte]": since}
    if behind := at.get("behind") if int(at.get("began", now)) > now - DAY_S else None:
        parameters["starting_after"] = str(behind)
    told, has_more = ask(http, polled, "events", parameters)
    newest = max([int(at.get("newest", since)), *(second for event in told if (second := created(event)) is not None)])
    walk = {"since": since, "newest": newest, "began": int(at["began"]) if behind else int(now)}
    seen = dict.fromkeys(at.get("seen", ()))
    sound, warning = rows(told, "events")
    found = {it.id: it.body for it in sound}
    new = [Found(None, TYPE, body) for name, body in found.items() if name not in seen]
    marks = list(seen | dict.fromkeys(found))[-SEEN_MAX:]
    if has_more and told:
        last = next((name for event in reversed(told) if (name := named(event))), None)
        if last is None:
            raise NonsenseError("no event of a page has an id")
        return Page(new, kept({**walk, "behind": last, "seen": marks}), is_last=False, warning=warning)
    begin = max(since, min(newest, walk["began"]) - OVERLAP_S)
    return Page(new, kept({"since": begin, "seen": marks}), is_last=True, warning=warning)


def created(event: object) -> int | None:
    told = event.get("created") if isinstance(event, dict) else None
    return told if isinstance(told, int) and not isinstance(told, bool) else None


def named(event: object) -> str:
    told = event.get("id") if isinstance(event, dict) else None
    return told if isinstance(told, str) and ID.fullmatch(told) else ""


def webhook(http: httpx.Client, polled: Polled, _cursor: str, _now: float) -> Page:
    told, _ = ask(http, polled, "webhook_endpoints", {"limit": PAGE})
    endpoints = [
        (identifier(it, "endpoints"), str(it.get("url", "")), str(it.get("status", "")))
        for it in objects(told, "endpoints")
    ]
    return listening(polled.slug, endpoints, "enabled")


POLLS = (Poll("stripe", "events", 300.0, events), Poll("stripe", "webhook", 900.0, webhook))
