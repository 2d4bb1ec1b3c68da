"""Which orders look alike: one buyer, the same total and lines, whatever else differs."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest

from schemas.orders import Line, Person
from services.approval.lookalikes import OrderLook, order_look
from tests.support.stages import DAWN, observed

LINES = (
    Line(line_id="1", product_id="7", quantity=2),
    Line(line_id="2", product_id="", sku="DRAW", quantity=1),
    Line(line_id="3", product_id="9", quantity=0),
)


def look_of(order: str = "1", *history: str, **more: Any) -> OrderLook:
    fields: dict[str, Any] = {
        "buyer": Person(name="Ada", email="ada@example.org"),
        "lines": LINES,
        **more,
    }
    look = order_look(observed(order, *(history or ("pending", "processing")), **fields))
    assert look is not None
    return look


@pytest.mark.feature("SF-021")
def test_orders_of_one_buyer_with_one_total_and_the_same_lines_look_alike() -> None:
    others = {
        "another number, status and time": look_of("2", "completed", number="9"),
        "the address in capitals, another name": look_of(
            buyer=Person(name="A.", email="ADA@Example.org")
        ),
        "other ids of lines": look_of(
            lines=tuple(msgspec.structs.replace(line, line_id=f"x{line.line_id}") for line in LINES)
        ),
        "lines of nothing": look_of(lines=LINES[:2]),
    }
    assert {
        name for name, other in others.items() if other.fingerprint != look_of().fingerprint
    } == set()


@pytest.mark.feature("SF-021")
def test_another_buyer_total_product_or_quantity_is_another_look() -> None:
    looks = {
        look.fingerprint
        for look in (
            look_of(),
            look_of(buyer=Person(name="Ada", email="eve@example.org")),
            look_of(buyer=Person(name="Ada")),
            look_of(buyer=Person(name="Eve")),
            look_of(total_minor=101),
            look_of(currency="USD"),
            look_of(lines=LINES[:1]),
            look_of(lines=(msgspec.structs.replace(LINES[0], quantity=3), *LINES[1:])),
        )
    }
    assert len(looks) == 8


def test_a_look_does_not_depend_on_the_order_of_lines() -> None:
    assert len({look_of(lines=lines).fingerprint for lines in permutations(LINES)}) == 1


def test_an_order_was_placed_at_the_earliest_time_that_its_shop_reported() -> None:
    assert look_of().placed_at == DAWN
    assert look_of(paid_at=DAWN - timedelta(hours=1)).placed_at == DAWN - timedelta(hours=1)
    assert look_of(paid_at=DAWN + timedelta(hours=1)).placed_at == DAWN
    assert look_of(placed_at=DAWN - timedelta(hours=2), paid_at=DAWN).placed_at == DAWN - timedelta(
        hours=2
    )


def test_an_order_without_a_buyer_or_lines_looks_like_none() -> None:
    assert order_look(observed("1", is_deleted=True)) is None
    assert order_look(observed("1", "pending", buyer=Person())) is None
    assert order_look(observed("1", "pending", lines=LINES[2:])) is None


def test_a_fingerprint_does_not_contain_the_buyer() -> None:
    assert len(look_of().fingerprint) == 32
    assert b"ada" not in look_of().fingerprint
