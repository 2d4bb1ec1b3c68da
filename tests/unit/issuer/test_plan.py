"""The tickets of decisions: keyed by order, line and ordinal, in whatever order and however often
decisions come.
"""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas.envelope import Position
from schemas.orders import DecidedLine, OrderDecided, Person, TicketsChanged
from services.issuer.rules.plan import (
    TICKET_IDS,
    IssuePlan,
    LockedCampaign,
    PlanInputs,
    PlannedTicket,
    plan,
    ticket_id,
)
from services.issuer.rules.snapshot import tickets_changed

NOW = datetime(2027, 3, 20, 19, 30, tzinfo=UTC)
BUYER = Person(name="Ada", email="ada@example.org")


def campaign(name: str = "raffle", *, next_place: int = 0, **content: Any) -> LockedCampaign:
    defaults = {
        "name": "Spring Raffle",
        "mode": "sequential",
        "prefix": "R-",
        "padding": 4,
        "start": 1,
        "capacity": None,
        "status": "open",
        "date": "2027-03-20",
        "time": "19:30",
        "zone": "Europe/Dublin",
        "venue": "Hall",
        "design": "plain",
    }
    return LockedCampaign(name, 1, defaults | content, b"k" * 32, next_place)


def decided(
    quantity: int, *, order: str = "shop:1", line: str = "1", sku: str = "RFL", product: str = "7"
) -> OrderDecided:
    return orders([(line, sku, quantity, product)], order=order)


def orders(
    lines: Sequence[tuple[str, str, int, str]], *, order: str = "shop:1", buyer: Person = BUYER
) -> OrderDecided:
    return OrderDecided(
        key=order,
        generation=1,
        sequence=1,
        source="shop",
        external_id=order.partition(":")[2],
        state="released",
        buyer=buyer,
        lines=tuple(
            DecidedLine(
                line_id=line,
                product_id=product,
                sku=sku,
                name="Raffle",
                quantity=quantity,
                holder=buyer,
            )
            for line, sku, quantity, product in lines
        ),
    )


class Database:
    """Campaigns and tickets as a database would store them."""

    def __init__(
        self, *campaigns: LockedCampaign, products: dict[tuple[str, str, str], str] | None = None
    ) -> None:
        self.campaigns = {campaign.campaign_id: campaign for campaign in campaigns}
        self.products = {("shop", "sku", "RFL"): "raffle"} if products is None else products
        self.tickets: dict[str, list[PlannedTicket]] = {}
        self.codes = (f"{number:026d}" for number in itertools.count())

    def apply(self, *decisions: OrderDecided) -> IssuePlan:
        for locked in self.campaigns.values():
            locked.first_place = locked.next_place
        planned = plan(
            decisions, self.tickets, PlanInputs(self.campaigns, self.products, self.codes, NOW)
        )
        self.tickets |= planned.tickets
        return planned

    def numbers(self, order: str = "shop:1", status: str = "Active") -> list[str | None]:
        return [ticket.number for ticket in self.tickets[order] if ticket.status == status]

    def body(self, decision: OrderDecided, planned: IssuePlan) -> TicketsChanged:
        event = tickets_changed(decision, planned, self.campaigns, Position(1, 1))
        output = event.encode(time="2027-03-20T19:30:00Z")
        return TicketsChanged.read(output.headers, output.value)


@pytest.mark.feature("SF-041", "SF-158")
def test_tickets_are_numbered_in_the_order_of_the_batch() -> None:
    database = Database(campaign())
    database.apply(decided(2, order="shop:2"), decided(1, order="shop:1"))
    assert (database.numbers("shop:2"), database.numbers("shop:1")) == (
        ["R-0001", "R-0002"],
        ["R-0003"],
    )


@pytest.mark.feature("SF-044", "SF-156")
@pytest.mark.parametrize("mode", ["sequential", "shuffled"])
def test_the_starting_number_is_the_lowest_that_is_issued(mode: str) -> None:
    database = Database(campaign(mode=mode, start=500, capacity=20, prefix=""))
    database.apply(decided(20))
    assert min(int(number or 0) for number in database.numbers()) == 500
    assert max(int(number or 0) for number in database.numbers()) == 519


@pytest.mark.feature("SF-069")
def test_a_decision_that_is_worked_again_issues_nothing_more() -> None:
    database = Database(campaign())
    database.apply(decided(3))
    repeated = database.apply(decided(3))
    assert (repeated.issued, repeated.changes) == ([], [])


def test_a_quantity_raised_issues_only_what_is_new() -> None:
    database = Database(campaign())
    database.apply(decided(2))
    database.apply(decided(1, order="shop:2"))
    planned = database.apply(decided(3))
    assert [ticket.ordinal for ticket in planned.issued] == [3]
    assert database.numbers() == ["R-0001", "R-0002", "R-0004"]


def test_a_quantity_lowered_cancels_the_highest_ordinals_and_keeps_their_numbers() -> None:
    database = Database(campaign())
    database.apply(decided(3))
    database.apply(decided(1))
    assert database.numbers() == ["R-0001"]
    assert database.numbers(status="Cancelled") == ["R-0002", "R-0003"]


