"""An order is a function of the set of facts that were reported of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from schemas import structs
from schemas.orders import Movement, Person, Storefront
from schemas.text import rfc3339
from services.ingest.rules import facts as rules
from services.ingest.rules.decide import FACTS_MAX, CallbackOutcome, KnownOrder, decide_batch
from services.ingest.rules.facts import ParsedCallback

BEGIN = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
STATUSES = [
    "pending",
    "processing",
    "completed",
    "cancelled",
    "refunded",
    "failed",
    "trash",
    "vip-ok",
    "on-hold",
]


def unknown_order(order_id: str = "shop:1") -> KnownOrder:
    return KnownOrder(order_id, 1, 0, None, {}, frozenset())


def storefront(status: str = "completed", total: int = 100) -> Storefront:
    return Storefront(
        status=status, currency="EUR", total_minor=total, buyer=Person(name="Ada"), lines=()
    )


def callback(
    status: str = "completed", second: int = 0, total: int = 100, order_id: str = "shop:1"
) -> ParsedCallback:
    at = BEGIN + timedelta(seconds=second)
    facts = rules.storefront_facts(storefront(status, total), at)
    return rules.parsed_callback(f"{order_id} order.updated {second} {status}", order_id, facts)


def deleted(
    second: int = 0, *, is_deleted: bool = True, order_id: str = "shop:1"
) -> ParsedCallback:
    fact = rules.deletion_fact(rfc3339(BEGIN + timedelta(seconds=second)), is_deleted=is_deleted)
    return rules.parsed_callback(
        f"{order_id} {'deleted' if is_deleted else 'restored'}", order_id, (fact,)
    )


def decided(
    *callbacks: ParsedCallback, order: KnownOrder | None = None
) -> tuple[list[CallbackOutcome], KnownOrder]:
    begin = order or unknown_order()
    outcomes, after, _ = decide_batch(callbacks, {begin.order_id: begin}, seen=[])
    return outcomes, after[begin.order_id]


class DecidedOrder(NamedTuple):
    """What is known in the end, without incidents: those are about keys and contents and not about
    order.
    """

    facts: dict[str, rules.Fact]
    digest: bytes | None


def known(order: KnownOrder) -> DecidedOrder:
    return DecidedOrder(dict(order.facts), order.digest)


callbacks = st.one_of(
    st.builds(callback, st.sampled_from(STATUSES), st.integers(0, 3), st.integers(0, 2)),
    st.builds(deleted, st.integers(0, 3), is_deleted=st.booleans()),
)
tellings = st.lists(callbacks, min_size=1, max_size=8).flatmap(
    lambda sent: st.tuples(st.just(sent), st.permutations(sent + sent))
)


@given(tellings)
def test_an_order_ends_the_same_in_whatever_order_and_however_often_it_is_reported(
    pair: tuple[list[ParsedCallback], list[ParsedCallback]],
) -> None:
    once, shuffled = (decided(*sent)[1] for sent in pair)
    assert known(once) == known(shuffled)


@given(tellings, st.integers(1, 5))
def test_an_order_ends_the_same_however_its_callbacks_fall_into_batches(
    pair: tuple[list[ParsedCallback], list[ParsedCallback]], size: int
) -> None:
    order, seen = unknown_order(), list[tuple[str, bytes]]()
    for at in range(0, len(pair[1]), size):
        batch = pair[1][at : at + size]
        _, after, _ = decide_batch(batch, {order.order_id: order}, seen=seen)
        order = after[order.order_id]
        seen += [(callback.key, callback.content_hash) for callback in batch]
    at_once = decided(*pair[1])[1]
    assert known(order) == known(at_once)
    assert order.incidents == at_once.incidents


@given(st.lists(callbacks, min_size=1, max_size=8))
def test_a_batch_publishes_an_order_at_most_once_and_only_when_it_differs(
    sent: list[ParsedCallback],
) -> None:
    _, order = decided(*sent)
    assert order.sequence == 1
    _, replayed = decided(*sent, order=order)
    assert (replayed.sequence, replayed.digest) == (1, order.digest)


@given(st.lists(callbacks, min_size=1, max_size=8))
def test_what_was_reported_before_is_a_duplicate(sent: list[ParsedCallback]) -> None:
    _, order = decided(*sent)
    outcomes, _, _ = decide_batch(
        sent,
        {order.order_id: order},
        seen=[(callback.key, callback.content_hash) for callback in sent],
    )
    assert set(outcomes) == {CallbackOutcome.DUPLICATE}


def test_a_fact_that_arrives_late_changes_only_itself() -> None:
    _, order = decided(callback("completed", 5))
    outcomes, after = decided(callback("processing", 3), order=order)
    assert outcomes == [CallbackOutcome.APPLIED]  # that it was processing is news
    assert after.facts["storefront"] == order.facts["storefront"]
    outcomes, same = decided(callback("processing", 2, total=7), order=after)
    assert outcomes == [CallbackOutcome.SUPERSEDED]
    assert same is after


def test_the_same_deletion_has_an_effect_again_after_a_restoration() -> None:
    trash, restore, trashed_twice = deleted(1), deleted(2, is_deleted=False), deleted(3)
    assert trash.key == trashed_twice.key
    assert trash.content_hash == trashed_twice.content_hash
    outcomes, order = decided(trash, restore, trashed_twice)
    assert outcomes == [CallbackOutcome.APPLIED] * 3
    assert order.facts["deletion"].content == b"true"
    assert order.incidents == frozenset()


def test_an_update_never_lifts_a_trash() -> None:
    _, order = decided(deleted(1), callback("completed", 9))
    assert order.facts["deletion"].content == b"true"


def test_in_the_same_second_a_terminal_status_is_last() -> None:
    for early, late in (
        ("completed", "cancelled"),
        ("processing", "completed"),
        ("completed", "refunded"),
    ):
        for sent in (
            (callback(early, 1), callback(late, 1)),
            (callback(late, 1), callback(early, 1)),
        ):
            content = structs.decode(Storefront, decided(*sent)[1].facts["storefront"].content)
            assert content.status == late


def test_one_key_with_conflicting_content_is_an_incident_and_blocks_nothing() -> None:
    one, other = callback("completed", 1, total=1), callback("completed", 1, total=2)
    assert one.key == other.key
    outcomes, order = decided(one, other)
    assert order.incidents == {one.key}
    assert decided(other, one)[1].incidents == {one.key}
    assert CallbackOutcome.APPLIED in outcomes
    assert known(order) == known(decided(other, one)[1])


def test_one_key_with_equal_content_in_other_bytes_is_a_duplicate() -> None:
    outcomes, order = decided(callback(), callback())
    assert outcomes == [CallbackOutcome.APPLIED, CallbackOutcome.DUPLICATE]
    assert order.incidents == frozenset()


def test_a_newer_version_of_the_same_content_is_not_published() -> None:
    _, order = decided(deleted(1))
    outcomes, after = decided(deleted(2), order=order)
    assert outcomes == [CallbackOutcome.DUPLICATE]
    assert after.sequence == order.sequence
    assert after.facts["deletion"].version > order.facts["deletion"].version


def test_an_order_has_a_bounded_number_of_facts() -> None:
    _, order = decided(*(callback(f"status-{n}", n) for n in range(FACTS_MAX - 1)))
    assert len(order.facts) == FACTS_MAX
    outcomes, after = decided(callback("one-more", 0), callback("status-98", 98), order=order)
    assert outcomes == [CallbackOutcome.TOO_MANY_FACTS, CallbackOutcome.DUPLICATE]
    assert after is order


def test_versions_sort_as_text_as_their_times_do() -> None:
    times = [
        BEGIN,
        BEGIN + timedelta(microseconds=1),
        BEGIN + timedelta(seconds=1),
        BEGIN + timedelta(days=400),
    ]
    texts = [rfc3339(at) for at in times]
    assert texts == sorted(texts)
    assert len({len(text) for text in texts}) == 1


def test_what_gateways_report_costs_the_shop_none_of_its_facts() -> None:
    at = BEGIN + timedelta(seconds=1)
    movements = tuple(
        rules.movement_fact(
            Movement(
                gateway="pay",
                kind="refund",
                reference=f"re_{n}",
                payment="ch_1",
                state="done",
                at=at,
            )
        )
        for n in range(FACTS_MAX)
    )
    _, order = decided(callback("completed", 0))
    order = order._replace(facts={**order.facts, **{fact.name: fact for fact in movements}})
    outcomes, after = decided(deleted(5), order=order)
    assert outcomes == [CallbackOutcome.APPLIED]
    assert "deletion" in after.facts
