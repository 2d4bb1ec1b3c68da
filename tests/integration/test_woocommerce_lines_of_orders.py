"""Lines as real shops have them: bundles, products that were deleted, lines that are added to an
order later.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_woocommerce import shop_record, through
from tests.support.stack import Databases
from tests.support.stages import Stages, opened, raffle
from tests.support.vendors.woocommerce import line


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[Stages]:
    with databases.new() as url, opened(url) as opened_stages:
        opened_stages.apply(raffle(skus=["RFL-SPRING"]))
        yield opened_stages


def test_a_bundle_issues_the_tickets_of_its_parts_though_they_cost_nothing_by_themselves(
    shared: Stages,
) -> None:
    """WooCommerce's Product Bundles: the container has the price, its parts are lines with a total
    of zero.
    """
    container = line(1, ("_bundled_items", ["a"]), product_id=50, sku="BUNDLE", total="30.00")
    part = line(2, ("_bundled_by", "a"), quantity=3, total="0.00", subtotal="0.00", price=0)
    (event,) = through(shared, shop_record("completed", order=801, line_items=[container, part]))
    assert [ticket.line_id for ticket in event.tickets] == ["2", "2", "2"]
    assert [(line.line_id, line.reason) for line in event.unissued] == [("1", "no_campaign")]


def test_a_line_whose_product_was_deleted_costs_the_others_nothing(shared: Stages) -> None:
    deleted = line(1, product_id=0, variation_id=0, sku="", name="")
    (event,) = through(
        shared, shop_record("completed", order=802, line_items=[deleted, line(2, quantity=2)])
    )
    assert [ticket.line_id for ticket in event.tickets] == ["2", "2"]
    assert [(line.line_id, line.reason) for line in event.unissued] == [("1", "no_campaign")]


def test_a_line_that_is_added_after_completion_gets_its_tickets_and_the_others_keep_theirs(
    shared: Stages,
) -> None:
    (first,) = through(shared, shop_record("completed", order=803, line_items=[line(1)]))
    (second,) = through(
        shared, shop_record("completed", 1, order=803, line_items=[line(1), line(2, quantity=2)])
    )
    assert [ticket.line_id for ticket in second.tickets] == ["1", "2", "2"]
    assert second.tickets[0].number == first.tickets[0].number
    assert len({ticket.number for ticket in second.tickets}) == 3
