"""Inbox and orders in PostgreSQL. One method, one statement, one round trip; inside the lane's transaction, never committing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from services.ingest.rules import Callback, Fact, Order
from services.runtime import sql
from services.runtime.ledger import Session

SQL = sql.load(__package__)
FACTS = TypeAdapter(dict[str, Fact])
INCIDENTS = TypeAdapter(frozenset[str])
NO_FACTS, NO_INCIDENTS = "{}", "[]"


@dataclass(frozen=True, slots=True)
class Store:
    session: Session

    def add_orders(self, order_ids: Sequence[str]) -> None:
        self.session.execute(SQL["add_orders"], {"order_ids": order_ids})

    def lock_orders(self, order_ids: Sequence[str]) -> dict[str, Order]:
        return {
            order_id: Order(
                order_id,
                generation,
                sequence,
                digest,
                FACTS.validate_json(facts) if facts != NO_FACTS else {},
                INCIDENTS.validate_json(incidents) if incidents != NO_INCIDENTS else frozenset(),
            )
            for order_id, generation, sequence, digest, facts, incidents in self.session.execute(
                SQL["lock_orders"], {"order_ids": order_ids}
            )
        }

    def add_callbacks(self, callbacks: Sequence[Callback]) -> list[tuple[str, bytes]]:
        """Of the keys that these have, what was known before: with which meanings they came."""
        batch = {"keys": [told.key for told in callbacks], "meanings": [told.meaning for told in callbacks]}
        return self.session.execute(SQL["add_callbacks"], batch).fetchall()

    def save_orders(self, orders: Sequence[Order]) -> None:
        self.session.execute(
            SQL["save_orders"],
            {
                "order_ids": [order.order_id for order in orders],
                "generations": [order.generation for order in orders],
                "sequences": [order.sequence for order in orders],
                "digests": [order.digest for order in orders],
                "facts": [FACTS.dump_json(dict(order.facts)).decode() for order in orders],
                "incidents": [
                    INCIDENTS.dump_json(order.incidents).decode() if order.incidents else NO_INCIDENTS
                    for order in orders
                ],
            },
        )
