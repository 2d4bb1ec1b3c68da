"""When does an order get its tickets, and when does it lose them? See
docs/reference/features.md.
"""

from __future__ import annotations

import re

import pytest

from tests.support.stubline import Stubline

feature = pytest.mark.feature


@feature("SF-001", "SF-006", "SF-029", "SF-063")
def test_completed_is_the_trigger_without_a_setting(stubline: Stubline) -> None:
    order = stubline.order(RFL=2)
    stubline.report(order, "pending", "processing")
    stubline.settle()
    assert stubline.tickets_of(order) == []
    stubline.report(order, "completed")
    stubline.settle()
    assert len(stubline.tickets_of(order)) == 2
    assert len(stubline.mails_to(order)) == 1, "issuing alone leads to sending"


@feature("SF-002", "SF-003", "SF-004")
def test_a_status_of_the_shops_own_can_be_the_trigger(stubline: Stubline) -> None:
    """Configured as `wc-Approved`: prefix and capitals do not matter."""
    order = stubline.order("approved", RFL=1)
    stubline.report(order, "pending", "processing", "completed")
    stubline.settle()
    assert stubline.tickets_of(order) == []
    stubline.report(order, "approved")
    stubline.settle()
    assert len(stubline.tickets_of(order)) == 1


@feature("SF-025", "SF-026", "SF-030")
def test_payment_alone_is_enough_where_payment_is_the_trigger(stubline: Stubline) -> None:
    unpaid, paid = stubline.order("paid", RFL=1), stubline.order("paid", RFL=1)
    stubline.report(unpaid, "pending")
    stubline.report(paid, "pending", "processing")
    stubline.settle()
    assert (len(stubline.tickets_of(unpaid)), len(stubline.tickets_of(paid))) == (0, 1)


@feature("SF-027", "SF-064")
def test_processing_is_enough_where_processing_is_the_trigger(stubline: Stubline) -> None:
    held, moved, elsewhere = (
        stubline.order("processing"),
        stubline.order("processing"),
        stubline.order("shop"),
    )
    stubline.report(held, "pending", "on-hold")
    stubline.report(moved, "pending", "processing")
    stubline.report(elsewhere, "pending", "processing")
    stubline.settle()
    assert [len(stubline.tickets_of(order)) for order in (held, moved, elsewhere)] == [0, 1, 0]
    stubline.report(moved, "completed")
    stubline.settle()
    assert len(stubline.tickets_of(moved)) == 1, "completed after processing issues nothing more"


@feature("SF-028")
def test_processing_does_not_issue_where_completed_is_the_trigger(stubline: Stubline) -> None:
    order = stubline.order(RFL=1)
    stubline.report(order, "processing")
    stubline.settle()
    assert stubline.tickets_of(order) == []


@feature("SF-148", "SF-149", "SF-150", "SF-171")
@pytest.mark.parametrize(
    ("status", "tickets"),
    [
        ("pending", 0),
        ("on-hold", 0),
        ("failed", 0),
        ("cancelled", 0),
        ("processing", 1),
        ("deposit-paid", 1),
    ],
)
def test_the_set_of_paid_statuses_is_open(stubline: Stubline, status: str, tickets: int) -> None:
    order = stubline.order("any-paid", RFL=1)
    stubline.report(order, status)
    stubline.settle()
    assert len(stubline.tickets_of(order)) == tickets


@feature("SF-031", "SF-032")
@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_an_order_that_arrives_already_over_gets_nothing_and_older_callbacks_change_nothing(
    stubline: Stubline, status: str
) -> None:
    order = stubline.order(RFL=2)
    order.status = "completed"
    older = order.body
    stubline.report(order, status)
    stubline.post(order.source, "order.updated", older)
    stubline.settle()
    assert stubline.tickets_of(order) == []
    assert stubline.state_of(order) == "cancelled"


@feature("SF-065", "SF-066", "SF-067", "SF-069")
@pytest.mark.parametrize("over", ["cancelled", "refunded"])
def test_a_cancelled_order_that_is_restored_gets_the_same_numbers_again(
    stubline: Stubline, over: str
) -> None:
    order = stubline.order(RFL=2, DRAW=1)
    stubline.report(order, "completed")
    stubline.settle()
    before = {(t["line_id"], t["ordinal"]): t["number"] for t in stubline.tickets_of(order)}
    stubline.report(order, over)
    stubline.settle()
    assert stubline.tickets_of(order) == []
    assert len(stubline.tickets_of(order, status="Cancelled")) == len(before) == 3
    stubline.report(order, "completed")
    stubline.settle()
    assert {(t["line_id"], t["ordinal"]): t["number"] for t in stubline.tickets_of(order)} == before


@feature("SF-070", "SF-071")
def test_a_trashed_order_loses_its_tickets_each_time_it_is_trashed(stubline: Stubline) -> None:
    order = stubline.paid_order(2)
    stubline.report(order)
    stubline.settle()
    for _ in range(2):
        stubline.trash(order)
        stubline.settle()
        assert stubline.tickets_of(order) == []
        stubline.restore(order)
        stubline.settle()
        assert len(stubline.tickets_of(order)) == 2


def test_an_update_never_lifts_a_trash(stubline: Stubline) -> None:
    order = stubline.paid_order(1)
    stubline.report(order)
    stubline.trash(order)
    stubline.report(order, "completed")
    stubline.settle()
    assert stubline.tickets_of(order) == []


def test_a_quantity_that_is_raised_issues_what_is_missing(stubline: Stubline) -> None:
    order = stubline.paid_order(2)
    stubline.report(order)
    stubline.settle()
    before = stubline.tickets_of(order)
    stubline.change(order, quantity=3)
    stubline.report(order, "completed")
    stubline.settle()
    after = stubline.tickets_of(order)
    assert after[:2] == before
    assert len(after) == 3


@feature("SF-033", "SF-034", "SF-036", "SF-039", "SF-041")
def test_a_ticket_shows_what_it_is(stubline: Stubline) -> None:
    order = stubline.paid_order(3)
    stubline.report(order)
    stubline.settle()
    tickets = stubline.tickets_of(order)
    assert all(re.fullmatch(r"RFL-\d{4,}", ticket["number"]) for ticket in tickets)
    assert [ticket["campaign_id"] for ticket in tickets] == ["raffle"] * 3
    assert [ticket["order_id"] for ticket in tickets] == [order.order_id] * 3
    numbers = [int(ticket["number"].removeprefix("RFL-")) for ticket in tickets]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    (mail,) = stubline.mails_to(order)
    assert order.purchase.email in str(mail["To"])
