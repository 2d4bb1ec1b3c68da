"""Laws of paid tickets that cannot be issued: all refunds that are due are shown, in tickets and in
money.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.local.roles import as_role
from schemas.orders import OrderObserved
from services.console import cli
from services.ingest import vendors
from services.ingest import worker as ingest
from tests.support.callbacks import record, woo_order
from tests.support.stages import Stages, opened, outputs_of, raffle

AT = "2026-11-20T15:00:{:02d}"


@pytest.fixture
def stages(database_url: str) -> Iterator[Stages]:
    with opened(database_url) as stages:
        yield stages


@pytest.fixture
def stubline(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that runs the command as operators do and returns what it prints."""
    monkeypatch.setenv("DATABASE_URL", as_role(database_url, "operator"))
    # No command of this module needs the broker.
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> str:
        assert cli.run(arguments) == 0
        return capsys.readouterr().out

    return run


def line(number: int, quantity: int, total: str, sku: str = "RFL-SPRING") -> dict[str, Any]:
    return {
        "id": number,
        "name": "Raffle",
        "product_id": 93,
        "sku": sku,
        "quantity": quantity,
        "total": total,
        "meta_data": [],
    }


def place(
    stages: Stages, *lines: dict[str, Any], second: int = 0, status: str = "completed"
) -> None:
    """Send an order of the shop through ingest, approval and issuer, as it is in that second."""
    at = AT.format(second)
    body = woo_order(
        id=727,
        number="727",
        status=status,
        date_created_gmt=at,
        date_modified_gmt=at,
        line_items=list(lines),
    )
    with stages.session.transaction():
        update = record(body, order="727", callback_type="order.updated", at=f"{at}.000000Z")
        outcomes = ingest.handle([vendors.parse(update)], stages.session)
    stages.work(
        *[OrderObserved.read(output.headers, output.value) for output in outputs_of(outcomes)]
    )


def test_the_tickets_beyond_the_limit_of_an_order_are_shown_with_their_money(
    stages: Stages, stubline: Callable[..., str]
) -> None:
    """A paid order of 1,000,000 tickets gets 2,000, and refunds of the others are due."""
    stages.apply(raffle(skus=["RFL-SPRING"]))
    place(stages, line(1, 1_000_000, "5000000.00"))
    shown = json.loads(stubline("orders", "show", "shop:727", "--json"))
    assert (shown["state"], len(shown["tickets"]), shown["refund_due_tickets"]) == (
        "released",
        2_000,
        998_000,
    )
    assert shown["refund_due"] == [
        {
            "line_id": "1",
            "reason": "over_order_limit",
            "tickets": 998_000,
            "amount_minor": 499_000_000,
            "currency": "EUR",
        }
    ]
    assert "refund due: 998000 tickets, 499000000 EUR in minor units" in stubline(
        "orders", "show", "shop:727"
    )
    (listed,) = json.loads(stubline("orders", "list", "--refund-due", "--json"))
    assert (listed["order_id"], listed["refund_due_tickets"]) == ("shop:727", 998_000)
    assert "998000" in stubline("orders", "list")


def test_refunds_of_sold_out_tickets_are_due_too_and_a_line_has_its_own_share(
    stages: Stages, stubline: Callable[..., str]
) -> None:
    stages.apply(
        raffle(skus=["RFL-SPRING"], capacity=3),
        raffle(id="draw", name="Draw", skus=["DRAW"], prefix="D-"),
    )
    place(stages, line(1, 5, "10.01"), line(2, 1_998, "1998.00", "DRAW"))
    shown = json.loads(stubline("orders", "show", "shop:727", "--json"))
    refunds = [
        (row["line_id"], row["reason"], row["tickets"], row["amount_minor"])
        for row in shown["refund_due"]
    ]
    assert refunds == [("1", "sold_out", 2, 401), ("2", "over_order_limit", 3, 300)]
    assert shown["refund_due_tickets"] == 5


def test_an_order_that_gets_all_tickets_or_is_cancelled_has_no_refund_due(
    stages: Stages, stubline: Callable[..., str]
) -> None:
    """The shop refunds an order that it has cancelled."""
    stages.apply(raffle(skus=["RFL-SPRING"], capacity=1))
    place(stages, line(1, 2, "10.00"))
    assert json.loads(stubline("orders", "list", "--refund-due", "--json"))
    place(stages, line(1, 2, "10.00"), second=1, status="cancelled")
    assert json.loads(stubline("orders", "list", "--refund-due", "--json")) == []
    shown = json.loads(stubline("orders", "show", "shop:727", "--json"))
    assert (shown["refund_due"], shown["refund_due_tickets"]) == ([], 0)
    assert "refund due" not in stubline("orders", "show", "shop:727")
