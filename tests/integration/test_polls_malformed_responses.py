"""Polls whose vendor sends malformed responses: they stop no other poll, and the last warning is
kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from services.ingest.store import IngestStore
from services.runtime.observability import metrics
from services.runtime.postgres.lane_store import Session
from tests.support.polling import Poller, woo_shop
from tests.support.vendors.fake_server import FakeResponse, SentRequest
from tests.support.vendors.fake_woocommerce import FakeWooCommerce

NOW = int(time.time())
CARD = {"id": 1, "key": "_card_number", "value": "4111111111111111"}
LARGE = {"note": "z" * 1_100_000}  # no record holds it


class MalformedShop(FakeWooCommerce):
    """`odd` is merged into all of its orders, `headers` into all of its responses."""

    def __init__(self) -> None:
        super().__init__()
        self.odd, self.headers = dict[str, Any](), dict[str, str]()

    def body(self, number: int) -> dict[str, Any]:
        return {**self.odd, **super().body(number), **self.odd}

    def respond(self, request: SentRequest) -> FakeResponse:
        response = super().respond(request)
        return response._replace(headers={**response.headers, **self.headers})


@pytest.fixture
def shop() -> Iterator[MalformedShop]:
    with MalformedShop() as vendor:
        vendor.add_webhook("shop")
        yield vendor
        assert vendor.faults == []


@pytest.fixture
def poller(session: Session, shop: MalformedShop) -> Poller:
    return Poller(session, [woo_shop(shop)])


def keys(poller: Poller) -> list[str]:
    return sorted((record.key or b"").decode() for record in poller.records)


def request_read(session: Session, *order_ids: str) -> None:
    IngestStore(session).request_order_fetches(sorted(order_ids))
    session.commit()


@pytest.mark.parametrize("odd", ["\0", "x\0y", "\ud800", "\n", "x" * 201])
def test_what_a_vendor_calls_his_things_stops_no_poll_of_another(
    session: Session, shop: MalformedShop, odd: str
) -> None:
    shop.webhooks[0] |= {"id": odd, "status": "disabled"}
    shop.odd = {"id": odd, **LARGE}
    shop.put(1, NOW - 60)
    with FakeWooCommerce() as other:
        other.put(2, NOW - 60)
        poller = Poller(session, [woo_shop(shop), woo_shop(other, "other")])
        poller.settle()
        assert keys(poller) == ["other:2"]


def test_a_result_that_cannot_be_published_is_requested_again_and_blocks_no_other(
    poller: Poller, session: Session, shop: MalformedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put(1, NOW - 60)

    def fails(*_about: object) -> None:
        raise ValueError("a row that nobody expects")

    poller.tick()
    poller.await_results()
    with monkeypatch.context() as patched:
        patched.setattr(poller.scheduler, "_publish_page", fails)
        with pytest.raises(ValueError, match="nobody expects"):
            poller.tick()
    session.rollback()
    assert poller.workers.results == []
    poller.settle()
    assert keys(poller) == ["shop:1"]


@pytest.mark.parametrize("name", ["ETag", "X-Cache"])
def test_a_header_may_hold_any_bytes(poller: Poller, shop: MalformedShop, name: str) -> None:
    shop.headers = {name: '"caf\xe9"'}
    shop.put(1, NOW - 60)
    poller.settle()
    poller.poll_again()
    assert keys(poller) == ["shop:1"]
    assert poller.rows("select last_error from ingest.polls where failures > 0") == []


def test_a_disabled_webhook_stays_reported_while_the_shop_answers_that_nothing_changed(
    poller: Poller, shop: MalformedShop
) -> None:
    shop.has_tags = True
    shop.webhooks[0]["status"] = "disabled"
    poller.settle()
    poller.poll_again()
    poller.poll_again()
    assert any(
        request.headers.get("if-none-match")
        for request in shop.requests
        if request.path.endswith("/webhooks")
    )
    ((warning,),) = poller.rows("select warning from ingest.polls where object_kind = 'webhook'")
    assert warning.startswith("the webhook 1 is disabled")
    assert poller.rows(
        "select sum(count)::int from ingest.drift_notices where kind = 'webhook-disabled'"
    ) == [(3,)]
    shop.webhooks[0]["status"] = "active"
    poller.poll_again()
    assert poller.rows("select warning from ingest.polls where object_kind = 'webhook'") == [("",)]


def test_an_order_that_is_too_large_is_reported_without_its_card_data(
    poller: Poller, shop: MalformedShop
) -> None:
    shop.odd = {"meta_data": [CARD], **LARGE}
    shop.put(1, NOW - 60)
    poller.settle()
    ((example,),) = poller.rows(
        "select example from ingest.drift_notices where kind = 'poll-too-large'"
    )
    assert b"_card_number" in bytes(example)
    assert b"4111111111111111" not in bytes(example)


def test_a_page_that_is_too_much_at_once_is_requested_in_smaller_ones(
    poller: Poller, shop: MalformedShop
) -> None:
    shop.odd = {"note": "z" * 400_000}
    for number in range(1, 61):
        shop.put(number, NOW - 600 + number)
    poller.settle()
    assert poller.rows("select last_error from ingest.polls where failures > 0") == [
        ("the response is too large",)
    ]
    poller.poll_again()
    poller.poll_again()
    assert set(keys(poller)) == {f"shop:{number}" for number in range(1, 61)}


def test_retry_after_is_respected_when_an_earlier_order_of_the_same_request_came(
    poller: Poller, session: Session, shop: MalformedShop
) -> None:
    poller.settle()
    session.execute(b"update ingest.polled_sources set failures = 2")
    shop.put(1, NOW - 90 * 86_400)
    shop.put(2, NOW - 90 * 86_400)
    request_read(session, "shop:1", "shop:2")
    shop.behave("", "429 70")
    poller.settle()
    assert keys(poller) == ["shop:1"]
    assert poller.rows(
        "select failures, circuit_open_until > now() + interval '50 s' from ingest.polled_sources"
    ) == [(1, True)]


def test_refused_credentials_are_not_tried_with_every_order_that_waits(
    session: Session, shop: MalformedShop
) -> None:
    Poller(session, [woo_shop(shop)]).settle()
    wrong, requests_before = (
        Poller(session, [woo_shop(shop, secret="cs_revoked")]),
        len(shop.requests),
    )
    request_read(session, *(f"shop:{number}" for number in range(1, 31)))
    wrong.settle()
    assert len(shop.requests) == requests_before + 1
    wrong.report()
    assert metrics.value_of("stubline_ingest_polls_suspended", source="shop") == 1
    for number in range(1, 31):
        shop.put(number, NOW - 90 * 86_400)
    Poller(session, [woo_shop(shop)]).settle()  # a start tries again
    assert poller_waits(session) == 1  # the one that was refused has its own hour


def poller_waits(session: Session) -> int:
    ((count,),) = session.execute(
        b"select count(*) from ingest.order_fetches where requested > done"
    ).fetchall()
    session.rollback()
    return int(count)
