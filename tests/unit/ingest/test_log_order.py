"""Which of two facts counts that no clock of their source orders: the one that the log took later,
however they are read.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import structs
from schemas.orders import Movement, Storefront
from services.ingest import vendors
from services.ingest.rules import facts
from services.ingest.rules.decide import CallbackOutcome, KnownOrder, decide_batch
from services.ingest.rules.facts import Fact
from services.runtime.loop.dead_letters import original_record, replay_output
from services.runtime.ports import ReplayRequest
from services.runtime.records import Record
from tests.support.callbacks import native, native_order, record, woo_order
from tests.support.vendors import VENDORS
from tests.support.vendors.stripe import event, stripe_object
from tests.support.vendors.vendor import Sample

PARTITIONS_BEFORE = 8


class SentCallback(NamedTuple):
    """One sending: of which kind, with which quantity, and how long after the last one the log took
    it.
    """

    kind: str  # "updated", "deleted", "restored"
    quantity: int
    after_ms: int


def appended(sent: Sequence[SentCallback], *, grows_at: int = 10**9) -> list[Record]:
    """As they stand in the log. From the `grows_at`-th on the topic has more partitions, and the
    order another one.
    """
    records, ms = list[Record](), 1_795_188_600_000
    for place, step in enumerate(sent):
        ms += step.after_ms
        partition, offset = (
            (3, 500 + place) if place < grows_at else (PARTITIONS_BEFORE + 3, place - grows_at)
        )
        body = {"id": 727} if step.kind == "deleted" else quantity_of(step.quantity)
        callback_type = {"updated": "order.updated"}.get(step.kind, f"order.{step.kind}")
        callback = record(
            json.dumps(body).encode(), callback_type=callback_type, reception_id=f"r-{place}"
        )
        records.append(callback._replace(partition=partition, offset=offset, timestamp_ms=ms))
    return records


def quantity_of(quantity: int) -> dict[str, object]:
    """An edited line, without a move of `date_modified`, as WooCommerce's posts store writes it."""
    (first, *_) = woo_order()["line_items"]
    return woo_order(line_items=[{**first, "quantity": quantity}])


def known(records: Sequence[Record], *, size: int = 1_000) -> dict[str, Fact]:
    order, seen = KnownOrder("shop:727", 1, 0, None, {}, frozenset()), list[tuple[str, bytes]]()
    callbacks = [vendors.parse(record) for record in records]
    for at in range(0, len(callbacks), size):
        batch = [callback._replace(payments=()) for callback in callbacks[at : at + size]]
        order = decide_batch(batch, {order.order_id: order}, seen=seen).orders[order.order_id]
        seen += [(callback.key, callback.content_hash) for callback in batch]
    return dict(order.facts)


def quantity(facts_: dict[str, Fact]) -> int:
    return structs.decode(Storefront, facts_["storefront"].content).lines[0].quantity


sendings = st.lists(
    st.builds(
        SentCallback,
        st.sampled_from(["updated", "deleted", "restored"]),
        st.integers(1, 3),
        st.sampled_from([0, 0, 1, 700]),
    ),
    min_size=1,
    max_size=7,
)


