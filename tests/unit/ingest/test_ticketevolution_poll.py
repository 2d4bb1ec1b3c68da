"""Ticket Evolution's poll: page by page, resumable, and the same order twice is the same body."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.callbacks import TICKETEVOLUTION_ORDER
from services.clients.http import MalformedResponseError
from services.ingest import vendors
from services.ingest.vendors.shared.poll import FoundObject, OrderMissingError, PollConfig, PollPage
from services.ingest.vendors.ticketevolution import poll
from tests.support.vendors.fake_ticketevolution import SECRET, TOKEN, Answer, FakeTicketEvolution
from tests.support.vendors.ticketevolution import order, record

NOW = 1_795_188_600.0  # 2026-11-20T15:30:00Z


@pytest.fixture
def vendor() -> Iterator[FakeTicketEvolution]:
    with FakeTicketEvolution() as opened:
        yield opened


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5) as opened:
        yield opened


class Round:
    """The poll, run until it is done; `cursor` is all that it keeps."""

    def __init__(self, http: httpx.Client, vendor: FakeTicketEvolution, **options: str) -> None:
        self.http, self.cursor = http, ""
        self.polled = PollConfig("tevo", vendor.url, TOKEN, SECRET, options=options)

    def page(self, now: float = NOW) -> PollPage:
        page = poll.read(self.http, self.polled, self.cursor, now)
        self.cursor = page.cursor
        return page

    def all_pages(self, now: float = NOW) -> list[PollPage]:
        pages = [self.page(now)]
        while not pages[-1].is_last:
            pages.append(self.page(now))
        return pages


def ids(pages: list[PollPage]) -> list[str | None]:
    return [polled.external_id for page in pages for polled in page.objects]


def test_a_round_finds_pending_orders_and_changes_of_the_others(
    http: httpx.Client, vendor: FakeTicketEvolution
) -> None:
    vendor.put(
        order(id=1, updated_at="2026-10-01T00:00:00Z"),
        order(id=2, seller_state="accepted", updated_at="2026-11-20T15:00:00Z"),
        order(id=3, seller_state="accepted", updated_at="2026-11-01T00:00:00Z"),
    )
    round_ = Round(http, vendor)
    assert ids(round_.all_pages()) == ["1", "2"]
    assert [request.query.get("state") for request in vendor.requests] == ["pending", None]
    vendor.put(order(id=1, seller_state="canceled", updated_at="2026-11-20T15:31:00Z"))
    assert ids(round_.all_pages(NOW + 300)) == ["1"]
    # a little before the last round began
    assert vendor.requests[-1].query["updated_at.gte"] == "2026-11-20T15:15:00Z"
    assert vendor.refusals == []


def test_each_page_is_one_request(
    http: httpx.Client, vendor: FakeTicketEvolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.put(
        *(order(id=number, updated_at="2026-11-20T15:30:00Z") for number in range(1_000, 1_250))
    )
    round_ = Round(http, vendor)
    pages = [round_.page()]
    assert (len(pages[0].objects), pages[0].is_last, len(vendor.requests)) == (100, False, 1)
    # as a database may return it
    round_.cursor = json.dumps(json.loads(round_.cursor), indent=1)
    pages += round_.all_pages()
    assert sorted(set(map(str, ids(pages)))) == [str(number) for number in range(1_000, 1_250)]
    assert [request.query["page"] for request in vendor.requests] == ["1", "2", "3"] * 2
    assert {page.warning for page in pages} == {""}
    monkeypatch.setattr(poll, "PAGES_MAX", 2)
    cut = round_.all_pages(NOW + 300)
    assert "more than 2 pages" in cut[1].warning
    assert len(cut) == 4
    assert json.loads(round_.cursor)["since"] == NOW  # what was cut off is requested again


def test_a_round_that_was_interrupted_goes_on_where_it_was(
    http: httpx.Client, vendor: FakeTicketEvolution
) -> None:
    """And looks back to when it began, however long it took."""
    vendor.put(*(order(id=number) for number in range(1_000, 1_150)))
    round_ = Round(http, vendor)
    round_.page(NOW)
    before = round_.cursor
    vendor.fail(Answer(500))
    with pytest.raises(httpx.HTTPStatusError):
        round_.page(NOW + 50_000)
    assert round_.cursor == before
    round_.all_pages(NOW + 100_000)
    round_.all_pages(NOW + 100_000)
    assert {
        request.query["updated_at.gte"]
        for request in vendor.requests[-2:]
        if "state" not in request.query
    } == {"2026-11-20T15:15:00Z"}


def test_the_same_order_found_again_is_the_same_body_and_the_same_callback(
    http: httpx.Client, vendor: FakeTicketEvolution
) -> None:
    vendor.put(order())
    round_ = Round(http, vendor)
    first = round_.all_pages()[0].objects[0]
    vendor.put(dict(reversed(order().items())))
    later = round_.all_pages(NOW + 300)[0].objects[0]
    assert first == later
    assert first.type == TICKETEVOLUTION_ORDER
    read = poll.fetch_order(http, round_.polled, "10324712")
    polled, shown = (
        vendors.parse(record(polled_order.body, order="10324712")) for polled_order in (first, read)
    )
    assert polled == shown


def test_only_the_wanted_buyers_are_polled(http: httpx.Client, vendor: FakeTicketEvolution) -> None:
    vendor.put(order(id=1), order(id=2, buyer={"type": "Office", "id": 6}))
    assert ids(Round(http, vendor, direct_buyer_type="Office").all_pages()) == ["2", "2"]


def test_what_cannot_be_published_is_reported(
    http: httpx.Client, vendor: FakeTicketEvolution
) -> None:
    good = order()
    bodies: list[Any] = [
        good,
        {**good, "id": None},
        {**good, "id": "x"},
        {**good, "id": 5, "notes": "x" * 2_000_000},
    ]
    bodies += [{**good, "id": 6, "notes": "\ud800"}, None]
    vendor.fail(Answer(body=json.dumps({"orders": bodies}).encode()))
    page = Round(http, vendor).page()
    assert [polled.external_id for polled in page.objects] == ["10324712"]
    assert page.warning == "5 orders have no id, are too large, or are no Unicode"


def test_a_number_that_json_does_not_have_is_no_order(
    http: httpx.Client, vendor: FakeTicketEvolution
) -> None:
    """Read as null it would be another amount."""
    round_ = Round(http, vendor)
    vendor.fail(Answer(body=json.dumps({"orders": [order(total=float("nan"))]}).encode()))
    with pytest.raises(MalformedResponseError, match="not JSON"):
        round_.page()
    assert round_.cursor == ""


@pytest.mark.parametrize(
    ("days", "since"), [(5.0, "2026-11-15T15:15:00Z"), (0.0, "2026-11-20T15:15:00Z")]
)
def test_the_first_round_begins_as_far_back_as_its_section_sets(
    http: httpx.Client, vendor: FakeTicketEvolution, days: float, since: str
) -> None:
    round_ = Round(http, vendor)
    round_.polled = round_.polled._replace(first_days=days)
    round_.all_pages()
    assert vendor.requests[-1].query["updated_at.gte"] == since


@pytest.mark.parametrize("cursor", ["[]", "{", '{"page":0}', '{"page":1e9}', '{"since":-1}'])
def test_a_cursor_of_another_poll_is_refused(
    http: httpx.Client, vendor: FakeTicketEvolution, cursor: str
) -> None:
    round_ = Round(http, vendor)
    round_.cursor = cursor
    with pytest.raises(MalformedResponseError):
        round_.page()
    assert vendor.requests == []


def test_one_order_is_read_as_it_is_now(http: httpx.Client, vendor: FakeTicketEvolution) -> None:
    round_ = Round(http, vendor)
    vendor.put(order())
    sent = json.dumps(order()).encode()
    assert poll.fetch_order(http, round_.polled, "10324712") == FoundObject(
        "10324712", TICKETEVOLUTION_ORDER, sent
    )
    with pytest.raises(OrderMissingError, match="has no order 7 for this token"):
        poll.fetch_order(http, round_.polled, "7")
    with pytest.raises(MalformedResponseError, match="a number"):
        poll.fetch_order(http, round_.polled, "x")
    vendor.fail(Answer(body=b"{"), Answer(429, headers={"Retry-After": "7"}))
    with pytest.raises(MalformedResponseError, match="not JSON"):
        poll.fetch_order(http, round_.polled, "10324712")
    with pytest.raises(httpx.HTTPStatusError, match="429"):
        poll.fetch_order(http, round_.polled, "10324712")
