"""Which orders look alike: one buyer, the same total and lines, whatever else differs."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest

from schemas.orders import Line, Person
from services.approval.lookalikes import LookalikeKey, lookalike_key
from tests.support.stages import DAWN, observed

LINES = (
    Line(line_id="1", product_id="7", quantity=2),
    Line(line_id="2", product_id="", sku="DRAW", quantity=1),
    Line(line_id="3", product_id="9", quantity=0),
)


def key_of(order: str = "1", *history: str, **more: Any) -> LookalikeKey:
    fields: dict[str, Any] = {
        "buyer": Person(name="Ada", email="ada@example.org"),
        "lines": LINES,
        **more,
    }
    key = lookalike_key(observed(order, *(history or ("pending", "processing")), **fields))
    assert key is not None
    return key


@pytest.mark.feature("SF-021")
def test_orders_of_one_buyer_with_one_total_and_the_same_lines_are_lookalikes() -> None:
    others = {
        "another number, status and time": key_of("2", "completed", number="9"),
        "the address in capitals, another name": key_of(
            buyer=Person(name="A.", email="ADA@Example.org")
        ),
        "other ids of lines": key_of(
            lines=tuple(msgspec.structs.replace(line, line_id=f"x{line.line_id}") for line in LINES)
        ),
        "lines of nothing": key_of(lines=LINES[:2]),
    }
    assert {
        name for name, other in others.items() if other.fingerprint != key_of().fingerprint
    } == set()


@pytest.mark.feature("SF-021")
def test_another_buyer_total_product_or_quantity_is_another_fingerprint() -> None:
    fingerprints = {
        key.fingerprint
        for key in (
            key_of(),
            key_of(buyer=Person(name="Ada", email="eve@example.org")),
            key_of(buyer=Person(name="Ada")),
            key_of(buyer=Person(name="Eve")),
            key_of(total_minor=101),
            key_of(currency="USD"),
            key_of(lines=LINES[:1]),
            key_of(lines=(msgspec.structs.replace(LINES[0], quantity=3), *LINES[1:])),
        )
    }
    assert len(fingerprints) == 8


def test_a_fingerprint_does_not_depend_on_the_order_of_lines() -> None:
    assert len({key_of(lines=lines).fingerprint for lines in permutations(LINES)}) == 1


def test_an_order_was_placed_at_the_earliest_time_that_its_shop_reported() -> None:
    assert key_of().placed_at == DAWN
    assert key_of(paid_at=DAWN - timedelta(hours=1)).placed_at == DAWN - timedelta(hours=1)
    assert key_of(paid_at=DAWN + timedelta(hours=1)).placed_at == DAWN
    assert key_of(placed_at=DAWN - timedelta(hours=2), paid_at=DAWN).placed_at == DAWN - timedelta(
        hours=2
    )


def test_an_order_without_a_buyer_or_lines_has_no_lookalikes() -> None:
    assert lookalike_key(observed("1", is_deleted=True)) is None
    assert lookalike_key(observed("1", "pending", buyer=Person())) is None
    assert lookalike_key(observed("1", "pending", lines=LINES[2:])) is None


def test_a_fingerprint_does_not_contain_the_buyer() -> None:
    assert len(key_of().fingerprint) == 32
    assert b"ada" not in key_of().fingerprint
