"""The same callback again: nothing happens twice."""

from __future__ import annotations

import pytest

from tests.support.stubline import Stubline


@pytest.mark.feature("SF-014")
@pytest.mark.parametrize("at_once", [False, True], ids=["one after the other", "at once"])
@pytest.mark.parametrize("times", [2, 5, 100])
def test_a_callback_sent_many_times_issues_its_tickets_once(
    stubline: Stubline, times: int, at_once: bool
) -> None:
    order = stubline.paid_order(quantity=3)
    stubline.send_callback(order, times=times, at_once=at_once)
    stubline.settle()
    assert len(stubline.tickets_of(order)) == 3
    assert len(stubline.mails_to(order)) == 1
    assert stubline.conservation_gap() == 0


@pytest.mark.feature("SF-014")
@pytest.mark.parametrize("victim", ["ingest", "approval", "issuer", "delivery", "sender-1"])
def test_a_callback_repeated_across_a_kill_issues_its_tickets_once(
    stubline: Stubline, victim: str
) -> None:
    orders = [stubline.paid_order(quantity=2) for _ in range(20)]
    for number, order in enumerate(orders):
        stubline.send_callback(order)
        if number == len(orders) // 2:
            stubline.services.programs[victim].stop(immediate=True)
    for order in orders:
        stubline.send_callback(order)
    stubline.services.programs[victim].start()
    stubline.settle()
    assert [len(stubline.tickets_of(order)) for order in orders] == [2] * 20
    mails = [{str(mail["Message-ID"]) for mail in stubline.mails_to(order)} for order in orders]
    assert [len(names) for names in mails] == [1] * 20
    assert stubline.conservation_gap() == 0
