"""Callbacks become facts, facts become observations. Parsed alone, decided together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from schemas.callbacks import TOPIC
from schemas.orders import OrderObserved, order_of
from schemas.said import Said
from services.ingest import sources
from services.ingest.errors import OrderOverfull
from services.ingest.metrics import INCIDENTS, OBSERVATIONS
from services.ingest.rules import DELETION, FACTS_MAX, REACHED, STOREFRONT, Callback, Order, Verdict, judge_all, news
from services.ingest.store import Store
from services.runtime.ledger import Session
from services.runtime.records import Dead, Duplicate, Effect, Outcome, Superseded
from services.runtime.service import Service

GROUP = "stubline.ingest"
WRITER = "ingest"


def handle(batch: Sequence[Callback], session: Session) -> list[Outcome]:
    """One outcome for each that parse let through, in order. Three or four round trips for any size, two without news."""
    store, order_ids = Store(session), sorted({told.order_id for told in batch})
    before = store.lock_orders(order_ids)
    verdicts, after = judge_all(batch, before, seen=store.add_callbacks(batch))
    changed = [order for order in after.values() if order is not before[order.order_id]]
    if new := [order for order in changed if not before[order.order_id].sequence]:
        store.add_orders(new)
    if known := [order for order in changed if before[order.order_id].sequence]:
        store.save_orders(known)
    unsaid = {
        order.order_id: observed(order, news(before[order.order_id].facts, order.facts))
        for order in changed
        if order.sequence != before[order.order_id].sequence
    }
    # Raised by the runtime after the commit: a counter raised in here would count what may be rolled back.
    counts = {
        OBSERVATIONS.name: len(unsaid),
        INCIDENTS.name: sum(len(order.incidents) - len(before[order.order_id].incidents) for order in changed),
    }
    outcomes = [outcome(told, verdict, unsaid) for told, verdict in zip(batch, verdicts, strict=True)]
    outcomes[0] = replace(
        outcomes[0], counts=counts
    )  # the batch's sums: one of each record would be added up one by one
    return outcomes


def observed(order: Order, new: list[str]) -> Said:
    """An OrderObserved, all that is known: a reader who missed the last one, or gets this twice or late, ends the same."""
    source, _, external_id = order.order_id.partition(":")
    facts = order.facts
    body = orjson.dumps(
        {
            "source": source,
            "external_id": external_id,
            "storefront": orjson.Fragment(facts[STOREFRONT].content) if STOREFRONT in facts else None,
            "reached": {
                name.removeprefix(REACHED): orjson.Fragment(fact.content)
                for name, fact in sorted(facts.items())
                if name.startswith(REACHED)
            },
            "is_deleted": orjson.Fragment(facts[DELETION].content) if DELETION in facts else False,
            "new": new,
        }
    )
    return Said(OrderObserved, WRITER, order.order_id, order.generation, order.sequence, body)


def outcome(told: Callback, verdict: Verdict, unsaid: dict[str, Said]) -> Outcome:
    match verdict:
        case Verdict.APPLIED:
            # The first callback that changed an order carries its one event.
            event = unsaid.pop(told.order_id, None)
            return Effect((event,)) if event is not None else Effect()
        case Verdict.KNOWN:
            return Duplicate()
        case Verdict.OLDER:
            return Superseded()
        case Verdict.OVERFULL:
            return Dead(OrderOverfull(f"{told.order_id} has {FACTS_MAX} facts"), subject_key=told.order_id)


SERVICE: Service[Callback, Session] = Service(
    GROUP, (TOPIC,), parse=sources.read, handle=handle, subject=lambda record: order_of(record.key)
)