@pytest.mark.feature("SF-065", "SF-066", "SF-067", "SF-069")
def test_a_cancelled_order_gets_the_same_numbers_back() -> None:
    database = Database(campaign())
    before = database.apply(decided(2)).issued
    database.apply(decided(0))
    assert database.numbers(status="Cancelled") == ["R-0001", "R-0002"]
    database.apply(decided(1, order="shop:2"))
    planned = database.apply(decided(2))
    assert (planned.issued, database.numbers()) == ([], ["R-0001", "R-0002"])
    assert database.tickets["shop:1"] == before
    assert database.numbers("shop:2") == ["R-0003"], "a number that was issued is never given again"


def test_a_line_that_is_removed_is_cancelled() -> None:
    database = Database(campaign())
    database.apply(orders([("1", "RFL", 1, ""), ("2", "RFL", 1, "")]))
    database.apply(orders([("2", "RFL", 1, "")]))
    assert (database.numbers(), database.numbers(status="Cancelled")) == (["R-0002"], ["R-0001"])


def test_a_won_ticket_stays_won_whatever_its_order_does() -> None:
    database = Database(campaign())
    database.apply(decided(1))
    database.tickets["shop:1"] = [database.tickets["shop:1"][0]._replace(status="Won")]
    assert database.apply(decided(0)).changes == []


def test_ordinals_beyond_the_capacity_are_sold_out_and_stay_so() -> None:
    database = Database(campaign(capacity=3))
    first = decided(5)
    planned = database.apply(first)
    assert database.numbers() == ["R-0001", "R-0002", "R-0003"]
    assert [(line.quantity, line.reason) for line in database.body(first, planned).unissued] == [
        (2, "sold_out")
    ]
    repeated = database.apply(first)
    assert repeated.issued == []
    assert database.body(first, repeated) == database.body(first, planned)
    database.campaigns["raffle"].content = {**database.campaigns["raffle"].content, "capacity": 9}
    assert database.apply(first).issued == [], "its refund is due: the seat is not given after all"


def test_sold_out_ordinals_beyond_the_quantity_are_not_owed() -> None:
    database = Database(campaign(capacity=1))
    database.apply(decided(3))
    lower = decided(2)
    assert [line.quantity for line in database.body(lower, database.apply(lower)).unissued] == [1]
    none = decided(0)
    assert database.body(none, database.apply(none)).unissued == ()


def test_a_line_without_a_campaign_waits_and_a_closed_campaign_keeps_it_waiting() -> None:
    database = Database(campaign(status="closed"))
    order = orders([("1", "RFL", 2, ""), ("2", "SHIRT", 1, "9")])
    planned = database.apply(order)
    assert [(line.line_id, line.reason, line.quantity) for line in planned.waiting["shop:1"]] == [
        ("1", "campaign_closed", 2),
        ("2", "no_campaign", 1),
    ]
    database.campaigns["raffle"] = campaign()
    database.products["shop", "product_id", "9"] = "raffle"
    planned = database.apply(order)
    assert (database.numbers(), planned.waiting["shop:1"]) == (["R-0001", "R-0002", "R-0003"], [])


@pytest.mark.feature("SF-139")
def test_the_same_number_may_stand_in_two_campaigns() -> None:
    products = {("shop", "sku", "RFL"): "raffle", ("shop", "sku", "DRAW"): "draw"}
    database = Database(campaign(), campaign("draw"), products=products)
    database.apply(orders([("1", "RFL", 1, ""), ("2", "DRAW", 1, "")]))
    assert [(ticket.campaign_id, ticket.number) for ticket in database.tickets["shop:1"]] == [
        ("raffle", "R-0001"),
        ("draw", "R-0001"),
    ]


def test_the_products_id_goes_before_its_sku() -> None:
    products = {("shop", "sku", "RFL"): "raffle", ("shop", "product_id", "7"): "draw"}
    database = Database(campaign(), campaign("draw"), products=products)
    database.apply(decided(1))
    assert [ticket.campaign_id for ticket in database.tickets["shop:1"]] == ["draw"]


def test_the_variations_id_goes_before_its_products() -> None:
    """A product whose variations have no SKUs of their own: the line has the product's id and SKU,
    whichever was bought.
    """
    products = {("shop", "product_id", "7"): "raffle", ("shop", "variation_id", "17"): "draw"}
    database = Database(campaign(), campaign("draw"), products=products)
    (line,) = decided(1).lines
    lines = [
        msgspec.structs.replace(line, line_id=str(at), variation_id=variation_id)
        for at, variation_id in enumerate(["17", "18", ""])
    ]
    database.apply(msgspec.structs.replace(decided(1), lines=tuple(lines)))
    assert [(ticket.line_id, ticket.campaign_id) for ticket in database.tickets["shop:1"]] == [
        ("0", "draw"),
        ("1", "raffle"),
        ("2", "raffle"),
    ]


def test_another_shops_product_of_the_same_name_is_another_product() -> None:
    database = Database(campaign(), products={("other", "sku", "RFL"): "raffle"})
    assert database.apply(decided(1)).issued == []


