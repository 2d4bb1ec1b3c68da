"""Ticket Evolution: polls the orders that wait for us, changes of the others, and one order by its
id.

A round requests pending orders, page by page, and then what has changed since the last round began,
because an order that was accepted or cancelled is no longer pending. It begins LOOKBACK_S earlier
than that, because clocks differ and pages shift while they are read. An order that is found again
is a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

import httpx
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.callbacks import TICKETEVOLUTION_ORDER
from services.clients.http import MalformedResponseError
from services.clients.ticketevolution import (
    ORDER_BYTES_MAX,
    PER_PAGE_MAX,
    TicketEvolution,
    order_id_of,
)
from services.ingest.vendors.shared.poll import (
    DAY_S,
    FoundObject,
    OrderMissingError,
    Poll,
    PollConfig,
    PollPage,
)

URL = "https://api.ticketevolution.com"
EVERY_S = 300.0  # the vendor recommends 5 to 10 minutes
LOOKBACK_S = 900.0
PAGES_MAX = 500  # of one list; beyond it a warning is reported


class PollCursor(BaseModel):
    """Where a round is. `page` counts within one of its two lists."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    # in seconds since 1970: when the last complete round began, and when this one did
    since: Annotated[float, Field(ge=0)] = 0.0
    began: Annotated[float, Field(ge=0)] = 0.0
    is_pending_done: bool = False
    page: Annotated[int, Field(ge=1, le=PAGES_MAX)] = 1

    @property
    def text(self) -> str:
        return self.model_dump_json()


def read(http: httpx.Client, config: PollConfig, cursor: str, now: float) -> PollPage:
    """Read one page with one request."""
    at = _at(cursor, now, config.first_days * DAY_S)
    buyers = config.options.get("direct_buyer_type", "")
    client = TicketEvolution(http, config.url, config.key, config.secret)
    state, since = ("", _time(at.since - LOOKBACK_S)) if at.is_pending_done else ("pending", "")
    with malformed_as_poll_error():
        orders = client.orders(
            state=state, updated_since=since, page=at.page, direct_buyer_type=buyers
        )
    found_objects = tuple(_found_objects(orders))
    lost = len(orders) - len(found_objects)
    warnings = [f"{lost} orders have no id, are too large, or are no Unicode"] if lost else []
    is_over = len(orders) < PER_PAGE_MAX
    if not is_over and at.page < PAGES_MAX:
        return PollPage(
            found_objects,
            at.model_copy(update={"page": at.page + 1}).text,
            is_last=False,
            warning="; ".join(warnings),
        )
    if not is_over:
        warnings.append(f"more than {PAGES_MAX} pages: the rest is not read")
    if not at.is_pending_done:
        following = at.model_copy(update={"is_pending_done": True, "page": 1})
    else:  # what was cut off is requested again
        following = PollCursor(since=at.began if is_over else at.since)
    return PollPage(
        found_objects, following.text, is_last=at.is_pending_done, warning="; ".join(warnings)
    )


def _at(cursor: str, now: float, first_s: float) -> PollCursor:
    """Return the cursor. Raises MalformedResponseError."""
    try:
        at = (
            PollCursor.model_validate_json(cursor)
            if cursor
            else PollCursor(since=max(0.0, now - first_s))
        )
    except ValidationError:
        raise MalformedResponseError("the cursor belongs to another poll") from None
    return at if at.began else at.model_copy(update={"began": now})


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(max(seconds, 0.0), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _found_objects(orders: Sequence[object]) -> Iterator[FoundObject]:
    """Yield each order with its keys sorted, so that the same order has the same body."""
    for order in orders:
        order_id = order_id_of(order)
        try:
            body = orjson.dumps(order, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            continue
        if order_id and len(body) <= ORDER_BYTES_MAX:
            yield FoundObject(order_id, TICKETEVOLUTION_ORDER, body)


def fetch_order(http: httpx.Client, config: PollConfig, external_id: str) -> FoundObject:
    """Fetch one order as it is now, byte for byte, for an unsigned webhook. Raises httpx.HTTPError,
    MalformedResponseError or OrderMissingError.
    """
    client = TicketEvolution(http, config.url, config.key, config.secret)
    try:
        with malformed_as_poll_error():
            return FoundObject(external_id, TICKETEVOLUTION_ORDER, client.order(external_id))
    except httpx.HTTPStatusError as error:
        if error.response.status_code == HTTPStatus.NOT_FOUND:
            raise OrderMissingError(
                f"Ticket Evolution has no order {external_id} for this token"
            ) from None
        raise


@contextmanager
def malformed_as_poll_error() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise MalformedResponseError(str(error)) from None


POLLS = (Poll(kind="ticketevolution", object_kind="orders", every_s=EVERY_S, read=read),)
