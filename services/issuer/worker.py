"""Turns decisions into tickets. Each record is parsed alone; a batch is planned together on locked
rows, with one statement per step.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from schemas import structs
from schemas.envelope import Position, SerializedSnapshot
from schemas.orders import OrderDecided, order_of
from services.issuer.metrics import CHANGED, ISSUED, REFUND_DUE
from services.issuer.rules.plan import (
    IssuePlan,
    LockedCampaign,
    PlanInputs,
    plan,
    products_of,
    tickets_max,
)
from services.issuer.rules.snapshot import tickets_changed
from services.issuer.store import (
    ACTOR,
    AuditReason,
    IssuerOrderRow,
    IssuerStore,
    SavedOrder,
    TransactionStart,
)
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Effect, Outcome, Record
from services.runtime.service import Service
from services.runtime.snapshots import classify_snapshots

GROUP = "stubline.issuer"
# Tickets that one tick issues to orders that waited for a campaign. 25,000 took 0.8 s of the three
# that a transaction has.
TICK_TICKETS_MAX = 10_000
CODE_CHARS = 26
BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
FIVE_BITS = BASE32 * 8  # a table from a byte to the digit of its five lowest bits
THREE_BITS = BASE32[::4] * 32  # to the digit of its three lowest bits, followed by two zero bits


class ReceivedDecision(NamedTuple):
    """A decision, and its JSON as it was received: that is what is stored."""

    event: OrderDecided
    text: str


def parse(record: Record) -> ReceivedDecision:
    """Parse a record before any transaction.

    A record that cannot be parsed becomes a dead letter of its own; others are not affected.
    """
    event, document = OrderDecided.read_with_document(record.headers, record.value)
    return ReceivedDecision(event, document.decode())


def codes(count: int) -> Iterator[str]:
    """Yield codes: 128 random bits each, in base32 without padding, 26 characters.

    They are drawn here because rules have no randomness. Each of the first 25 characters holds five
    bits of a random byte and the last one three, so a code is what base32 makes of 16 random bytes.
    All codes of a batch are encoded by two calls.
    """
    drawn = secrets.token_bytes(CODE_CHARS * count)
    text, ends = (
        drawn.translate(FIVE_BITS).decode(),
        drawn[CODE_CHARS - 1 :: CODE_CHARS].translate(THREE_BITS).decode(),
    )
    return (text[at * CODE_CHARS : (at + 1) * CODE_CHARS - 1] + ends[at] for at in range(count))


def handle(batch: Sequence[ReceivedDecision], transaction: Session) -> list[Outcome]:
    """Return one outcome per record, in order.

    The round trips are constant: two when nothing is new, about six with tickets.
    """
    store = IssuerStore(transaction)
    start = store.begin_batch()
    order_ids = sorted({received.event.key for received in batch})
    known = store.lock_orders(order_ids)
    rows = {order_id: known.get(order_id) or IssuerOrderRow(order_id) for order_id in order_ids}
    last_applied = {order_id: row.decided for order_id, row in rows.items()}
    outcomes, latest = classify_snapshots([received.event for received in batch], last_applied)
    if not latest:
        return outcomes
    # In the order of the batch: the first to come is the first to be served.
    decisions = [batch[index] for index in sorted(latest.values())]
    causes = {event.key: event.event_id for event, _ in decisions}
    snapshots, counts = apply_decisions(store, start, decisions, rows, AuditReason(ACTOR, causes))
    for order_id, index in latest.items():
        outcomes[index] = Effect(snapshots.get(order_id, ()))
    # The counts are sums of the batch, so one outcome carries them.
    first = min(latest.values())
    outcomes[first] = Effect(snapshots.get(batch[first].event.key, ()), counts)
    return outcomes


def apply_decisions(
    store: IssuerStore,
    start: TransactionStart,
    decisions: Sequence[ReceivedDecision],
    rows: Mapping[str, IssuerOrderRow],
    reason: AuditReason,
) -> tuple[dict[str, list[SerializedSnapshot]], dict[str, int]]:
    """Plan the newest decision of each order, write the plan, and return the snapshots to publish.

    The orders are locked already; the campaigns are locked here.
    """
    events = [decision.event for decision in decisions]
    known = [event.key for event in events if rows[event.key].sequence]
    tickets = store.find_tickets(known) if known else {}
    campaign_ids = sorted({row.campaign_id for of_order in tickets.values() for row in of_order})
    campaigns, products = store.lock_campaigns(products_of(events), campaign_ids)
    inputs = PlanInputs(campaigns, products, codes(tickets_max(events)), start.now)
    planned = plan(events, tickets, inputs)
    saved, snapshots = [], {}
    for decision in decisions:
        row = rows[decision.event.key]
        position = Position(start.generation, row.sequence + 1)
        event = tickets_changed(decision.event, planned, campaigns, position)
        snapshot = SerializedSnapshot(event)
        is_waiting = bool(planned.waiting[row.order_id])
        saved.append(saved_order(decision, row, snapshot, is_waiting=is_waiting))
        if saved[-1].sequence != row.sequence:
            snapshots[row.order_id] = [snapshot]
    if new := [order for order in saved if not rows[order.order_id].sequence]:
        store.add_orders(new)
    if changed := [order for order in saved if rows[order.order_id].sequence]:
        store.save_orders(changed)
    save_tickets(store, planned, list(campaigns.values()), reason)
    save_waiting_lines(store, rows, planned)
    return snapshots, metric_counts(planned)


def saved_order(
    decision: ReceivedDecision,
    row: IssuerOrderRow,
    snapshot: SerializedSnapshot,
    *,
    is_waiting: bool,
) -> SavedOrder:
    """Return the order's row. A snapshot that differs from the last takes the next sequence."""
    event, digest = decision.event, snapshot.digest
    return SavedOrder(
        row.order_id,
        row.sequence + (digest != row.digest),
        snapshot.event.generation,
        digest,
        event.generation,
        event.sequence,
        event.buyer.email,
        is_waiting,
        decision.text,
    )


