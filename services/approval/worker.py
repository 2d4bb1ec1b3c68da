"""Observations in, decisions out: parsed alone, decided together, written down once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import orjson

from schemas.orders import OrderDecided, OrderObserved, Person, order_of
from schemas.serialized import SerializedSnapshot, content_digest
from services.approval.lookalikes import order_look
from services.approval.metrics import DECISIONS
from services.approval.rules import Decision, Gate, PreparedPolicy, decide
from services.approval.settings import Policies
from services.approval.store import ApprovalOrderRow, ApprovalStore, DecidedRow
from services.runtime.postgres.ledger import Session
from services.runtime.records import Effect, Outcome, Record
from services.runtime.service import Service
from services.runtime.snapshots import classify_snapshots

GROUP = "stubline.approval"
WRITER = "approval"


def parse(record: Record) -> OrderObserved:
    """Before any transaction. What cannot be read becomes its own dead letter and harms no
    neighbour.
    """
    return OrderObserved.read(record.headers, record.value)


def handle(
    batch: Sequence[OrderObserved],
    transaction: Session,
    policies: Policies,
    gates: Sequence[Gate] = (),
) -> list[Outcome]:
    """One outcome each, in order. Three or four round trips for any size, one when nothing was
    new.
    """
    store, order_ids = ApprovalStore(transaction), sorted({observed.key for observed in batch})
    generation, known = store.lock_orders(order_ids)
    rows = {order_id: known.get(order_id) or ApprovalOrderRow(order_id) for order_id in order_ids}
    outcomes, latest = classify_snapshots(
        batch, {order_id: row.observed for order_id, row in rows.items()}
    )
    decided = []
    for order_id, place in latest.items():
        observed, row = batch[place], rows[order_id]
        saved, said = decide_order(observed, row, generation, policies, gates)
        decided.append(saved)
        outcomes[place] = (
            Effect([said], {DECISIONS.name: 1}) if said else Effect((), {DECISIONS.name: 1})
        )
    if new := [it for it in decided if it.order_id not in known]:
        store.add_orders(new)
    if changed := [it for it in decided if it.order_id in known]:
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
    """The decision as it is kept and, when it differs from the last, as it is said."""
    prepared = policies.of(observed.source)
    decision = decide(observed, prepared, gates)
    body = body_of(observed, decision)
    digest = content_digest(body)
    is_news = digest != row.digest
    seen = order_look(observed) if policies.duplicate_window_s else None
    sequence = row.sequence + is_news
    saved = DecidedRow(
        order_id=row.order_id,
        generation=generation,
        sequence=sequence,
        digest=digest,
        state=decision.state,
        observed_generation=observed.generation,
        observed_sequence=observed.sequence,
        decision=body.decode(),
        inputs=inputs_of(observed, prepared),
        policy_version=prepared.version,
        outcome=outcome_of(decision),
        look=seen,
        alike_s=policies.duplicate_window_s if seen else None,
    )
    said = (
        SerializedSnapshot(OrderDecided, WRITER, row.order_id, generation, sequence, body)
        if is_news
        else None
    )
    return saved, said


def body_of(observed: OrderObserved, decision: Decision) -> bytes:
    buyer = {"name": decision.buyer.name, "email": decision.buyer.email}
    return orjson.dumps(
        {
            "source": observed.source,
            "external_id": observed.external_id,
            "number": decision.number,
            "state": decision.state,
            "reasons": decision.reasons,
            "buyer": buyer,
            "lines": [
                {
                    "line_id": line.line_id,
                    "product_id": line.product_id,
                    "sku": line.sku,
                    "name": line.name,
                    "quantity": quantity,
                    "holder": buyer if line.recipient is None else holder(line.recipient),
                    **({} if line.recipient is None else {"recipient_email": line.recipient.email}),
                    **({"variation_id": line.variation_id} if line.variation_id else {}),
                }
                for line, quantity in decision.lines
            ],
            "refund_due_tickets": decision.refund_due_tickets,
        }
    )


def holder(recipient: Person) -> dict[str, str]:
    """Of a gift: its tickets are his, whoever paid."""
    return {"name": recipient.name, "email": recipient.email}


def inputs_of(observed: OrderObserved, prepared: PreparedPolicy) -> str:
    """All that a decision goes by, and no person."""
    front = observed.storefront
    told = {
        "is_deleted": observed.is_deleted,
        "issue_when": prepared.policy.said,
        "reached": observed.reached,
        "status": front.status if front else None,
        "channel": front.channel if front else None,
        "paid_at": front.paid_at if front else None,
        "lines": [[line.line_id, line.quantity] for line in front.lines] if front else None,
    }
    return orjson.dumps(told).decode()


def outcome_of(decision: Decision) -> str:
    told = {
        "state": decision.state,
        "reasons": decision.reasons,
        "lines": [[line.line_id, quantity] for line, quantity in decision.lines],
        "refund_due_tickets": decision.refund_due_tickets,
    }
    return orjson.dumps(told).decode()


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
