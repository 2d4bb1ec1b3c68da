"""An order of Ticket Evolution as its API shows it, and the fraud gate that no trigger opens."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from schemas.envelope import NotAnEvent
from schemas.fraud import FraudSignals, FraudVerdict
from schemas.orders import OrderObserved, Storefront
from services.approval.rules import PAYMENT_COMPLETE, decide, policy_of, prepare
from services.ingest import vendors
from services.ingest.rules.decide import CallbackOutcome, KnownOrder, decide_batch
from services.ingest.rules.facts import ParsedCallback
from services.ingest.worker import fraud_signals, order_observed
from services.runtime.errors import Poison
from tests.support.vendors.ticketevolution import ORDER, order, record

CLIENT = {"type": "Client", "id": 7}
OFFICE = {"type": "Office", "id": 8}
TEVO = {"type": "Office", "id": 6}
POLICIES = [
    prepare(policy_of(words))
    for words in (["accepted"], ["completed"], ["accepted", "completed"], [PAYMENT_COMPLETE])
]
TWO_STATUSES = POLICIES[2]


class IngestedOrder(NamedTuple):
    """What ingest ends with."""

    outcomes: list[CallbackOutcome]
    order: KnownOrder

    @property
    def observed(self) -> OrderObserved:
        output = order_observed(self.order, sorted(self.order.facts)).encode(
            time="2026-11-20T15:30:00Z"
        )
        return OrderObserved.read(output.headers, output.value)

    @property
    def front(self) -> Storefront:
        front = self.observed.storefront
        assert front is not None
        return front

    @property
    def verdict(self) -> FraudVerdict | None:
        output = fraud_signals(self.order).encode(time="2026-11-20T15:30:00Z")
        return FraudSignals.read(output.headers, output.value).verdicts.get("tevo")

    def state(self, policy: int = 2) -> str:
        return decide(self.observed, POLICIES[policy]).state


def known(*callbacks: ParsedCallback) -> IngestedOrder:
    decided = decide_batch(
        callbacks,
        {"tevo:10324712": KnownOrder("tevo:10324712", 1, 0, None, {}, frozenset())},
        seen=[],
    )
    return IngestedOrder(decided.outcomes, decided.orders["tevo:10324712"]._replace(sequence=1))


def read(**changes: Any) -> ParsedCallback:
    return vendors.parse(record(order(**changes)))


def at(
    second: int, state: str = "accepted", word: str | None = None, buyer: Any = CLIENT
) -> ParsedCallback:
    return read(
        updated_at=f"2026-11-20T15:00:{second:02d}Z",
        seller_state=state,
        fraud_check_status=word,
        buyer=buyer,
    )


def test_an_order_is_published_with_its_lines_in_our_own_keys() -> None:
    front = known(
        read(fraud_check_status="approved", seller_state="accepted", refunded="4.50")
    ).front
    assert (front.status, front.number, front.currency) == ("accepted", "4606857-10324712", "USD")
    assert (front.total_minor, front.refunded_minor) == (5_400, 450)
    assert (front.buyer.name, front.buyer.email) == ("A. Buyer", "a.buyer@example.org")
    assert front.paid_at is not None
    assert front.placed_at == datetime(2026, 11, 20, 14, 40, 1, tzinfo=UTC)
    malformed: list[Any] = [None, 7, "soon", "2026-11-20T14:40:01", {}]
    assert [known(read(created_at=text)).front.placed_at for text in malformed] == [None] * 5
    (line,) = front.lines
    assert (line.line_id, line.product_id, line.sku) == ("120145", "58222", "915177")
    assert (line.name, line.quantity, line.total_minor) == ("Home at Away, 113, A", 2, 5_400)


def test_each_item_shows_whether_it_is_delivered_as_a_file() -> None:
    items = [
        {"id": 1, "quantity": 1, "price": "2.5"},
        {"id": 2, "quantity": 3, "price": "2.5", "eticket_delivery": False},
    ]
    front = known(read(items=[*ORDER["items"], *items], total="99.0", currency="CAD")).front
    assert [line.is_eticket for line in front.lines] == [True, None, False]
    assert [line.total_minor for line in front.lines] == [5_400, 250, 750]
    assert (front.currency, front.total_minor) == ("CAD", 9_900)


@pytest.mark.feature("SF-192", "SF-193")
@pytest.mark.parametrize(
    ("buyer", "channel"),
    [
        (TEVO, "tevo"),
        ({"type": "Office", "id": "6"}, "tevo"),
        (OFFICE, "office"),
        (CLIENT, "client"),
        ({"type": "Client", "id": 6}, "client"),
        ({"type": "Robot", "id": 6}, "client"),
        ({}, "client"),
    ],
)
def test_the_buyer_is_published(buyer: dict[str, Any], channel: str) -> None:
    assert known(read(buyer=buyer)).front.channel == channel


@pytest.mark.parametrize("buyer", [TEVO, OFFICE])
@pytest.mark.parametrize("word", [None, "approved", "pending", "declined", "not_known_yet"])
def test_the_fraud_word_of_an_offices_order_has_no_effect(
    buyer: dict[str, Any], word: str | None
) -> None:
    callback = at(1, word=word, buyer=buyer)
    assert callback.drift == ()
    assert known(callback).front.status == "accepted"
    assert known(callback).state() == "released"
    assert known(callback).verdict is None
    bare = {
        name: value for name, value in order(buyer=buyer).items() if name != "fraud_check_status"
    }
    assert known(vendors.parse(record(bare))).front.status == "pending"


@pytest.mark.feature("SF-197", "SF-198")
@pytest.mark.parametrize(
    ("word", "status", "state", "verdict"),
    [
        (None, "accepted", "released", "unchecked"),
        ("approved", "accepted", "released", "approved"),
        (" Approved", "accepted", "released", "approved"),
        ("pending", "fraud-pending", "observed", "pending"),
        ("declined", "cancelled", "cancelled", "declined"),
        ("escalated", "fraud-unknown", "observed", "pending"),
        ("", "fraud-unknown", "observed", "pending"),
    ],
)
def test_a_clients_order_passes_only_unchecked_or_approved(
    word: str | None, status: str, state: str, verdict: str
) -> None:
    callback = at(1, word=word)
    end = known(callback)
    assert (end.front.status, end.state()) == (status, state)
    assert (end.front.paid_at is None) == (state != "released")
    assert end.verdict is not None
    assert (end.verdict.verdict, end.verdict.source) == (verdict, "tevo")
    assert [drift_notice.kind for drift_notice in callback.drift] == (
        ["unknown-status"] if status == "fraud-unknown" else []
    )


def test_a_clients_order_without_the_fraud_word_is_no_fact_and_is_read_once() -> None:
    """A list may leave it out. Missing is not null."""
    bare = {name: value for name, value in ORDER.items() if name != "fraud_check_status"}
    callback = vendors.parse(record(bare))
    assert (callback.order_id, callback.facts, callback.orders_to_fetch) == (
        None,
        (),
        ("tevo:10324712",),
    )
    assert callback.drift[0].kind == "missing-field"
    assert known(callback, callback, read()).outcomes == [
        CallbackOutcome.APPLIED,
        CallbackOutcome.DUPLICATE,
        CallbackOutcome.APPLIED,
    ]


@pytest.mark.parametrize(
    "state",
    [
        "rejected",
        "Canceled",
        "canceled_open",
        "canceled_post_acceptance",
        "canceled_by_x",
        "pending_substitution",
    ],
)
def test_what_the_seller_will_not_deliver_is_cancelled(state: str) -> None:
    end = known(at(1), at(2, state))
    assert (end.front.status, end.state()) == ("cancelled", "cancelled")
    assert known(at(1), at(2, state), at(3)).state() == "released"


@pytest.mark.parametrize(
    "policy", [0, 2, 3], ids=["accepted", "accepted or completed", "payment complete"]
)
@pytest.mark.parametrize("buyer", [TEVO, CLIENT], ids=["office", "client"])
def test_a_proposal_to_cancel_takes_nothing_back_and_releases_nothing(
    policy: int, buyer: dict[str, Any]
) -> None:
    """Whatever was reported after it was accepted, until the other side agrees or the fraud check
    objects.
    """
    assert known(at(1, "cancel_proposed", buyer=buyer)).state(policy) == "observed"
    for state in ("cancel_proposed", "pending_consignment", "teleported"):
        callback = [at(1, buyer=buyer), at(2, state, buyer=buyer)]
        assert known(*callback).state(policy) == known(*callback[::-1]).state(policy) == "released"
        assert (
            known(*callback, at(3, "canceled_post_acceptance", buyer=buyer)).state(policy)
            == "cancelled"
        )
    held = [at(1), at(2, "cancel_proposed", word="pending"), at(3, "cancel_proposed")]
    assert known(*held[:2]).state(policy) == known(*held).state(policy) == "observed"


def test_a_line_without_any_price_is_free_and_reported() -> None:
    for name in ("price", "cost"):
        items = [{**item, "price": None, "cost": None, name: "12.50"} for item in ORDER["items"]]
        assert read(items=items, buyer=TEVO).drift == ()
    bare = [
        {name: value for name, value in item.items() if name not in {"price", "cost"}}
        for item in ORDER["items"]
    ]
    (drift_notice,) = read(items=bare, buyer=TEVO).drift
    assert (drift_notice.kind, drift_notice.cause) == ("missing-field", "items.price")


def test_an_unknown_state_is_reported() -> None:
    (drift_notice,) = read(seller_state="Teleported", buyer=TEVO).drift
    assert (drift_notice.kind, drift_notice.cause, drift_notice.is_kept) == (
        "unknown-status",
        "seller_state 'teleported'",
        False,
    )


@pytest.mark.feature("SF-199")
def test_the_newest_fraud_word_decides_and_late_old_ones_are_ignored() -> None:
    history = [
        at(1, "pending", "pending"),
        at(2, "pending", "approved"),
        at(3, "accepted", "declined"),
        at(4, "accepted", "approved"),
    ]
    ends = ["fraud-pending", "pending", "cancelled", "accepted"]
    for upto in range(1, 5):
        for _ in range(10):
            shuffled = random.sample(history[:upto], upto)
            end = known(*shuffled)
            assert end.front.status == ends[upto - 1]
            assert end.verdict is not None
            assert end.verdict.at.second == upto
    # An older state that was not known is applied once.
    late = known(at(4), at(1, word="pending"), at(1, word="pending"))
    assert late.outcomes == [
        CallbackOutcome.APPLIED,
        CallbackOutcome.APPLIED,
        CallbackOutcome.DUPLICATE,
    ]


def test_an_order_under_review_again_is_not_released_for_having_been_accepted() -> None:
    for policy in range(len(POLICIES)):
        assert known(at(1), at(2, word="pending")).state(policy) == "observed"
        assert known(at(1, "completed"), at(2, word="escalated")).state(policy) == "observed"
    assert known(at(1), at(2, word="pending"), at(3, word="approved")).state() == "released"
    assert (
        known(at(1), at(2, word="pending"), at(3, "cancel_proposed", "approved")).state()
        == "observed"
    )


def test_of_two_words_in_one_second_the_one_that_closes_counts() -> None:
    for first, second in (
        ("approved", "pending"),
        ("approved", "declined"),
        (None, "escalated"),
        ("pending", "declined"),
    ):
        ends = [
            known(at(1, "completed", first), at(1, "completed", second)),
            known(at(1, "completed", second), at(1, "completed", first)),
        ]
        assert ends[0].order.facts == ends[1].order.facts
        assert {end.state(policy) for end in ends for policy in range(len(POLICIES))} <= {
            "observed",
            "cancelled",
        }
        assert {end.verdict and end.verdict.verdict for end in ends} <= {"pending", "declined"}


WORDS = some.sampled_from([None, "approved", "pending", "declined", "escalated"])
STATES = some.sampled_from(
    ["pending", "accepted", "completed", "cancel_proposed", "canceled", "rejected", "open"]
)
HISTORY = some.lists(some.tuples(some.integers(0, 9), STATES, WORDS), min_size=1, max_size=8)


@pytest.mark.feature("SF-199")
@given(history=HISTORY, rng=some.randoms(use_true_random=False))
def test_a_clients_order_whose_last_word_is_not_good_is_never_released(
    history: Sequence[tuple[int, str, str | None]], rng: random.Random
) -> None:
    """However it came there, in whatever order that was received, under any policy."""
    callback = [at(*step) for step in history]
    end = known(*rng.sample(callback + callback, 2 * len(callback)))
    last = max(second for second, _, _ in history)
    closing = [
        step
        for step in history
        if step[0] == last
        and (step[2] not in {None, "approved"} or step[1] in {"canceled", "rejected"})
    ]
    for policy in range(len(POLICIES)):
        if closing:
            assert end.state(policy) != "released"
    ends = {step[1:] for step in history if step[0] == last}
    if not closing and {state for state, _ in ends} <= {"accepted", "completed"}:
        assert end.state() == "released"


def test_what_did_not_change_adds_nothing() -> None:
    """The poll finds it again in other bytes."""
    sorted_ = vendors.parse(record(json.dumps(order(), sort_keys=True, indent=1).encode()))
    assert known(read(), sorted_).outcomes == [CallbackOutcome.APPLIED, CallbackOutcome.DUPLICATE]
    assert (sorted_.key, sorted_.content_hash) == (read().key, read().content_hash)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"items": [{"id": 1, "quantity": 1, "cost": "0.001"}]}, {"unreadable-amount"}),
        ({"currency": "XTS"}, {"unknown-currency"}),
        ({"currency": "dollars"}, {"unknown-currency"}),
        ({"refunded": "a-secret"}, {"unreadable-amount"}),
        ({"total": "9" * 39}, {"unreadable-amount"}),
        ({"items": {"2": ORDER["items"][0]}}, set()),
    ],
)
def test_an_amount_that_cannot_be_counted_costs_no_order(
    change: dict[str, Any], kinds: set[str]
) -> None:
    callback = read(**change)
    assert {fact.name for fact in callback.facts} >= {"storefront"}
    assert {drift_notice.kind for drift_notice in callback.drift} == kinds


@pytest.mark.parametrize(
    "change",
    [
        {"id": "x"},
        {"updated_at": None},
        {"updated_at": "2026-11-20T14:40:04"},
        {"updated_at": "9999-11-20T14:40:04Z"},
        {"seller_state": None},
        {"seller_state": "\x00"},
        {"buyer": None},
        {"items": None},
        {"items": [ORDER["items"][0]] * 2},
        {"items": [{"id": 1, "quantity": -1}]},
    ],
)
def test_what_is_malformed_has_a_stated_reason(change: dict[str, Any]) -> None:
    with pytest.raises(Poison) as raised:
        vendors.parse(record({**ORDER, **change}, order="10324712"))
    assert "a-secret" not in str(raised.value)


VALUES: list[Any] = [
    "",
    None,
    [],
    {},
    True,
    -1,
    1e300,
    "NaN",
    10**20,
    "\u202e",
    "x",
    "x" * 50_000,
    [[]] * 50,
    {"type": {}},
]


def places(value: Any) -> list[tuple[Any, Any]]:
    keys: list[Any] = (
        list(value)
        if isinstance(value, dict)
        else list(range(len(value)))
        if isinstance(value, list)
        else []
    )
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@settings(max_examples=100)
@given(rng=some.randoms(use_true_random=False))
def test_every_response_ends_in_one_outcome_with_a_stated_reason(rng: random.Random) -> None:
    for _ in range(100):
        document = json.loads(json.dumps(ORDER))
        for _ in range(rng.randint(1, 4)):
            container, key = rng.choice(places(document))
            container[key] = copy.deepcopy(rng.choice(VALUES))
        callback = ends(document)
        if callback is not None and callback.order_id == "tevo:10324712":
            assert known(callback).front.status


def ends(document: dict[str, Any]) -> ParsedCallback | None:
    try:
        return vendors.parse(record(document, order="10324712"))
    except (NotAnEvent, Poison) as error:
        reason = str(error)
    assert reason.strip()
    return None