def test_a_line_that_stands_twice_counts_with_both_quantities() -> None:
    database = Database(campaign())
    database.apply(orders([("1", "RFL", 1, ""), ("1", "RFL", 2, "")]))
    assert len(database.numbers()) == 3


def test_a_corrected_buyer_is_the_holder_of_the_tickets_that_there_are() -> None:
    database = Database(campaign())
    database.apply(decided(1))
    planned = database.apply(
        orders([("1", "RFL", 1, "7")], buyer=Person(name="Bo", email="bo@example.org"))
    )
    assert [(change.before, change.ticket.holder_email) for change in planned.changes] == [
        (None, "bo@example.org")
    ]


def test_a_snapshot_has_its_campaigns_language_and_no_such_key_when_there_is_none() -> None:
    """One more key would change the digest of every order at once."""
    database = Database(campaign(language="fr"))
    assert [
        campaign.language
        for campaign in database.body(decided(1), database.apply(decided(1))).campaigns
    ] == ["fr"]
    assert b"language" not in campaign().snapshot
    assert campaign(language="").snapshot == campaign().snapshot


@pytest.mark.feature("SF-033", "SF-034", "SF-036", "SF-140")
def test_the_snapshot_reads_back_with_all_that_a_reader_needs() -> None:
    database = Database(campaign())
    order = decided(2)
    snapshot = database.body(order, database.apply(order))
    assert [ticket.number for ticket in snapshot.tickets] == ["R-0001", "R-0002"]
    assert {
        (campaign.campaign_id, campaign.name, campaign.zone, campaign.starts_at)
        for campaign in snapshot.campaigns
    } == {("raffle", "Spring Raffle", "Europe/Dublin", "19:30")}
    assert {
        (ticket.status, ticket.holder, ticket.issued_at, ticket.campaign_id)
        for ticket in snapshot.tickets
    } == {("Active", BUYER, NOW, "raffle")}
    assert str(snapshot.tickets[0].ticket_id) == ticket_id("shop:1", "1", 1)
    cancelled = decided(0)
    after = database.body(cancelled, database.apply(cancelled))
    assert [(ticket.status, ticket.issued_at, ticket.number) for ticket in after.tickets] == [
        ("Cancelled", NOW, "R-0001"),
        ("Cancelled", NOW, "R-0002"),
    ]


@given(
    some.text(min_size=1, max_size=9), some.text(min_size=1, max_size=9), some.integers(1, 2_000)
)
def test_a_tickets_id_is_a_uuid5_of_its_ordinal(order: str, line: str, ordinal: int) -> None:
    name = f"{len(order)}:{order}/{len(line)}:{line}/{ordinal}"
    assert ticket_id(order, line, ordinal) == str(uuid.uuid5(uuid.UUID(bytes=TICKET_IDS), name))


def test_no_two_ordinals_share_an_id() -> None:
    assert ticket_id("shop:a/b", "1", 1) != ticket_id("shop:a", "b/1", 1)


decisions = some.lists(
    some.tuples(some.sampled_from(["shop:1", "shop:2", "shop:3"]), some.integers(0, 6)), max_size=12
)


@given(decisions, some.sampled_from(["sequential", "shuffled"]), some.integers(1, 15))
@pytest.mark.feature("SF-071", "SF-160", "SF-167")
def test_whatever_is_decided_no_number_is_given_twice_and_each_order_has_what_was_last_decided(
    history: list[tuple[str, int]], mode: str, capacity: int
) -> None:
    database = Database(campaign(mode=mode, capacity=capacity))
    ever: dict[tuple[str, int], str | None] = {}
    for order, quantity in history:
        database.apply(decided(quantity, order=order))
        for ticket in itertools.chain.from_iterable(database.tickets.values()):
            key = (ticket.order_id, ticket.ordinal)
            assert ever.setdefault(key, ticket.number) == ticket.number, (
                "a ticket keeps its number for ever"
            )
    given_out = Counter(number for number in ever.values() if number)
    assert all(count == 1 for count in given_out.values())
    assert len(given_out) <= capacity
    last = dict(history)
    for order, quantity in last.items():
        rows = database.tickets[order]
        active = [ticket for ticket in rows if ticket.status == "Active"]
        sold_out = [ticket for ticket in rows if ticket.reason and ticket.ordinal <= quantity]
        assert len(active) + len(sold_out) == quantity, (
            "no paid ordinal without a ticket or a reason"
        )
        assert all(ticket.ordinal <= quantity for ticket in active), (
            "no active ticket that was not decided"
        )


@given(decisions)
@pytest.mark.feature("SF-158")
def test_sequential_numbers_have_no_gap(history: list[tuple[str, int]]) -> None:
    database = Database(campaign())
    for order, quantity in history:
        database.apply(decided(quantity, order=order))
    places = sorted(ticket.place or 0 for rows in database.tickets.values() for ticket in rows)
    assert places == list(range(len(places)))
    assert database.campaigns["raffle"].next_place == len(places)
