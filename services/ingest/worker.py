"""The worker: callbacks become facts, and facts become observations. Records are parsed one by one
and decided together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from schemas import structs
from schemas.callbacks import TOPIC
from schemas.envelope import Snapshot
from schemas.fraud import FraudSignals, FraudVerdict
from schemas.orders import Movement, OrderObserved, Storefront, order_of
from services.ingest import vendors
from services.ingest.errors import ProofReused, TooManyFacts
from services.ingest.metrics import (
    CALLBACK_WAIT,
    CONTENT_CONFLICTS,
    DRIFT_NOTICES,
    OBSERVATIONS,
    UNMATCHED_PAYMENTS,
)
from services.ingest.rules.decide import (
    FACTS_MAX,
    JOINED_FACTS_MAX,
    PAYMENT_FACTS_MAX,
    CallbackOutcome,
    DecidedBatch,
    KnownOrder,
    KnownPayment,
    changed_facts,
    decide_batch,
    is_verdict,
)
from services.ingest.rules.facts import (
    DELETION,
    IS_DELETED,
    REACHED,
    STOREFRONT,
    DriftNotice,
    ParsedCallback,
)
from services.ingest.rules.refunds import movements
from services.ingest.rules.verdicts import current_verdicts
from services.ingest.store import IngestStore
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Dead, Duplicate, Effect, Outcome, Superseded
from services.runtime.service import Service, Tick

GROUP = "stubline.ingest"
# equal lengths, so that they compare as texts
RECEIVED_TIME_CHARS = len("2026-11-20T15:30:00.000000Z")
WRITER, FRAUD_WRITER = "ingest", "ingest.fraud"
TOO_MANY_FACTS = (
    f"more than {FACTS_MAX} facts of an order itself, {PAYMENT_FACTS_MAX} of one payment, or "
    f"{JOINED_FACTS_MAX} of all its payments"
)


def handle(batch: Sequence[ParsedCallback], session: Session) -> list[Outcome]:
    """Decide a batch: one outcome for each parsed callback, in order.

    1. Lock the payments that are named, then the orders, then the proofs.
    2. Add the callbacks to the inbox, and decide them on what was known before.
    3. Save the payments and orders that changed.
    4. Save what came beside facts: order fetches, drift notices, kept callbacks.
    5. Return the outcomes. The first callback that changed an order carries its events.

    Three or four round trips for any size, two without changes; one to three more when payments are
    named, one for proofs, and one each for order fetches, drift notices and kept
    callbacks.
    """
    store = IngestStore(session)
    payments, orders = lock(batch, store)
    decided = decide_batch(batch, orders, store.add_callbacks(batch), payments)
    changed = [
        order
        for order in decided.orders.values()
        if order is not orders[order.order_id] and order.sequence
    ]
    save(store, changed, orders, decided.payments, payments)
    counts = save_side_effects(store, batch, decided.outcomes)
    snapshots = {
        order.order_id: snapshots_of(
            order, changed_facts(orders[order.order_id].facts, order.facts)
        )
        for order in changed
        if order.sequence != orders[order.order_id].sequence
    }
    counts |= {OBSERVATIONS.name: len(snapshots)} | counted(changed, orders, decided, payments)
    observe_wait(batch)
    outcomes = list(_outcomes(batch, decided.outcomes, snapshots, decided.payments))
    # The sums of the batch, on one outcome: the runtime adds up those of each record. It raises
    # counters after the commit: raised here they would count what may be rolled back.
    outcomes[0] = replace(outcomes[0], counts=counts)
    return outcomes


def lock(
    batch: Sequence[ParsedCallback], store: IngestStore
) -> tuple[dict[str, KnownPayment], dict[str, KnownOrder]]:
    """Lock what the batch may change, in the order in which all lanes do. Return what is known."""
    payments = _payments(batch, store)
    orders = store.lock_orders(_order_ids(batch, payments))
    if proofs := {callback.proof[0] for callback in batch if callback.proof is not None}:
        store.lock_proofs(sorted(proofs))
    return payments, orders


def counted(
    changed: Sequence[KnownOrder],
    orders: Mapping[str, KnownOrder],
    decided: DecidedBatch,
    payments: Mapping[str, KnownPayment],
) -> dict[str, int]:
    """Return how many content conflicts there were, and how many payments wait for an order."""
    return {
        CONTENT_CONFLICTS.name: sum(
            len(order.incidents) - len(orders[order.order_id].incidents) for order in changed
        ),
        UNMATCHED_PAYMENTS.name: sum(
            not payment.orders
            for payment in decided.payments.values()
            if not payments[payment.name].facts and payment.facts
        ),
    }


def observe_wait(batch: Sequence[ParsedCallback]) -> None:
    """Measure the wait of the oldest callback, by the endpoint's clock and this machine's. A batch
    that is tried again is measured again, because it has waited longer.
    """
    oldest = min(
        (callback.received for callback in batch if len(callback.received) == RECEIVED_TIME_CHARS),
        default="",
    )
    if oldest:
        with suppress(ValueError):
            CALLBACK_WAIT.observe(
                max(0.0, time.time() - datetime.fromisoformat(oldest).timestamp())
            )


def _payments(batch: Sequence[ParsedCallback], store: IngestStore) -> dict[str, KnownPayment]:
    names = {name for callback in batch for name in callback.payments}
    return store.lock_payments(sorted(names)) if names else {}


def _order_ids(batch: Sequence[ParsedCallback], payments: Mapping[str, KnownPayment]) -> list[str]:
    """Return the orders that the batch names, and those that name the same payments."""
    order_ids = {callback.order_id for callback in batch if callback.order_id is not None}
    return sorted(order_ids.union(*(payment.orders for payment in payments.values())))


def save(
    store: IngestStore,
    orders: Sequence[KnownOrder],
    before: Mapping[str, KnownOrder],
    payments: Mapping[str, KnownPayment],
    known: Mapping[str, KnownPayment],
) -> None:
    """Save what changed. Payments come first, as they are locked first."""
    changed = [payment for name, payment in payments.items() if payment is not known[name]]
    rows = {name for name, payment in known.items() if payment.orders or payment.facts}
    if new_payments := [payment for payment in changed if payment.name not in rows]:
        store.add_payments(new_payments)
    if known_payments := [payment for payment in changed if payment.name in rows]:
        store.save_payments(known_payments)
    if new_orders := [order for order in orders if not before[order.order_id].sequence]:
        store.add_orders(new_orders)
    if known_orders := [order for order in orders if before[order.order_id].sequence]:
        store.save_orders(known_orders)


def save_side_effects(
    store: IngestStore, batch: Sequence[ParsedCallback], outcomes: Sequence[CallbackOutcome]
) -> dict[str, int]:
    """Save what callbacks bring beside facts: order fetches, drift notices and kept callbacks.
    Return their counts.
    """
    applied = [
        callback
        for callback, outcome in zip(batch, outcomes, strict=True)
        if outcome is CallbackOutcome.APPLIED
    ]
    if orders_to_fetch := sorted(
        {order_id for callback in applied for order_id in callback.orders_to_fetch}
    ):
        store.request_order_fetches(orders_to_fetch)
    drift_counts, kept = dict[DriftNotice, tuple[int, str]](), dict[str, DriftNotice]()
    for callback in applied:
        for drift_notice in callback.drift:
            count, key = drift_counts.get(drift_notice, (0, callback.key))
            if drift_notice.is_reported:
                drift_counts[drift_notice] = count + 1, key
            if drift_notice.is_kept:
                kept[callback.key] = drift_notice
    if drift_counts:
        store.add_drift_notices(drift_counts)
    if kept:
        store.keep(kept)
    return {DRIFT_NOTICES.name: sum(count for count, _ in drift_counts.values())}


def snapshots_of(order: KnownOrder, new: Sequence[str]) -> tuple[Snapshot, ...]:
    """Return the order's events. Every sequence has an OrderObserved, so its readers miss none;
    FraudSignals comes beside it when a verdict changed.
    """
    return (
        (order_observed(order, new), fraud_signals(order))
        if any(map(is_verdict, new))
        else (order_observed(order, new),)
    )


def order_observed(order: KnownOrder, new: Sequence[str]) -> OrderObserved:
    """Return an OrderObserved with all that is known: a reader that missed one, or gets it twice or
    late, ends the same.
    """
    source, _, external_id = order.order_id.partition(":")
    facts = order.facts
    return OrderObserved(
        writer=WRITER,
        key=order.order_id,
        generation=order.generation,
        sequence=order.sequence,
        source=source,
        external_id=external_id,
        storefront=structs.raw(Storefront, facts[STOREFRONT].content)
        if STOREFRONT in facts
        else None,
        reached={
            name.removeprefix(REACHED): structs.raw(datetime, facts[name].content)
            for name in sorted(facts)
            if name.startswith(REACHED)
        },
        is_deleted=DELETION in facts and facts[DELETION].content == IS_DELETED,
        movements=tuple([structs.raw(Movement, content) for content in movements(facts)]),
        new=tuple(new),
    )


def fraud_signals(order: KnownOrder) -> FraudSignals:
    """Return FraudSignals with every verdict on the order."""
    source, _, external_id = order.order_id.partition(":")
    return FraudSignals(
        writer=FRAUD_WRITER,
        key=order.order_id,
        generation=order.generation,
        sequence=order.sequence,
        source=source,
        external_id=external_id,
        verdicts={
            name: structs.raw(FraudVerdict, content)
            for name, content in current_verdicts(order.facts)
        },
    )


def _outcomes(
    batch: Sequence[ParsedCallback],
    results: Sequence[CallbackOutcome],
    snapshots: dict[str, tuple[Snapshot, ...]],
    payments: Mapping[str, KnownPayment],
) -> Iterator[Outcome]:
    for callback, result in zip(batch, results, strict=True):
        match result:
            case CallbackOutcome.APPLIED:
                # The first callback that changed an order carries its events.
                yield Effect(
                    tuple(
                        event
                        for name in _changed_order_ids(callback, payments)
                        for event in snapshots.pop(name, ())
                    )
                )
            case CallbackOutcome.DUPLICATE:
                yield Duplicate()
            case CallbackOutcome.SUPERSEDED:
                yield Superseded()
            case CallbackOutcome.FORGED:
                yield Dead(
                    ProofReused("its signature has proven another body before, so it was copied"),
                    subject_key=callback.order_id,
                )
            case CallbackOutcome.TOO_MANY_FACTS:
                yield Dead(TooManyFacts(TOO_MANY_FACTS), subject_key=callback.order_id)


def _changed_order_ids(callback: ParsedCallback, payments: Mapping[str, KnownPayment]) -> list[str]:
    if not callback.payments:
        return [] if callback.order_id is None else [callback.order_id]
    named_orders = () if callback.order_id is None else (callback.order_id,)
    return sorted(
        {
            *named_orders,
            *(order_id for name in callback.payments for order_id in payments[name].orders),
        }
    )


def service(tick: Tick[Session] | None = None) -> Service[ParsedCallback, Session]:
    return Service(
        GROUP,
        (TOPIC,),
        parse=vendors.parse,
        handle=handle,
        tick=tick,
        subject=lambda record: order_of(record.key),
        broker_stamped=(TOPIC,),
    )


SERVICE = service()
