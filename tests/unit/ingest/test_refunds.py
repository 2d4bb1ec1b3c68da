"""What came back of a payment is one amount, however Stripe reports it: refunds by name, their
total, or both, in any version.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import structs
from schemas.orders import Movement
from services.ingest import vendors
from services.ingest.rules.facts import ParsedCallback, merge_facts
from services.ingest.rules.refunds import movements
from tests.support.vendors import VENDORS
from tests.support.vendors.stripe import CREATED, event, stripe_object
from tests.support.vendors.vendor import Sample

# API versions: charge.refunded names refunds; it has only their sum; there is refund.created.
NAMING, SUMMING, NOW = "2020-08-27", "2024-06-20", "2025-09-30.clover"
CH, LET_GO = "ch_0000000000000000", "re_letgo"


class Refund(NamedTuple):
    amount: int
    fails: bool
    is_reported_by_name: bool  # by its name too


def parse(kind: str, data_object: dict[str, Any], second: int, version: str) -> ParsedCallback:
    body = event(
        kind,
        data_object,
        id=f"evt_{kind}_{second}_{data_object['id']}",
        created=CREATED + second,
        api_version=version,
    )
    return vendors.parse(VENDORS["stripe"].record(Sample(json.dumps(body).encode())))


def refund(name: str, amount: int, status: str = "succeeded") -> dict[str, Any]:
    return stripe_object("refund", id=name, amount=amount, status=status)


def summed(
    minor: int, second: int, version: str, *, taken: int = 1500, **changes: object
) -> ParsedCallback:
    refunded_charge = stripe_object(
        "charge", amount_captured=taken, amount_refunded=minor, refunded=False, **changes
    )
    return parse("charge.refunded", refunded_charge, second, version)


def shown(callbacks: Sequence[ParsedCallback]) -> list[Movement]:
    known = merge_facts({}, [fact for callback in callbacks for fact in callback.movements])
    return [structs.decode(Movement, movement) for movement in movements(known)]


def came_back(callbacks: Sequence[ParsedCallback]) -> int:
    return sum(
        movement.amount_minor or 0
        for movement in shown(callbacks)
        if movement.kind == "refund" and movement.state != "failed"
    )


def history(
    refunds: Sequence[Refund], version: str, let_go: int, *, is_release_reported: bool
) -> list[ParsedCallback]:
    """A charge of 1500, captured without what is let go, and what Stripe sends of its refunds."""
    events, counted, listed = list[ParsedCallback](), let_go, list[dict[str, Any]]()
    if let_go:
        listed.append(refund(LET_GO, let_go))
        events.append(summed(let_go, 0, version, taken=1500 - let_go, **names(listed, version)))
        if is_release_reported:
            events.append(parse("charge.refund.updated", refund(LET_GO, let_go), 1, version))
    for place, step in enumerate(refunds):
        name, begin = f"re_{place}", 10 + 10 * place
        listed.append(refund(name, step.amount))
        counted += step.amount
        events.append(
            summed(counted, begin, version, taken=1500 - let_go, **names(listed, version))
        )
        if step.is_reported_by_name:
            events.append(parse("charge.refund.updated", listed[-1], begin, version))
        if step.fails:
            counted -= step.amount
            listed[-1] = refund(name, step.amount, "failed")
            events.append(parse("charge.refund.updated", listed[-1], begin + 5, version))
    return events


def names(listed: list[dict[str, Any]], version: str) -> dict[str, Any]:
    return (
        {"refunds": {"data": [dict(refund_body) for refund_body in listed]}}
        if version == NAMING
        else {}
    )


@given(
    refunds=st.lists(
        st.builds(Refund, st.sampled_from([100, 250, 500]), st.booleans(), st.booleans()),
        max_size=4,
    ),
    version=st.sampled_from([NAMING, SUMMING, NOW]),
    let_go=st.sampled_from([0, 250, 500]),
    is_release_reported=st.booleans(),
    rng=st.randoms(use_true_random=False),
)
def test_what_came_back_is_one_amount_whether_names_or_totals_are_reported(
    refunds: list[Refund], version: str, let_go: int, is_release_reported: bool, rng: Any
) -> None:
    let_go = 0 if version == NOW else let_go
    events = history(refunds, version, let_go, is_release_reported=is_release_reported)
    sent = rng.sample(events + events, 2 * len(events))
    assert came_back(sent) == sum(refund.amount for refund in refunds if not refund.fails)


@pytest.mark.parametrize("version", [SUMMING, NOW])
def test_a_sum_alone_is_a_refund_named_by_its_charge(version: str) -> None:
    # in one second: the greater sum came later
    sums = [summed(minor, 10, version) for minor in range(100, 751, 50)]
    (movement,) = shown(sums)
    assert (movement.kind, movement.reference, movement.payment, movement.state) == (
        "refund",
        CH,
        "pi_0000000000000000",
        "done",
    )
    assert (movement.amount_minor, movement.currency, movement.detail) == (
        750,
        "EUR",
        "without a name",
    )


def test_a_sum_is_not_counted_beside_the_refunds_that_make_it() -> None:
    one = parse("refund.created", stripe_object("refund"), 10, NOW)
    assert [movement.reference for movement in shown([one, summed(500, 10, NOW)])] == [
        "re_0000000000000001"
    ]
    (named, remainder) = sorted(
        shown([one, summed(750, 20, NOW)]), key=lambda movement: movement.reference, reverse=True
    )
    assert (named.amount_minor, remainder.amount_minor, remainder.reference) == (500, 250, CH)


@pytest.mark.parametrize("version", [NAMING, SUMMING])
def test_an_authorisation_that_was_canceled_brings_nothing_back(version: str) -> None:
    """Until 2025-03-31 Stripe reports it as refunded, with a refund of its own."""
    release = refund(LET_GO, 1500)
    sums = summed(1500, 0, version, captured=False, **names([release], version))
    for callbacks in ([sums], [sums, parse("charge.refund.updated", release, 1, version)]):
        assert came_back(callbacks) == 0
        assert [(movement.kind, movement.state) for movement in shown(callbacks)] == [
            ("authorisation", "undone")
        ]


def test_a_charge_that_expired_brings_nothing_back() -> None:
    refund_body = {**refund(LET_GO, 1500), "reason": "expired_uncaptured_charge"}
    callback = parse("refund.created", refund_body, 0, SUMMING)
    assert callback.movements == ()
    assert callback.payments


def test_of_a_total_only_isos_minor_units_are_published() -> None:
    (movement,) = shown([summed(1500, 10, NOW, currency="isk")])
    assert (movement.amount_minor, movement.currency) == (15, "ISK")
