"""Callbacks become facts, facts become observations. Parsed alone, decided together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import orjson

from schemas.callbacks import TOPIC
from schemas.fraud import FraudSignals
from schemas.orders import OrderObserved, order_of
from schemas.said import SerializedSnapshot
from services.ingest import vendors
from services.ingest.errors import ProofReused, TooManyFacts
from services.ingest.metrics import (
    CALLBACK_WAIT,
    CONTENT_CONFLICTS,
    DRIFT_NOTICES,
    OBSERVATIONS,
    PAYMENTS_WAITING,
)
from services.ingest.rules.decide import (
    FACTS_MAX,
    JOINED_FACTS_MAX,
    PAYMENT_FACTS_MAX,
    CallbackOutcome,
    KnownOrder,
    KnownPayment,
    changed_facts,
    decide_batch,
    is_verdict,
)
from services.ingest.rules.facts import DELETION, REACHED, STOREFRONT, DriftNotice, ParsedCallback
from services.ingest.rules.refunds import movements
from services.ingest.rules.verdicts import current_verdicts
from services.ingest.store import IngestStore
from services.runtime.postgres.ledger import Session
from services.runtime.records import Dead, Duplicate, Effect, Outcome, Superseded
from services.runtime.service import Service, Tick

GROUP = "stubline.ingest"
RECEIVED_TIME_CHARS = len("2026-11-20T15:30:00.000000Z")  # so they compare as texts
WRITER, FRAUD_WRITER = "ingest", "ingest.fraud"
TOO_MANY_FACTS = (
    f"more than {FACTS_MAX} facts of an order itself, {PAYMENT_FACTS_MAX} of one payment, or "
    f"{JOINED_FACTS_MAX} of all its payments"
)


def handle(batch: Sequence[ParsedCallback], session: Session) -> list[Outcome]:
    """One outcome for each that parse let through, in order. Three or four round trips for any
    size, two without news; one to three more when payments are named, one for proofs, and one for
    each kind of thing that is put aside.
    """
    store = IngestStore(session)
    payments = _payments(batch, store)
    before = store.lock_orders(_order_ids(batch, payments))
    if proofs := {told.proof[0] for told in batch if told.proof is not None}:
        store.lock_proofs(sorted(proofs))
    verdicts, after, paid = decide_batch(batch, before, store.add_callbacks(batch), payments)
    changed = [
        order for order in after.values() if order is not before[order.order_id] and order.sequence
    ]
    save(
        store,
        changed,
        before,
        [it for it in paid.values() if it is not payments[it.name]],
        payments,
    )
    counts = save_side_effects(
        store,
        [
            told
            for told, verdict in zip(batch, verdicts, strict=True)
            if verdict is CallbackOutcome.APPLIED
        ],
    )
    unsaid = {
        order.order_id: snapshots_of(
            order, changed_facts(before[order.order_id].facts, order.facts)
        )
        for order in changed
        if order.sequence != before[order.order_id].sequence
    }
    # Raised by the runtime after the commit: a counter raised in here would count what may be
    # rolled back.
    counts |= {
        OBSERVATIONS.name: len(unsaid),
        CONTENT_CONFLICTS.name: sum(
            len(order.incidents) - len(before[order.order_id].incidents) for order in changed
        ),
        PAYMENTS_WAITING.name: sum(
            not it.orders for it in paid.values() if not payments[it.name].facts and it.facts
        ),
    }
    observe_wait(batch)
    outcomes = list(_outcomes(batch, verdicts, unsaid, paid))
    outcomes[0] = replace(
        outcomes[0], counts=counts
    )  # the batch's sums: one of each record would be added up one by one
    return outcomes


def observe_wait(batch: Sequence[ParsedCallback]) -> None:
    """By the door's clock and this machine's. A batch that is worked again is observed again: it
    has waited longer.
    """
    oldest = min(
        (it.received for it in batch if len(it.received) == RECEIVED_TIME_CHARS), default=""
    )
    if oldest:
        with suppress(ValueError):
            CALLBACK_WAIT.observe(
                max(0.0, time.time() - datetime.fromisoformat(oldest).timestamp())
            )


def _payments(batch: Sequence[ParsedCallback], store: IngestStore) -> dict[str, KnownPayment]:
    names = {name for told in batch for name in told.payments}
    return store.lock_payments(sorted(names)) if names else {}


def _order_ids(batch: Sequence[ParsedCallback], payments: Mapping[str, KnownPayment]) -> list[str]:
    """Those that are named, and those that name the same payments."""
    named = {told.order_id for told in batch if told.order_id is not None}
    return sorted(named.union(*(payment.orders for payment in payments.values())))


def save(
    store: IngestStore,
    orders: Sequence[KnownOrder],
    before: Mapping[str, KnownOrder],
    payments: Sequence[KnownPayment],
    known: Mapping[str, KnownPayment],
) -> None:
    """What changed. Payments first, as they are locked first."""
    if new := [it for it in payments if not known[it.name].orders and not known[it.name].facts]:
        store.add_payments(new)
    if old := [it for it in payments if known[it.name].orders or known[it.name].facts]:
        store.save_payments(old)
    if first := [order for order in orders if not before[order.order_id].sequence]:
        store.add_orders(first)
    if again := [order for order in orders if before[order.order_id].sequence]:
        store.save_orders(again)


def save_side_effects(store: IngestStore, applied: Sequence[ParsedCallback]) -> dict[str, int]:
    """What callbacks bring beside their facts: orders to be read at their source, words that nobody
    knows.
    """
    if reads := sorted({order_id for told in applied for order_id in told.reads}):
        store.add_reads(reads)
    noticed, kept = dict[DriftNotice, tuple[int, str]](), dict[str, DriftNotice]()
    for told in applied:
        for notice in told.notices:
            count, key = noticed.get(notice, (0, told.key))
            if notice.is_drift:
                noticed[notice] = count + 1, key
            if notice.is_kept:
                kept[told.key] = notice
    if noticed:
        store.add_notices(noticed)
    if kept:
        store.keep(kept)
    return {DRIFT_NOTICES.name: sum(count for count, _ in noticed.values())}


def snapshots_of(order: KnownOrder, new: Sequence[str]) -> tuple[SerializedSnapshot, ...]:
    """What is known of it. Every sequence of an order is said as an OrderObserved, so its readers
    miss none.
    """
    return (
        (order_observed(order, new), fraud_signals(order))
        if any(map(is_verdict, new))
        else (order_observed(order, new),)
    )


def order_observed(order: KnownOrder, new: Sequence[str]) -> SerializedSnapshot:
    """An OrderObserved, all that is known: a reader who missed the last one, or gets this twice or
    late, ends the same.
    """
    source, _, external_id = order.order_id.partition(":")
    facts = order.facts
    body = orjson.dumps(
        {
            "source": source,
            "external_id": external_id,
            "storefront": orjson.Fragment(facts[STOREFRONT].content)
            if STOREFRONT in facts
            else None,
            "reached": {
                name.removeprefix(REACHED): content for name, content in _contents(order, REACHED)
            },
            "is_deleted": orjson.Fragment(facts[DELETION].content) if DELETION in facts else False,
            "movements": [orjson.Fragment(content) for content in movements(facts)],
            "new": new,
        }
    )
    return SerializedSnapshot(
        OrderObserved, WRITER, order.order_id, order.generation, order.sequence, body
    )


def fraud_signals(order: KnownOrder) -> SerializedSnapshot:
    """FraudSignals: every verdict that vendors have given on it."""
    source, _, external_id = order.order_id.partition(":")
    verdicts = {name: orjson.Fragment(content) for name, content in current_verdicts(order.facts)}
    body = orjson.dumps({"source": source, "external_id": external_id, "verdicts": verdicts})
    return SerializedSnapshot(
        FraudSignals, FRAUD_WRITER, order.order_id, order.generation, order.sequence, body
    )


def _contents(order: KnownOrder, prefix: str) -> list[tuple[str, orjson.Fragment]]:
    facts = order.facts
    return [
        (name, orjson.Fragment(facts[name].content))
        for name in sorted(facts)
        if name.startswith(prefix)
    ]


def _outcomes(
    batch: Sequence[ParsedCallback],
    verdicts: Sequence[CallbackOutcome],
    unsaid: dict[str, tuple[SerializedSnapshot, ...]],
    payments: Mapping[str, KnownPayment],
) -> Iterator[Outcome]:
    for told, verdict in zip(batch, verdicts, strict=True):
        match verdict:
            case CallbackOutcome.APPLIED:
                # The first callback that changed an order carries its events.
                yield Effect(
                    tuple(
                        event
                        for name in _changed_order_ids(told, payments)
                        for event in unsaid.pop(name, ())
                    )
                )
            case CallbackOutcome.KNOWN:
                yield Duplicate()
            case CallbackOutcome.OLDER:
                yield Superseded()
            case CallbackOutcome.FORGED:
                yield Dead(
                    ProofReused("what proves it has proved another body before"),
                    subject_key=told.order_id,
                )
            case CallbackOutcome.OVERFULL:
                yield Dead(TooManyFacts(TOO_MANY_FACTS), subject_key=told.order_id)


def _changed_order_ids(told: ParsedCallback, payments: Mapping[str, KnownPayment]) -> list[str]:
    if not told.payments:
        return [] if told.order_id is None else [told.order_id]
    own = () if told.order_id is None else (told.order_id,)
    return sorted(
        {*own, *(order_id for name in told.payments for order_id in payments[name].orders)}
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
