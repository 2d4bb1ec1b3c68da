"""Ticket Evolution's signed API: signatures by the vendor's vectors, and requests to a server that
checks them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.clients import ticketevolution
from services.clients.ticketevolution import TicketEvolution, signature
from tests.support.callbacks import FIXTURES
from tests.support.trapped import until
from tests.support.vendors.fake_ticketevolution import SECRET, TOKEN, Answer, FakeTicketEvolution
from tests.support.vendors.ticketevolution import order

VECTORS: list[dict[str, str]] = json.loads(
    (FIXTURES / "ticketevolution" / "vectors.json").read_bytes()
)


@pytest.fixture
def vendor() -> Iterator[FakeTicketEvolution]:
    with FakeTicketEvolution() as opened:
        yield opened


@pytest.fixture
def client(vendor: FakeTicketEvolution) -> Iterator[TicketEvolution]:
    with httpx.Client(timeout=5) as http:
        yield TicketEvolution(http, vendor.url, TOKEN, SECRET)


@pytest.mark.parametrize(
    "vector", [pytest.param(vector, id=f"{vector['name']} {vector['what']}") for vector in VECTORS]
)
def test_requests_are_signed_as_the_vendor_signs_them(vector: dict[str, str]) -> None:
    given = {name: vector[name] for name in ("method", "host", "path", "query", "secret")}
    assert signature(body=vector["body"].encode(), **given) == vector["signature"]


def test_the_published_vector_is_the_one_of_the_older_path() -> None:
    """By the page, a right client would seem broken."""
    first, second = VECTORS[:2]
    assert (first["path"], second["path"]) == ("/brokerages", "/v9/brokerages")
    assert first["query"] == second["query"]
    assert first["signature"] != second["signature"]


def test_what_is_sent_is_what_is_signed(
    vendor: FakeTicketEvolution, client: TicketEvolution
) -> None:
    vendor.put(order(), order(id=2, seller_state="accepted"))
    assert [order["id"] for order in client.orders(state="pending")] == [10324712]
    assert [
        order["id"]
        for order in client.orders(updated_since="2026-11-20T14:40:04Z", per_page=1, page=2)
    ] == [2]
    assert client.orders(updated_since="2026-11-20T14:40:05Z", direct_buyer_type="Office") == []
    assert json.loads(client.order("2")) == vendor.orders["2"]
    assert vendor.refusals == []
    assert [request.path for request in vendor.requests] == ["/v9/orders"] * 3 + ["/v9/orders/2"]
    assert vendor.requests[0].query == {
        "page": "1",
        "per_page": "100",
        "state": "pending",
        "type": "Order",
    }


def test_blanks_and_signs_are_signed_as_they_are_sent(
    vendor: FakeTicketEvolution, client: TicketEvolution
) -> None:
    client.orders(state="a b+c&d=é/~*")
    assert vendor.refusals == []
    assert vendor.requests[0].query["state"] == "a b+c&d=é/~*"


@pytest.mark.parametrize("change", [{"token": "another"}, {"secret": "another"}])
def test_another_key_is_refused(
    vendor: FakeTicketEvolution, client: TicketEvolution, change: dict[str, str]
) -> None:
    parts = {"token": TOKEN, "secret": SECRET, **change}
    with pytest.raises(httpx.HTTPStatusError):
        TicketEvolution(client.http, vendor.url, **parts).orders()
    assert len(vendor.refusals) == 1


def test_the_vendor_refuses_what_is_not_sorted(
    vendor: FakeTicketEvolution, client: TicketEvolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticketevolution, "sorted", lambda pairs: [*pairs][::-1], raising=False)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        client.orders(state="pending")
    assert vendor.refusals == ["the query is not sorted"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"{"),
        Answer(body=b"null"),
        Answer(body=b'{"orders":{}}'),
        Answer(body=b'{"orders":[1]}'),
        Answer(body=b"[" * 5_000),
    ],
)
def test_a_malformed_response_is_reported_as_one(
    vendor: FakeTicketEvolution, client: TicketEvolution, answer: Answer
) -> None:
    vendor.fail(answer, answer)
    with pytest.raises(ValueError):
        client.orders()
    with pytest.raises(ValueError):
        client.order("10324712")


def test_a_response_without_end_is_cut_off(
    vendor: FakeTicketEvolution, client: TicketEvolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticketevolution, "ORDER_BYTES_MAX", 1_000)
    vendor.put(order())
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        client.order("10324712")


def test_an_order_that_is_not_there_has_a_stated_reason(
    vendor: FakeTicketEvolution, client: TicketEvolution
) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        client.order("7")
    vendor.fail(Answer(body=json.dumps(order(id=8)).encode()))
    with pytest.raises(ValueError, match="is not the order 7"):
        client.order("7")
    for malformed in ("", "7/accept", "7?x=1", "\u0667", "x"):
        with pytest.raises(ValueError, match="a number"):
            client.order(malformed)
    assert [request.path for request in vendor.requests] == ["/v9/orders/7"] * 2


def test_failures_are_raised_to_the_caller(
    vendor: FakeTicketEvolution, client: TicketEvolution
) -> None:
    vendor.fail(
        Answer(500),
        Answer(429, headers={"Retry-After": "7"}),
        Answer(302, headers={"Location": "/v9/x"}),
    )
    for status in (500, 429, 302):
        with pytest.raises(httpx.HTTPStatusError) as raised:
            client.order("7")
        assert raised.value.response.status_code == status
        assert raised.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
    vendor.fail(Answer(hangs=True))
    with httpx.Client(timeout=0.2) as http, pytest.raises(httpx.TimeoutException):
        TicketEvolution(http, vendor.url, TOKEN, SECRET).order("7")
    until("the vendor has seen all four", lambda: len(vendor.requests) == 4)


def test_a_bare_list_is_a_page_too(vendor: FakeTicketEvolution, client: TicketEvolution) -> None:
    orders: list[dict[str, Any]] = [order()]
    vendor.fail(Answer(body=json.dumps(orders).encode()))
    assert client.orders() == orders


def test_the_repr_holds_no_key(client: TicketEvolution) -> None:
    assert TOKEN not in repr(client)
    assert SECRET not in repr(client)
