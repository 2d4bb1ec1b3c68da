"""Polls find every order and event, whatever changes between two pages, and publish nothing twice
without need.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.clients.http import BoundedHttpClient, MalformedResponseError
from services.ingest.vendors.polls import VENDORS
from services.ingest.vendors.shared.poll import FoundObject, PollConfig, PollPage
from services.ingest.vendors.stripe import poll as stripe
from services.ingest.vendors.woocommerce import poll as woocommerce
from services.ingest.vendors.woocommerce.poll import modified
from tests.support.vendors import fake_stripe, fake_woocommerce
from tests.support.vendors.fake_server import DRIPS, FakeResponse, FakeVendor, SentRequest
from tests.support.vendors.fake_stripe import FakeStripe
from tests.support.vendors.fake_woocommerce import FakeWooCommerce

BEGIN = 1_795_188_600
SHOP = PollConfig("shop", "https://shop.example.org", fake_woocommerce.KEY, fake_woocommerce.SECRET)
PAYMENTS = PollConfig("payments", "https://api.stripe.com", fake_stripe.KEY, orders_of="shop")
PAGES_MAX = 400  # of one walk in these tests; one with more never ends

Change = tuple[int, int, int]  # before which page, which order, how many seconds later


def walk(
    read: Callable[[str], PollPage], cursor: str, between: Callable[[], None] = lambda: None
) -> tuple[list[FoundObject], str]:
    """Read pages until the last one. Return what was found, and the cursor."""
    objects = list[FoundObject]()
    for _ in range(PAGES_MAX):
        page = read(cursor)
        objects += page.objects
        cursor = page.cursor
        if page.is_last:
            return objects, cursor
        between()
    raise AssertionError("it never ends")


def published(objects: list[FoundObject]) -> set[tuple[str, int | None]]:
    return {
        (callback.external_id or "", modified(json.loads(callback.body))) for callback in objects
    }


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=24),
    st.lists(st.integers(2, 5), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 23), st.integers(0, 3)), max_size=6),
)
def test_every_order_is_found_whatever_changes_between_two_pages(
    seconds: list[int], sizes: list[int], changes: list[Change]
) -> None:
    """Seconds have many orders, and pages all sizes. A changed order moves to the end, and others
    move up.
    """
    shop = FakeWooCommerce()
    for number, second in enumerate(seconds):
        shop.put(number + 1, BEGIN + second)
    pages = 0

    def change() -> None:
        nonlocal pages
        pages += 1
        for at, number, later in changes:
            if at == pages and number < len(seconds):
                shop.put(number + 1, BEGIN + 10 + later)

    client = shop.client()

    def read(cursor: str) -> PollPage:
        polled = SHOP._replace(page=sizes[len(shop.requests) % len(sizes)])
        return woocommerce.read_orders(client, polled, cursor, BEGIN + 20.0, status="any")

    objects, cursor = walk(read, "", change)
    later, cursor = walk(read, cursor)
    assert published(objects + later) >= {
        (str(number), changed) for number, (changed, _) in shop.orders.items()
    }
    assert walk(read, cursor)[0] == []
    assert shop.faults == []


def test_a_second_with_more_orders_than_a_page_ends_and_leaves_none_out() -> None:
    shop = FakeWooCommerce()
    for number in range(1, 351):
        shop.put(number, BEGIN)
    client = shop.client()

    def leave() -> None:
        """Move the second's first order to a later second, so that others move onto pages that were
        read.
        """
        number = next(order for order in sorted(shop.orders) if shop.orders[order][0] == BEGIN)
        shop.put(number, BEGIN + 5)

    objects, cursor = walk(lambda at: woocommerce.orders(client, SHOP, at, BEGIN + 60.0), "", leave)
    # those that moved onto pages that were read are found on the way back
    assert {polled.external_id for polled in objects} == {str(number) for number in range(1, 351)}
    more, _ = walk(lambda at: woocommerce.orders(client, SHOP, at, BEGIN + 90.0), cursor)
    assert published(objects + more) >= {
        (str(number), changed) for number, (changed, _) in shop.orders.items()
    }
    assert len(shop.requests) <= 24


@pytest.mark.parametrize("unreadable", [{50}, {1, 100, 250}, set(range(1, 400, 3))])
@pytest.mark.parametrize("orders_of_a_second", [1, 10, 150])
def test_a_page_from_which_the_shop_leaves_orders_out_is_not_its_last(
    unreadable: set[int], orders_of_a_second: int
) -> None:
    shop = FakeWooCommerce()
    shop.unreadable = unreadable  # by the user of the key; or of a plugin that was removed
    for number in range(1, 401):
        shop.put(number, BEGIN + number // orders_of_a_second)
    client = shop.client()
    objects, _ = walk(lambda at: woocommerce.orders(client, SHOP, at, BEGIN + 900.0), "")
    assert {int(polled.external_id or 0) for polled in objects} == shop.orders.keys() - unreadable


def test_what_was_published_within_minutes_is_not_published_again_every_time() -> None:
    """In the night after a rush no order comes that would move the overlap on."""
    shop, payments = FakeWooCommerce(), FakeStripe()
    payments.add_endpoint("payments")
    for number in range(1, 1_501):
        shop.put(number, BEGIN + number // 15)
        payments.put(BEGIN + number // 15)
    for read in (
        lambda at: woocommerce.orders(shop.client(), SHOP, at, BEGIN + 600.0),
        lambda at: stripe.read_events(payments.client(), PAYMENTS, at, BEGIN + 600.0),
    ):
        objects, cursor = walk(read, "")
        assert len(objects) == 1_500
        assert walk(read, cursor)[0] == []
        assert len(cursor) < 100_000


def test_the_way_back_through_a_second_leaves_none_out_when_pages_grow_shorter() -> None:
    shop = FakeWooCommerce()
    for number in range(1, 31):
        shop.put(number, BEGIN)
    client, sizes = shop.client(), iter([10] * 6 + [3] * 99)
    shown = list[int]()

    def read(cursor: str) -> PollPage:
        polled = SHOP._replace(page=next(sizes))
        page = woocommerce.read_orders(client, polled, cursor, BEGIN + 60.0, status="any")
        if json.loads(cursor or "{}").get("back"):
            begin = int(shop.requests[-1].parameters["offset"])
            shown.extend(range(begin, begin + polled.page))
        return page

    walk(read, "")
    assert set(shown) >= set(range(30))


def test_an_order_that_appears_late_is_found() -> None:
    shop, moment = FakeWooCommerce(), BEGIN + 30.0
    client = shop.client()
    for number in range(1, 251):
        shop.put(number, BEGIN + number // 10)
    objects, cursor = walk(lambda at: woocommerce.orders(client, SHOP, at, moment), "")
    shop.put(999, BEGIN + 1)  # its transaction was long
    more, cursor = walk(lambda at: woocommerce.orders(client, SHOP, at, moment + 60), cursor)
    assert len(objects) == 250
    assert [polled.external_id for polled in more] == ["999"]
    shop.put(999, BEGIN + 1, "refunded")  # changed again in the second that was seen
    more, _ = walk(lambda at: woocommerce.orders(client, SHOP, at, moment + 120), cursor)
    assert [json.loads(polled.body)["status"] for polled in more] == ["refunded"]


def test_the_first_poll_goes_back_a_few_days_and_trash_is_polled_by_itself() -> None:
    shop = FakeWooCommerce()
    client = shop.client()
    shop.put(1, BEGIN - 86_400)
    shop.put(2, BEGIN - 3 * 86_400)
    shop.put(3, BEGIN - 60, "trash")
    objects, _ = walk(lambda at: woocommerce.orders(client, SHOP, at, BEGIN), "")
    trashed, _ = walk(lambda at: woocommerce.trash(client, SHOP, at, BEGIN), "")
    assert [polled.external_id for polled in objects] == ["1"]
    assert [(polled.external_id, polled.callback_type) for polled in trashed] == [
        ("3", "order.updated")
    ]
    older, _ = walk(
        lambda at: woocommerce.orders(client, SHOP._replace(first_days=5), at, BEGIN), ""
    )
    assert {polled.external_id for polled in older} == {"1", "2"}


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=24).map(sorted),
    st.integers(1, 5),
    st.sets(st.integers(0, 23)),
    st.integers(0, 4),
)
def test_every_event_that_no_endpoint_took_is_found(
    seconds: list[int], size: int, taken: set[int], new: int
) -> None:
    """Between two pages some events are delivered, and new ones come."""
    vendor = FakeStripe()
    vendor.add_endpoint("payments")
    names = [vendor.put(BEGIN + second) for second in seconds]
    vendor.delivered = {names[index] for index in taken if index < len(names) and index % 2}
    later, came = (
        {names[index] for index in taken if index < len(names) and not index % 2},
        list[str](),
    )
    client = vendor.client()

    def between() -> None:
        if len(came) < new:
            came.append(vendor.put(BEGIN + 41))
        vendor.delivered |= later

    def read(cursor: str) -> PollPage:
        return stripe.read_events(client, PAYMENTS._replace(page=size), cursor, BEGIN + 45.0)

    objects, cursor = walk(read, "", between)
    second_walk, cursor = walk(read, cursor)
    identities = [json.loads(polled.body)["id"] for polled in objects + second_walk]
    assert set(identities) >= {name for name, _ in vendor.events} - vendor.delivered - later
    assert len(set(identities)) == len(identities)
    assert walk(read, cursor)[0] == []
    assert vendor.faults == []


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(["enabled", "disabled", "gone"]), st.integers(0, 7)), max_size=6
    ),
    st.integers(1, 5),
)
def test_events_of_the_time_in_which_no_endpoint_was_enabled_are_found(
    times: list[tuple[str, int]], size: int
) -> None:
    """Stripe sends them to no endpoint, so they are in no list of what was not delivered."""
    vendor, cursor, objects, wanted = FakeStripe(), "", list[FoundObject](), set[str]()
    client, polled = vendor.client(), PAYMENTS._replace(page=size)

    def poll(at: float) -> None:
        nonlocal cursor
        more, cursor = walk(lambda after: stripe.read_events(client, polled, after, at), cursor)
        objects.extend(more)

    for number, (state, count) in enumerate(times):
        at = BEGIN + 86_400 * number
        poll(at)
        vendor.endpoints.clear()
        vendor.add_endpoint("another", "disabled")
        if state != "gone":
            vendor.add_endpoint("payments", state)
        names = [vendor.put(at + second) for second in range(1, count + 1)]
        vendor.delivered |= set(names[::2]) - vendor.sent_to_none
        wanted |= set(names) - vendor.delivered
    poll(BEGIN + 86_400 * len(times))
    identities = [json.loads(polled.body)["id"] for polled in objects]
    assert set(identities) >= wanted
    assert len(set(identities)) == len(identities)
    assert vendor.faults == []


def test_a_walk_over_all_events_publishes_only_what_an_order_needs() -> None:
    vendor = FakeStripe()
    client = vendor.client()
    needed = vendor.put(BEGIN)
    vendor.put(BEGIN + 1, "customer.created")
    objects, cursor = walk(lambda at: stripe.read_events(client, PAYMENTS, at, BEGIN + 9.0), "")
    assert [json.loads(polled.body)["id"] for polled in objects] == [needed]
    vendor.add_endpoint("payments")
    strange = vendor.put(BEGIN + 20, "charge.moon")  # undelivered events of any type are found
    walked, cursor = walk(lambda at: stripe.read_events(client, PAYMENTS, at, BEGIN + 29.0), cursor)
    later, _ = walk(lambda at: stripe.read_events(client, PAYMENTS, at, BEGIN + 39.0), cursor)
    assert [json.loads(polled.body)["id"] for polled in walked + later] == [strange]
    requests = [request for request in vendor.requests if request.path == "/v1/events"]
    assert [request.parameters.get("delivery_success") for request in requests] == [
        None,
        None,
        "false",
    ]


def test_a_key_that_may_not_read_endpoints_still_finds_what_was_not_delivered() -> None:
    vendor = FakeStripe()
    vendor.add_endpoint("payments")
    vendor.hides_endpoints = True
    name = vendor.put(BEGIN)
    objects, _ = walk(lambda at: stripe.read_events(vendor.client(), PAYMENTS, at, BEGIN + 9.0), "")
    assert [json.loads(polled.body)["id"] for polled in objects] == [name]


def test_the_start_of_the_walk_moves_on_while_there_are_no_events() -> None:
    """Otherwise the first walk over all events would be long."""
    vendor = FakeStripe()
    vendor.add_endpoint("payments")
    _, cursor = walk(lambda at: stripe.read_events(vendor.client(), PAYMENTS, at, BEGIN), "")
    _, cursor = walk(
        lambda at: stripe.read_events(vendor.client(), PAYMENTS, at, BEGIN + 9 * 86_400), cursor
    )
    assert json.loads(cursor)["since"] == BEGIN + 8 * 86_400


@pytest.mark.parametrize(
    ("states", "warning"),
    [
        ([], "no webhook calls /hooks/shop"),
        (["active"], ""),
        (["active", "disabled"], "the webhook 2 is disabled"),
        (["paused"], "the webhook 1 is disabled"),
    ],
)
def test_a_webhook_that_was_disabled_is_reported(states: list[str], warning: str) -> None:
    shop, payments = FakeWooCommerce(), FakeStripe()
    shop.add_webhook("another")
    shop.add_webhook("shop", "disabled", "customer.updated")  # not of ours
    shop.webhooks.clear() if states else None
    for state in states:
        shop.add_webhook("shop", state)
        payments.add_endpoint("payments", "enabled" if state == "active" else "disabled")
    page = VENDORS["woocommerce"].polls["webhook"].read(shop.client(), SHOP, "", BEGIN)
    assert page.warning.startswith(warning) if warning else page.warning == ""
    page = VENDORS["stripe"].polls["webhook"].read(payments.client(), PAYMENTS, "", BEGIN)
    assert bool(page.warning) == bool(warning)
    assert page.is_last


@pytest.mark.parametrize("document", [None, {}, [1], [[{"id": 1}], None], "x"])
def test_a_malformed_response_moves_no_cursor(document: object) -> None:
    client = httpx.Client(
        transport=httpx.MockTransport(lambda _request: httpx.Response(200, json=document))
    )
    with pytest.raises(ValueError):
        woocommerce.orders(client, SHOP, "", BEGIN)
    with pytest.raises(ValueError):
        stripe.read_events(client, PAYMENTS, "", BEGIN)


def test_an_unsorted_page_is_a_malformed_response() -> None:
    shop = FakeWooCommerce()
    shop.put(1, BEGIN)
    shop.put(2, BEGIN + 1)
    orders = [shop.body(2), shop.body(1)]
    client = httpx.Client(
        transport=httpx.MockTransport(lambda _request: httpx.Response(200, json=orders))
    )
    with pytest.raises(MalformedResponseError, match="not sorted"):
        woocommerce.orders(client, SHOP, "", BEGIN)


ODD: list[Any] = [
    {"id": None},
    {"id": True},
    {"date_modified_gmt": ""},
    {"date_modified_gmt": "0000-00-00T00:00:00"},
    {"date_modified_gmt": "0001-01-01T00:00:00+14:00"},
    {"date_modified_gmt": "2001-01-01T00:00:00"},
    {"meta_data": "\ud800"},
    {"meta_data": 2**70},
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("size", [2, 5, 100])
def test_one_malformed_order_costs_none_of_the_others(odd: dict[str, Any], size: int) -> None:
    class OddShop(FakeWooCommerce):
        def body(self, number: int) -> dict[str, Any]:
            return super().body(number) | (odd if number == 3 else {})

    shop = OddShop()
    for number in range(1, 8):
        shop.put(number, BEGIN + number)
    client, warnings = shop.client(), set[str]()

    def read(cursor: str) -> PollPage:
        page = woocommerce.read_orders(
            client, SHOP._replace(page=size), cursor, BEGIN + 20.0, status="any"
        )
        warnings.add(page.warning)
        return page

    objects, cursor = walk(read, "")
    is_published = "date_modified_gmt" in odd or odd.get("meta_data") == 2**70
    assert {polled.external_id for polled in objects} >= {"1", "2", "4", "5", "6", "7"}
    assert ("3" in {polled.external_id for polled in objects}) == is_published
    assert (
        any(warning.startswith("1 of the orders have no id, or") for warning in warnings)
        != is_published
    )
    assert walk(read, cursor)[0] == []


@pytest.mark.parametrize("odd", [{"id": None}, {"created": None}, {"data": "\udfff"}])
def test_one_malformed_event_costs_none_of_the_others(odd: dict[str, Any]) -> None:
    class Payments(FakeStripe):
        def answer(self, request: SentRequest) -> FakeResponse:
            response = super().answer(request)
            rows = [
                row | (odd if row["id"] == names[3] else {}) for row in response.document["data"]
            ]
            return FakeResponse(response.status, {**response.document, "data": rows})

    payments = Payments()
    names = [payments.put(BEGIN + number) for number in range(8)]
    client = payments.client()
    objects, _ = walk(
        lambda at: stripe.read_events(client, PAYMENTS._replace(page=5), at, BEGIN + 20.0), ""
    )
    assert {json.loads(polled.body)["id"] for polled in objects} >= {*names} - {names[3]}


@pytest.mark.parametrize("odd", [None, {"id": None}, {"id": "\0", "url": None}])
def test_one_malformed_webhook_hides_no_other_and_stops_no_walk(odd: Any) -> None:
    shop, payments = FakeWooCommerce(), FakeStripe()
    shop.add_webhook("shop", "disabled")
    payments.add_endpoint("payments", "disabled")
    shop.webhooks.append(odd)
    payments.endpoints.append(odd)
    for page in (
        woocommerce.webhook(shop.client(), SHOP, "", BEGIN),
        stripe.read_webhook(payments.client(), PAYMENTS, "", BEGIN),
    ):
        assert "is disabled" in page.warning
    payments.endpoints.remove(odd)
    payments.put(BEGIN)
    payments.endpoints.append(odd)
    client = payments.client()
    objects, _ = walk(lambda at: stripe.read_events(client, PAYMENTS, at, BEGIN + 9.0), "")
    assert len(objects) == 1


def test_a_response_that_drips_times_out_even_in_its_headers() -> None:
    with FakeWooCommerce() as shop:
        client = BoundedHttpClient(per_second=500, answer_s=1.0, wait_s=0.6)
        address = f"{shop.url}/wp-json/wc/v3/orders/1"
        for way in ("drip", "drip body"):
            shop.behave(way)
            began = time.monotonic()
            with pytest.raises(httpx.ReadTimeout):
                client.get(address)
            assert 0.9 < time.monotonic() - began < DRIPS / 10, way  # it drips on for that long
            assert client.get(address).status_code == 401
        client.close()


@pytest.mark.parametrize("kind", [FakeWooCommerce, FakeStripe])
def test_the_fakes_report_what_no_vendor_would_accept(kind: type[FakeVendor]) -> None:
    with kind() as vendor:
        good = {"Accept": "application/json", "Authorization": "Bearer no"}
        httpx.get(f"{vendor.url}/v1/events", headers=good)
        assert vendor.faults == []  # only not known
        httpx.request("GET", f"{vendor.url}/v1/events", headers=good, content=b"{}")
        httpx.post(f"{vendor.url}/v1/events", headers=good)
        httpx.get(f"{vendor.url}/v1/events", headers={"Accept": "text/html"})
    assert len(vendor.faults) == 3


def test_an_order_is_read_by_its_id_alone() -> None:
    shop = FakeWooCommerce()
    shop.put(7, BEGIN)
    order = woocommerce.fetch_order(shop.client(), SHOP, "7")
    assert (order.external_id, json.loads(order.body)) == ("7", shop.body(7))
    with pytest.raises(httpx.HTTPStatusError):
        woocommerce.fetch_order(shop.client(), SHOP, "8")
    requests_before = len(shop.requests)
    with pytest.raises(ValueError, match="number"):
        woocommerce.fetch_order(shop.client(), SHOP, "../webhooks")
    assert len(shop.requests) == requests_before


def test_the_repr_of_a_polled_source_holds_no_credentials() -> None:
    assert SHOP.key not in repr(SHOP)
    assert SHOP.secret not in f"{SHOP}"
