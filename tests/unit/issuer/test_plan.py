"""What decisions get: keyed by order, line and ordinal, whatever comes and however often."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas.orders import DecidedLine, OrderDecided, Person, TicketsChanged
from schemas.serialized import SerializedSnapshot, content_digest
from services.issuer.rules.plan import (
    TICKET_IDS,
    IssuePlan,
    LockedCampaign,
    PlanInputs,
    PlannedTicket,
    plan,
    ticket_id,
)
from services.issuer.rules.snapshot import body_of

NOW = datetime(2027, 3, 20, 19, 30, tzinfo=UTC)
BUYER = Person(name="Ada", email="ada@example.org")


def campaign(name: str = "raffle", *, next_index: int = 0, **content: Any) -> LockedCampaign:
    said = {
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
    return LockedCampaign(name, 1, said | content, b"k" * 32, next_index)


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


class World:
    """Campaigns and tickets as a database would keep them."""

    def __init__(
        self, *campaigns: LockedCampaign, products: dict[tuple[str, str, str], str] | None = None
    ) -> None:
        self.campaigns = {it.campaign_id: it for it in campaigns}
        self.products = {("shop", "sku", "RFL"): "raffle"} if products is None else products
        self.held: dict[str, list[PlannedTicket]] = {}
        self.codes = (f"{number:026d}" for number in itertools.count())

    def tell(self, *decisions: OrderDecided) -> IssuePlan:
        for it in self.campaigns.values():
            it.first_index = it.next_index
        made = plan(
            decisions, self.held, PlanInputs(self.campaigns, self.products, self.codes, NOW)
        )
        self.held |= made.held
        return made

    def numbers(self, order: str = "shop:1", status: str = "Active") -> list[str | None]:
        return [ticket.number for ticket in self.held[order] if ticket.status == status]

    def body(self, decision: OrderDecided, made: IssuePlan) -> TicketsChanged:
        body = body_of(
            decision, made.held[decision.key], made.waiting[decision.key], self.campaigns
        )
        output = SerializedSnapshot(TicketsChanged, "issuer", decision.key, 1, 1, body).encode(
            time="2027-03-20T19:30:00Z"
        )
        said = TicketsChanged.read(output.headers, output.value)
        assert content_digest(body) == content_digest(
            body_of(decision, made.held[decision.key], made.waiting[decision.key], self.campaigns)
        )
        return said


@pytest.mark.feature("SF-041", "SF-158")
def test_tickets_are_numbered_in_the_order_in_which_orders_stand() -> None:
    world = World(campaign())
    world.tell(decided(2, order="shop:2"), decided(1, order="shop:1"))
    assert (world.numbers("shop:2"), world.numbers("shop:1")) == (["R-0001", "R-0002"], ["R-0003"])


@pytest.mark.feature("SF-044", "SF-156")
@pytest.mark.parametrize("mode", ["sequential", "shuffled"])
def test_the_starting_number_is_the_lowest_that_is_issued(mode: str) -> None:
    world = World(campaign(mode=mode, start=500, capacity=20, prefix=""))
    world.tell(decided(20))
    assert min(int(number or 0) for number in world.numbers()) == 500
    assert max(int(number or 0) for number in world.numbers()) == 519


@pytest.mark.feature("SF-069")
def test_a_decision_that_is_worked_again_issues_nothing_more() -> None:
    world = World(campaign())
    world.tell(decided(3))
    again = world.tell(decided(3))
    assert (again.issued, again.changes) == ([], [])


def test_a_quantity_raised_issues_only_what_is_new() -> None:
    world = World(campaign())
    world.tell(decided(2))
    world.tell(decided(1, order="shop:2"))
    made = world.tell(decided(3))
    assert [ticket.ordinal for ticket in made.issued] == [3]
    assert world.numbers() == ["R-0001", "R-0002", "R-0004"]


def test_a_quantity_lowered_cancels_the_highest_ordinals_and_keeps_their_numbers() -> None:
    world = World(campaign())
    world.tell(decided(3))
    world.tell(decided(1))
    assert world.numbers() == ["R-0001"]
    assert world.numbers(status="Cancelled") == ["R-0002", "R-0003"]


@pytest.mark.feature("SF-065", "SF-066", "SF-067", "SF-069")
def test_a_cancelled_order_gets_the_same_numbers_back() -> None:
    world = World(campaign())
    before = world.tell(decided(2)).issued
    world.tell(decided(0))
    assert world.numbers(status="Cancelled") == ["R-0001", "R-0002"]
    world.tell(decided(1, order="shop:2"))
    made = world.tell(decided(2))
    assert (made.issued, world.numbers()) == ([], ["R-0001", "R-0002"])
    assert world.held["shop:1"] == before
    assert world.numbers("shop:2") == ["R-0003"], "a number that was issued is never given again"


def test_a_line_that_is_gone_is_cancelled() -> None:
    world = World(campaign())
    world.tell(orders([("1", "RFL", 1, ""), ("2", "RFL", 1, "")]))
    world.tell(orders([("2", "RFL", 1, "")]))
    assert (world.numbers(), world.numbers(status="Cancelled")) == (["R-0002"], ["R-0001"])


def test_a_won_ticket_stays_won_whatever_its_order_does() -> None:
    world = World(campaign())
    world.tell(decided(1))
    world.held["shop:1"] = [world.held["shop:1"][0]._replace(status="Won")]
    assert world.tell(decided(0)).changes == []


def test_what_is_beyond_the_capacity_is_sold_out_and_said_once() -> None:
    world = World(campaign(capacity=3))
    first = decided(5)
    made = world.tell(first)
    assert world.numbers() == ["R-0001", "R-0002", "R-0003"]
    assert [(it.quantity, it.reason) for it in world.body(first, made).unissued] == [
        (2, "sold_out")
    ]
    again = world.tell(first)
    assert again.issued == []
    assert world.body(first, again) == world.body(first, made)
    world.campaigns["raffle"].content = {**world.campaigns["raffle"].content, "capacity": 9}
    assert world.tell(first).issued == [], "its refund is due: the seat is not given after all"


def test_sold_out_ordinals_beyond_the_quantity_are_not_owed() -> None:
    world = World(campaign(capacity=1))
    world.tell(decided(3))
    lower = decided(2)
    assert [it.quantity for it in world.body(lower, world.tell(lower)).unissued] == [1]
    none = decided(0)
    assert world.body(none, world.tell(none)).unissued == ()


def test_a_line_without_a_campaign_waits_and_a_closed_campaign_keeps_it_waiting() -> None:
    world = World(campaign(status="closed"))
    order = orders([("1", "RFL", 2, ""), ("2", "SHIRT", 1, "9")])
    made = world.tell(order)
    assert [(it.line_id, it.reason, it.quantity) for it in made.waiting["shop:1"]] == [
        ("1", "campaign_closed", 2),
        ("2", "no_campaign", 1),
    ]
    world.campaigns["raffle"] = campaign()
    world.products["shop", "product_id", "9"] = "raffle"
    made = world.tell(order)
    assert (world.numbers(), made.waiting["shop:1"]) == (["R-0001", "R-0002", "R-0003"], [])


@pytest.mark.feature("SF-139")
def test_the_same_number_may_stand_in_two_campaigns() -> None:
    products = {("shop", "sku", "RFL"): "raffle", ("shop", "sku", "DRAW"): "draw"}
    world = World(campaign(), campaign("draw"), products=products)
    world.tell(orders([("1", "RFL", 1, ""), ("2", "DRAW", 1, "")]))
    assert [(it.campaign_id, it.number) for it in world.held["shop:1"]] == [
        ("raffle", "R-0001"),
        ("draw", "R-0001"),
    ]


def test_the_products_id_goes_before_its_sku() -> None:
    products = {("shop", "sku", "RFL"): "raffle", ("shop", "product_id", "7"): "draw"}
    world = World(campaign(), campaign("draw"), products=products)
    world.tell(decided(1))
    assert [ticket.campaign_id for ticket in world.held["shop:1"]] == ["draw"]


def test_the_variations_id_goes_before_its_products() -> None:
    """A product whose variations have no SKUs of their own: the line has the product's id and SKU,
    whichever was bought.
    """
    products = {("shop", "product_id", "7"): "raffle", ("shop", "variation_id", "17"): "draw"}
    world = World(campaign(), campaign("draw"), products=products)
    (line,) = decided(1).lines
    lines = [
        line.model_copy(update={"line_id": str(at), "variation_id": it})
        for at, it in enumerate(["17", "18", ""])
    ]
    world.tell(decided(1).model_copy(update={"lines": tuple(lines)}))
    assert [(it.line_id, it.campaign_id) for it in world.held["shop:1"]] == [
        ("0", "draw"),
        ("1", "raffle"),
        ("2", "raffle"),
    ]


def test_another_shops_product_of_the_same_name_is_another_product() -> None:
    world = World(campaign(), products={("other", "sku", "RFL"): "raffle"})
    assert world.tell(decided(1)).issued == []


def test_a_line_told_twice_counts_with_both_quantities() -> None:
    world = World(campaign())
    world.tell(orders([("1", "RFL", 1, ""), ("1", "RFL", 2, "")]))
    assert len(world.numbers()) == 3


def test_a_corrected_buyer_is_the_holder_of_the_tickets_that_there_are() -> None:
    world = World(campaign())
    world.tell(decided(1))
    made = world.tell(
        orders([("1", "RFL", 1, "7")], buyer=Person(name="Bo", email="bo@example.org"))
    )
    assert [(it.before, it.ticket.holder_email) for it in made.changes] == [
        (None, "bo@example.org")
    ]


def test_an_order_says_its_campaigns_language_and_nothing_new_when_there_is_none() -> None:
    """A key more would be news of every order at once."""
    world = World(campaign(language="fr"))
    assert [it.language for it in world.body(decided(1), world.tell(decided(1))).campaigns] == [
        "fr"
    ]
    assert b"language" not in bytes(orjson.dumps(campaign().said))
    assert orjson.dumps(campaign(language="").said) == orjson.dumps(campaign().said)


@pytest.mark.feature("SF-033", "SF-034", "SF-036", "SF-140")
def test_the_snapshot_reads_back_with_all_that_a_reader_needs() -> None:
    world = World(campaign())
    order = decided(2)
    said = world.body(order, world.tell(order))
    assert [ticket.number for ticket in said.tickets] == ["R-0001", "R-0002"]
    assert {(it.campaign_id, it.name, it.zone, it.starts_at) for it in said.campaigns} == {
        ("raffle", "Spring Raffle", "Europe/Dublin", "19:30")
    }
    assert {(it.status, it.holder, it.issued_at, it.campaign_id) for it in said.tickets} == {
        ("Active", BUYER, NOW, "raffle")
    }
    assert str(said.tickets[0].ticket_id) == ticket_id("shop:1", "1", 1)
    cancelled = decided(0)
    after = world.body(cancelled, world.tell(cancelled))
    assert [(it.status, it.issued_at, it.number) for it in after.tickets] == [
        ("Cancelled", NOW, "R-0001"),
        ("Cancelled", NOW, "R-0002"),
    ]


@given(
    some.text(min_size=1, max_size=9), some.text(min_size=1, max_size=9), some.integers(1, 2_000)
)
def test_a_tickets_id_is_a_uuid5_of_its_ordinal(order: str, line: str, ordinal: int) -> None:
    name = f"{len(order)}:{order}/{len(line)}:{line}/{ordinal}"
    assert ticket_id(order, line, ordinal) == str(uuid.uuid5(uuid.UUID(bytes=TICKET_IDS), name))


def test_no_two_ordinals_spell_the_same_id() -> None:
    assert ticket_id("shop:a/b", "1", 1) != ticket_id("shop:a", "b/1", 1)


tellings = some.lists(
    some.tuples(some.sampled_from(["shop:1", "shop:2", "shop:3"]), some.integers(0, 6)), max_size=12
)


@given(tellings, some.sampled_from(["sequential", "shuffled"]), some.integers(1, 15))
@pytest.mark.feature("SF-071", "SF-160", "SF-167")
def test_whatever_is_told_no_number_is_given_twice_and_each_order_has_what_was_last_decided(
    told: list[tuple[str, int]], mode: str, capacity: int
) -> None:
    world = World(campaign(mode=mode, capacity=capacity))
    ever: dict[tuple[str, int], str | None] = {}
    for order, quantity in told:
        world.tell(decided(quantity, order=order))
        for ticket in itertools.chain.from_iterable(world.held.values()):
            key = (ticket.order_id, ticket.ordinal)
            assert ever.setdefault(key, ticket.number) == ticket.number, "a number is for ever"
    given_out = Counter(number for number in ever.values() if number)
    assert all(count == 1 for count in given_out.values())
    assert len(given_out) <= capacity
    last = dict(told)
    for order, quantity in last.items():
        rows = world.held[order]
        active = [ticket for ticket in rows if ticket.status == "Active"]
        sold_out = [ticket for ticket in rows if ticket.reason and ticket.ordinal <= quantity]
        assert len(active) + len(sold_out) == quantity, (
            "no paid ordinal without a ticket or a reason"
        )
        assert all(ticket.ordinal <= quantity for ticket in active), (
            "no active ticket that was not decided"
        )


@given(tellings)
@pytest.mark.feature("SF-158")
def test_sequential_numbers_have_no_gap(told: list[tuple[str, int]]) -> None:
    world = World(campaign())
    for order, quantity in told:
        world.tell(decided(quantity, order=order))
    places = sorted(ticket.place or 0 for rows in world.held.values() for ticket in rows)
    assert places == list(range(len(places)))
    assert world.campaigns["raffle"].next_index == len(places)