def save_tickets(
    store: IssuerStore,
    planned: IssuePlan,
    campaigns: Sequence[LockedCampaign],
    reason: AuditReason,
) -> None:
    if planned.issued:
        store.issue_tickets(planned.issued, reason)
        store.advance_campaigns(
            [campaign for campaign in campaigns if campaign.next_place != campaign.first_place]
        )
    if planned.changes:
        store.change_tickets(planned.changes, reason)


def save_waiting_lines(
    store: IssuerStore, rows: Mapping[str, IssuerOrderRow], planned: IssuePlan
) -> None:
    """Keep the lines that no campaign takes. Most batches have none, before and after.

    It comes after the orders are saved, because the lines reference them.
    """
    kept = [line for lines in planned.waiting.values() for line in lines]
    if waited := sorted(order_id for order_id in planned.waiting if rows[order_id].is_waiting):
        store.drop_waiting(waited, kept)
    if kept:
        store.keep_waiting(kept)


def metric_counts(planned: IssuePlan) -> dict[str, int]:
    issued = sum(ticket.place is not None for ticket in planned.issued)
    refund_due = sum(ticket.reason is not None for ticket in planned.issued)
    changed = sum(change.before is not None for change in planned.changes)
    return {
        ISSUED.name: issued,
        REFUND_DUE.name: refund_due,
        CHANGED.name: changed,
    }


def tick(_now: datetime, transaction: Session, *, orders_max: int) -> list[SerializedSnapshot]:
    """Work the oldest orders whose waiting lines a campaign takes since it was applied.

    The round trips are those of a batch, or one if no order is due.
    """
    store = IssuerStore(transaction)
    due = store.find_due(orders_max, TICK_TICKETS_MAX)
    if not due:
        return []
    # One actor a tick: the orders of another operator's command come with the next tick.
    actor = due[0].actor
    due = list(takewhile(lambda order: order.actor == actor, due))
    order_ids = [order.order_id for order in due]
    start = store.begin_batch()
    rows = store.lock_orders(sorted(order_ids))
    texts = store.find_decisions(order_ids)
    decisions = [
        ReceivedDecision(structs.decode(OrderDecided, texts[order_id]), texts[order_id])
        for order_id in order_ids
        if order_id in texts
    ]
    reason = AuditReason(actor, {order.order_id: str(order.cause) for order in due})
    snapshots, _ = apply_decisions(store, start, decisions, rows, reason)
    store.drop_due(order_ids)
    return [snapshot for of_order in snapshots.values() for snapshot in of_order]


def service(orders_max: int) -> Service[ReceivedDecision, Session]:
    """Return the service. `orders_max`: how many due orders one tick works."""
    return Service(
        group=GROUP,
        topics=(OrderDecided.topic,),
        parse=parse,
        handle=handle,
        tick=partial(tick, orders_max=orders_max),
        has_tick_work=lambda session: IssuerStore(session).has_due(),
        subject=lambda record: order_of(record.key),
    )
