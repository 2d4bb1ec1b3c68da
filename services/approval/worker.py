"""Turns observations into decisions. Each record is parsed alone; a batch is decided together and
serialized once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import orjson

from schemas.envelope import SerializedSnapshot
from schemas.orders import DecidedLine, OrderDecided, OrderObserved, order_of
from services.approval.lookalikes import lookalike_key
from services.approval.metrics import DECISIONS
from services.approval.rules import Decision, Gate, PreparedPolicy, decide
from services.approval.settings import Policies
from services.approval.store import ApprovalOrderRow, ApprovalStore, DecidedRow
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Effect, Outcome, Record
from services.runtime.service import Service
from services.runtime.snapshots import classify_snapshots

GROUP = "stubline.approval"
WRITER = "approval"


def parse(record: Record) -> OrderObserved:
    """Parse a record before any transaction.

    A record that cannot be parsed becomes a dead letter of its own; others are not affected.
    """
    return OrderObserved.read(record.headers, record.value)


def handle(
    batch: Sequence[OrderObserved],
    transaction: Session,
    policies: Policies,
    gates: Sequence[Gate] = (),
) -> list[Outcome]:
    """Return one outcome per record, in order.

    The round trips are constant: one when nothing is new, else three or four.
    """
    store, order_ids = ApprovalStore(transaction), sorted({observed.key for observed in batch})
    generation, known = store.lock_orders(order_ids)
    rows = {order_id: known.get(order_id) or ApprovalOrderRow(order_id) for order_id in order_ids}
    outcomes, latest = classify_snapshots(
        batch, {order_id: row.observed for order_id, row in rows.items()}
    )
    decided = []
    for order_id, index in latest.items():
        observed, row = batch[index], rows[order_id]
        saved, snapshot = decide_order(observed, row, generation, policies, gates)
        decided.append(saved)
        outcomes[index] = Effect([snapshot] if snapshot else (), {DECISIONS.name: 1})
    if new := [saved for saved in decided if saved.order_id not in known]:
        store.add_orders(new)
    if changed := [saved for saved in decided if saved.order_id in known]:
        store.save_orders(changed)
    if decided:
        store.add_receipts(decided)
    return outcomes


def decide_order(
    observed: OrderObserved,
    row: ApprovalOrderRow,
    generation: int,
    policies: Policies,
    gates: Sequence[Gate],
) -> tuple[DecidedRow, SerializedSnapshot | None]:
    """Return the order's row and, if the decision differs from the last, its snapshot."""
    prepared = policies.of(observed.source)
    decision = decide(observed, prepared, gates)
    snapshot = SerializedSnapshot(
        order_decided(observed, decision, generation=generation, sequence=row.sequence + 1)
    )
    digest = snapshot.digest
    is_new = digest != row.digest
    alike_by = lookalike_key(observed) if policies.duplicate_window_s else None
    sequence = row.sequence + is_new
    saved = DecidedRow(
        order_id=row.order_id,
        generation=generation,
        sequence=sequence,
        digest=digest,
        state=decision.state,
        observed_generation=observed.generation,
        observed_sequence=observed.sequence,
        decision=snapshot.content.decode(),
        inputs=inputs_of(observed, prepared),
        policy_version=prepared.version,
        outcome=outcome_of(decision),
        lookalike_key=alike_by,
        duplicate_window_s=policies.duplicate_window_s if alike_by else None,
    )
    return saved, snapshot if is_new else None


def order_decided(
    observed: OrderObserved, decision: Decision, *, generation: int, sequence: int
) -> OrderDecided:
    """Return the decision as an event. The holder of a gift is its recipient, not the buyer."""
    return OrderDecided(
        writer=WRITER,
        key=observed.key,
        generation=generation,
        sequence=sequence,
        source=observed.source,
        external_id=observed.external_id,
        number=decision.number,
        state=decision.state,
        reasons=decision.reasons,
        buyer=decision.buyer,
        lines=tuple(
            [
                DecidedLine(
                    line_id=line.line_id,
                    product_id=line.product_id,
                    sku=line.sku,
                    name=line.name,
                    quantity=quantity,
                    holder=decision.buyer if line.recipient is None else line.recipient,
                    recipient_email=None if line.recipient is None else line.recipient.email,
                    variation_id=line.variation_id,
                )
                for line, quantity in decision.lines
            ]
        ),
        refund_due_tickets=decision.refund_due_tickets,
    )


def inputs_of(observed: OrderObserved, prepared: PreparedPolicy) -> str:
    """Return all that a decision depends on, as JSON. It holds no personal data."""
    storefront = observed.storefront
    inputs = {
        "is_deleted": observed.is_deleted,
        "issue_when": prepared.policy.issue_when,
        "reached": observed.reached,
        "status": storefront.status if storefront else None,
        "channel": storefront.channel if storefront else None,
        "paid_at": storefront.paid_at if storefront else None,
        "lines": [[line.line_id, line.quantity] for line in storefront.lines]
        if storefront
        else None,
    }
    return orjson.dumps(inputs).decode()


def outcome_of(decision: Decision) -> str:
    """Return what was decided, as JSON. It holds no personal data."""
    outcome = {
        "state": decision.state,
        "reasons": decision.reasons,
        "lines": [[line.line_id, quantity] for line, quantity in decision.lines],
        "refund_due_tickets": decision.refund_due_tickets,
    }
    return orjson.dumps(outcome).decode()


def service(policies: Policies, gates: Sequence[Gate] = ()) -> Service[OrderObserved, Session]:
    return Service(
        group=GROUP,
        topics=(OrderObserved.topic,),
        parse=parse,
        handle=partial(_handle, policies=policies, gates=gates),
        subject=lambda record: order_of(record.key),
    )


def _handle(
    batch: Sequence[OrderObserved],
    transaction: Session,
    *,
    policies: Policies,
    gates: Sequence[Gate],
) -> list[Outcome]:
    return handle(batch, transaction, policies, gates)