@given(sendings, st.integers(0, 7), st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_last_in_the_log_wins_in_whatever_order_and_batches_it_is_read(
    sent: list[SentCallback], grows: int, size: int, rng: random.Random
) -> None:
    """A new partition takes over in a later millisecond: until producers know of it, nothing is
    written there.
    """
    if grows < len(sent):
        sent[grows] = sent[grows]._replace(after_ms=1)
    records = appended(sent, grows_at=grows)
    expected = known(records)
    bodies = [step.quantity for step in sent if step.kind != "deleted"]
    if bodies:
        assert quantity(expected) == bodies[-1]
    trashed = [step.kind == "deleted" for step in sent if step.kind != "updated"]
    if trashed:
        assert (expected["deletion"].content == b"true") is trashed[-1]
    shuffled = rng.sample(records * 2, 2 * len(records))
    assert known(shuffled, size=size) == expected


@pytest.mark.parametrize("steps", [(3, 2), (2, 3), (3, 2, 3), (1, 2, 1, 2)])
def test_a_line_that_was_edited_without_a_move_of_the_shops_clock_has_its_last_quantity(
    steps: tuple[int, ...],
) -> None:
    """A refund that is made and then deleted leads back to what was sent before: a copy counts by
    its own position.
    """
    records = appended([SentCallback("updated", quantity, 1) for quantity in steps])
    assert quantity(known(records)) == quantity(known(records[::-1])) == steps[-1]


def test_a_replay_counts_where_its_record_first_stood() -> None:
    first, last = appended([SentCallback("updated", 3, 0), SentCallback("updated", 2, 5)])
    output = replay_output("stubline.ingest.replay.v1", ReplayRequest(UUID(int=7), first))
    raw = Record(
        output.topic,
        0,
        99,
        last.timestamp_ms + 60_000,
        output.key,
        output.value,
        list(output.headers),
    )
    replayed = original_record(raw)
    assert vendors.parse(replayed) == vendors.parse(first)
    assert quantity(known([last, replayed])) == 2


def test_a_greater_rank_counts_before_the_place_in_the_log() -> None:
    """Deliveries of one second overtake each other; and an old body that is sent again lifts no
    cancellation.
    """
    cancelled, completed = (
        record(woo_order(status=status), offset=at)
        for at, status in enumerate(("cancelled", "completed"))
    )
    for sent in ((cancelled, completed), (completed, cancelled)):
        assert structs.decode(Storefront, known(sent)["storefront"].content).status == "cancelled"


@pytest.mark.parametrize("totals", [(1500, 900), (900, 1500)])
def test_a_storefronts_own_order_and_one_that_was_read_tie_by_the_log_too(
    totals: tuple[int, int],
) -> None:
    own = [
        native(native_order(total_minor=total), reception_id=f"e-{at}", offset=at)
        for at, total in enumerate(totals)
    ]
    for sent in (own, own[::-1]):
        assert (
            structs.decode(Storefront, known(sent)["storefront"].content).total_minor == totals[-1]
        )


def test_a_version_that_an_earlier_release_wrote_is_the_older_one_of_a_tie() -> None:
    """It ended with its hash, which could be greater than every position."""
    (update,) = appended([SentCallback("updated", 2, 0)])
    fact = vendors.parse(update).facts[0]
    before = "/".join(fact.version.split("/")[:2]) + f"/{'f' * 64}"
    assert before < fact.version
    assert fact.version[-64:] == hashlib.sha256(fact.content).hexdigest() == fact.digest


def test_a_copy_that_comes_later_is_a_duplicate_and_counts_from_there() -> None:
    first, copy, between = appended(
        [
            SentCallback("updated", 3, 0),
            SentCallback("updated", 3, 9),
            SentCallback("updated", 2, 0),
        ]
    )
    between = between._replace(offset=first.offset + 1, timestamp_ms=first.timestamp_ms + 1)
    order = KnownOrder("shop:727", 1, 0, None, {}, frozenset())
    outcomes = [CallbackOutcome.APPLIED, CallbackOutcome.DUPLICATE, CallbackOutcome.SUPERSEDED]
    callbacks = [vendors.parse(piece)._replace(payments=()) for piece in (first, copy, between)]
    assert decide_batch(callbacks, {order.order_id: order}, seen=[]).outcomes == outcomes


@pytest.mark.parametrize("less", [100, 300, 500, 700, 900, 1100])
@pytest.mark.parametrize("later_first", [True, False])
def test_of_two_sums_of_one_second_the_greater_counts_whichever_is_received_last(
    later_first: bool, less: int
) -> None:
    """Stripe sends an object as it was at its event, for days: its position in the log means
    nothing.
    """
    bodies = [
        event(
            "charge.captured",
            stripe_object("charge", captured=True, amount_captured=amount),
            id=f"evt_{amount}",
        )
        for amount in (less, 1500)
    ]
    records = [VENDORS["stripe"].record(Sample(json.dumps(body).encode())) for body in bodies]
    movements = [
        fact
        for piece in (records[::-1] if later_first else records)
        for fact in vendors.parse(piece).movements
    ]
    (known_,) = facts.merge_facts({}, movements).values()
    assert structs.decode(Movement, known_.content).amount_minor == 1500


def test_positions_sort_as_text_as_the_log_does() -> None:
    places = [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (1, 0, 0),
        (1_795_188_600_000, 9, 3),
        (1_795_188_600_000, 10, 3),
    ]
    texts = [facts.log_position(*place) for place in places]
    assert texts == sorted(texts)
    assert (
        facts.log_position(-1, 5, 0)
        == facts.log_position(10**18, 5, 0)
        == facts.log_position(0, 5, 0)
    )
