"""Decisions in, tickets out: parsed alone, planned together on locked rows, one statement a
step.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from schemas.orders import OrderDecided, TicketsChanged, order_of
from schemas.serialized import SerializedSnapshot, content_digest, event_id
from services.issuer.metrics import CHANGED, ISSUED, SOLD_OUT
from services.issuer.rules.plan import IssuePlan, PlanInputs, plan, products_of, tickets_max
from services.issuer.rules.snapshot import body_of
from services.issuer.store import (
    ACTOR,
    AuditReason,
    IssuerOrderRow,
    IssuerStore,
    SavedOrder,
    TransactionStart,
)
from services.runtime.postgres.ledger import Session
from services.runtime.records import Effect, Outcome, Record
from services.runtime.service import Service
from services.runtime.snapshots import classify_snapshots

GROUP = "stubline.issuer"
WRITER = "issuer"
# of orders that waited for a campaign; 25,000 took 0.8 s of the three that a transaction has
TICK_TICKETS_MAX = 10_000
CODE_CHARS = 26
BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
SPELLED = BASE32 * 8  # a byte's five lowest bits
ENDED = BASE32[::4] * 32  # a byte's three lowest bits, with two zero bits behind them


class ReceivedDecision(NamedTuple):
    """A decision, and its JSON as it came: that is what is kept."""

    event: OrderDecided
    text: str


def parse(record: Record) -> ReceivedDecision:
    """Before any transaction. What cannot be read becomes its own dead letter and harms no
    neighbour.
    """
    event, document = OrderDecided.read_whole(record.headers, record.value)
    return ReceivedDecision(event, document.decode())


def codes(count: int) -> Iterator[str]:
    """Each 128 random bits in base32, without padding: 26 characters. Drawn here, for rules know no
    chance.

    Each of 25 characters holds five bits of a random byte and the last one three, so that a code is
    what base32 makes of 16 random bytes; all codes of a batch are spelled in two calls.
    """
    drawn = secrets.token_bytes(CODE_CHARS * count)
    text, ends = (
        drawn.translate(SPELLED).decode(),
        drawn[CODE_CHARS - 1 :: CODE_CHARS].translate(ENDED).decode(),
    )
    return (text[at * CODE_CHARS : (at + 1) * CODE_CHARS - 1] + ends[at] for at in range(count))


def handle(batch: Sequence[ReceivedDecision], transaction: Session) -> list[Outcome]:
    """One outcome each, in order. A constant number of round trips: two when nothing was new, some
    six with tickets.
    """
    store = IssuerStore(transaction)
    begun = store.begin_batch()
    order_ids = sorted({decided.event.key for decided in batch})
    known = store.lock_orders(order_ids)
    rows = {order_id: known.get(order_id) or IssuerOrderRow(order_id) for order_id in order_ids}
    reached = {order_id: row.decided for order_id, row in rows.items()}
    outcomes, latest = classify_snapshots([decided.event for decided in batch], reached)
    if not latest:
        return outcomes
    # In the order in which they stand in the batch: who came first is served first.
    news = [batch[place] for place in sorted(latest.values())]
    causes = {
        it.event.key: event_id(it.event.writer, it.event.key, *it.event.position) for it in news
    }
    said, counts = apply_decisions(store, begun, news, rows, AuditReason(ACTOR, causes))
    for order_id, place in latest.items():
        outcomes[place] = Effect(said.get(order_id, ()))
    first = min(latest.values())
    outcomes[first] = Effect(
        said.get(batch[first].event.key, ()), counts
    )  # the sums of the batch, raised once
    return outcomes


def apply_decisions(
    store: IssuerStore,
    begun: TransactionStart,
    news: Sequence[ReceivedDecision],
    rows: Mapping[str, IssuerOrderRow],
    why: AuditReason,
) -> tuple[dict[str, list[SerializedSnapshot]], dict[str, int]]:
    """Plans the newest decision of each order and writes what it says. Orders are locked; campaigns
    are locked here.
    """
    events = [decided.event for decided in news]
    known = [event.key for event in events if rows[event.key].sequence]
    held = store.tickets_of(known) if known else {}
    others = sorted({ticket.campaign_id for tickets in held.values() for ticket in tickets})
    campaigns, products = store.lock_campaigns(products_of(events), others)
    made = plan(
        events, held, PlanInputs(campaigns, products, codes(tickets_max(events)), begun.now)
    )
    saved, said = [], {}
    for decided in news:
        row, waiting = rows[decided.event.key], made.waiting[decided.event.key]
        body = body_of(decided.event, made.held[row.order_id], waiting, campaigns)
        saved.append(
            saved_order(
                decided, row, begun.generation, content_digest(body), is_waiting=bool(waiting)
            )
        )
        if (sequence := saved[-1].sequence) != row.sequence:
            said[row.order_id] = [
                SerializedSnapshot(
                    TicketsChanged, WRITER, row.order_id, begun.generation, sequence, body
                )
            ]
    if new := [it for it in saved if not rows[it.order_id].sequence]:
        store.add_orders(new)
    if changed := [it for it in saved if rows[it.order_id].sequence]:
        store.save_orders(changed)
    if made.issued:
        store.issue_tickets(made.issued, why)
        store.advance_campaigns(
            [it for it in campaigns.values() if it.next_index != it.first_index]
        )
    if made.changes:
        store.change_tickets(made.changes, why)
    save_waiting_lines(store, rows, made)
    return said, metric_counts(made)


def saved_order(
    decided: ReceivedDecision,
    row: IssuerOrderRow,
    generation: int,
    digest: bytes,
    *,
    is_waiting: bool,
) -> SavedOrder:
    """A snapshot that differs from the last takes the next sequence."""
    event = decided.event
    sequence = row.sequence + (digest != row.digest)
    place = (event.generation, event.sequence)
    return SavedOrder(
        row.order_id,
        sequence,
        generation,
        digest,
        *place,
        event.buyer.email,
        is_waiting,
        decided.text,
    )


def save_waiting_lines(
    store: IssuerStore, rows: Mapping[str, IssuerOrderRow], made: IssuePlan
) -> None:
    """Lines that no campaign takes are kept; behind save_orders. Most batches have none, and had
    none.
    """
    kept = [line for lines in made.waiting.values() for line in lines]
    if had := sorted(order_id for order_id in made.waiting if rows[order_id].is_waiting):
        store.drop_waiting(had, kept)
    if kept:
        store.keep_waiting(kept)


def metric_counts(made: IssuePlan) -> dict[str, int]:
    issued = sum(ticket.place is not None for ticket in made.issued)
    changed = sum(change.before is not None for change in made.changes)
    return {ISSUED.name: issued, SOLD_OUT.name: len(made.issued) - issued, CHANGED.name: changed}


def tick(_now: datetime, transaction: Session, *, orders_max: int) -> list[SerializedSnapshot]:
    """Orders that a campaign takes since it was applied, oldest first. Round trips as for a batch;
    one when there are none.
    """
    store = IssuerStore(transaction)
    due = store.take_due(orders_max, TICK_TICKETS_MAX)
    if not due:
        return []
    actor = due[0].actor
    due = list(
        takewhile(lambda it: it.actor == actor, due)
    )  # another operator's come with the next tick
    order_ids = [it.order_id for it in due]
    begun = store.begin_batch()
    rows = store.lock_orders(sorted(order_ids))
    texts = store.decisions_of(order_ids)
    news = [
        ReceivedDecision(OrderDecided.model_validate_json(texts[name]), texts[name])
        for name in order_ids
        if name in texts
    ]
    said, _ = apply_decisions(
        store, begun, news, rows, AuditReason(actor, {it.order_id: str(it.cause) for it in due})
    )
    store.drop_due(order_ids)
    return [event for events in said.values() for event in events]


def service(orders_max: int) -> Service[ReceivedDecision, Session]:
    """`orders_max`: how many due orders a tick works."""
    return Service(
        group=GROUP,
        topics=(OrderDecided.topic,),
        parse=parse,
        handle=handle,
        tick=partial(tick, orders_max=orders_max),
        subject=lambda record: order_of(record.key),
    )
