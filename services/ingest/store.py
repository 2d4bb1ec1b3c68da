"""Inbox and orders in PostgreSQL: one statement and one round trip per method, inside the lane's
transaction. The store never commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from psycopg.errors import SerializationFailure

from services.ingest.rules.decide import KnownOrder, KnownPayment
from services.ingest.rules.facts import DriftNotice, Fact, ParsedCallback
from services.runtime.postgres import statements
from services.runtime.postgres.arrays import blobs, plain, texts
from services.runtime.postgres.lane_store import Session

SQL = statements.load(__package__)
NOTHING = "[]"
DRIFT_EXAMPLE_BYTES_MAX, DRIFT_CHARS_MAX = 16_384, 300


@dataclass(frozen=True, slots=True)
class IngestStore:
    session: Session

    def lock_orders(self, order_ids: Sequence[str]) -> dict[str, KnownOrder]:
        """Lock the orders and return all of them; one without a row is returned empty."""
        rows = self.session.execute(SQL["lock_orders"], {"order_ids": texts(order_ids)}).fetchall()
        generation = rows[0][0]
        orders = {
            name: KnownOrder(name, generation, 0, None, {}, frozenset()) for name in order_ids
        }
        for _, name, sequence, digest, facts, incidents in rows:
            if name is not None:
                orders[name] = KnownOrder(
                    name,
                    generation,
                    sequence,
                    digest,
                    facts_from_json(facts),
                    _incidents_from_json(incidents),
                )
        return orders

    def lock_payments(self, names: Sequence[str]) -> dict[str, KnownPayment]:
        """Lock the payments, before any order is locked, and return all of them; one without a row
        is returned empty.
        """
        payments = {name: KnownPayment(name) for name in names}
        for name, orders, facts in self.session.execute(
            SQL["lock_payments"], {"payments": texts(names)}
        ):
            payments[name] = KnownPayment(
                name, frozenset(orjson.loads(orders)), facts_from_json(facts)
            )
        return payments

    def add_payments(self, payments: Sequence[KnownPayment]) -> None:
        """Insert payments. Raises SerializationFailure when another lane inserted one of them
        first; the runtime then decides the batch again.
        """
        if self.session.execute(SQL["add_payments"], _payment_columns(payments)).rowcount != len(
            payments
        ):
            raise SerializationFailure("another lane has just inserted one of these payments")

    def save_payments(self, payments: Sequence[KnownPayment]) -> None:
        self.session.execute(SQL["save_payments"], _payment_columns(payments))

    def request_order_fetches(self, order_ids: Sequence[str]) -> None:
        """Request that orders are fetched from their source."""
        self.session.execute(SQL["request_order_fetches"], {"order_ids": texts(order_ids)})

    def add_drift_notices(self, drift_notices: Mapping[DriftNotice, tuple[int, str]]) -> None:
        """Add drift notices, each with its count and the key of a callback that brought it."""
        batch = {
            "sources": texts([drift_notice.source for drift_notice in drift_notices]),
            "kinds": texts([drift_notice.kind for drift_notice in drift_notices]),
            "causes": texts(
                [drift_notice.cause[:DRIFT_CHARS_MAX] for drift_notice in drift_notices]
            ),
            "counts": plain([count for count, _ in drift_notices.values()]),
            "keys": texts([key for _, key in drift_notices.values()]),
            "examples": blobs(
                [drift_notice.body[:DRIFT_EXAMPLE_BYTES_MAX] for drift_notice in drift_notices]
            ),
        }
        self.session.execute(SQL["add_drift_notices"], batch)

    def keep(self, kept_callbacks: Mapping[str, DriftNotice]) -> None:
        """Keep callbacks, by key, that no release acts on."""
        drift_notices = list(kept_callbacks.values())
        origins = [drift_notice.origin for drift_notice in drift_notices]
        batch = {
            "keys": texts(list(kept_callbacks)),
            "sources": texts([drift_notice.source for drift_notice in drift_notices]),
            "kinds": texts([drift_notice.kind for drift_notice in drift_notices]),
            "causes": texts([drift_notice.cause for drift_notice in drift_notices]),
            "bodies": blobs([drift_notice.body for drift_notice in drift_notices]),
            "topics": texts([origin.topic for origin in origins]),
            "partitions": plain([origin.partition for origin in origins]),
            "offsets": plain([origin.offset for origin in origins]),
            "timestamps_ms": plain([origin.timestamp_ms for origin in origins]),
            "record_keys": blobs([origin.key for origin in origins]),
            "headers": blobs([origin.headers for origin in origins]),
        }
        self.session.execute(SQL["keep_callbacks"], batch)

    def purge_kept(self, *, days: int, rows_max: int) -> int:
        """Delete the oldest kept callbacks. Return how many."""
        return self.session.execute(
            SQL["purge_kept_callbacks"], {"days": days, "rows_max": rows_max}
        ).rowcount

    def lock_proofs(self, proofs: Sequence[str]) -> None:
        """Lock the proofs before `add_callbacks`, which then sees what another lane received under
        them.
        """
        self.session.execute(SQL["lock_proofs"], {"proofs": texts(proofs)})

    def add_callbacks(self, callbacks: Sequence[ParsedCallback]) -> list[tuple[str, bytes]]:
        """Add the callbacks to the inbox. Return the keys that were known before, each with its
        content hash, and likewise the proofs.
        """
        first, rows = dict[str, bytes](), list[tuple[str, bytes, str, bytes | None]]()
        for callback in callbacks:
            if callback.proof is None:
                rows.append((callback.key, callback.content_hash, "", None))
            # if a batch has several bodies under one proof, only the first is proven
            elif first.setdefault(*callback.proof) == callback.proof[1]:
                rows += [
                    (callback.key, callback.content_hash, *callback.proof),
                    (*callback.proof, *callback.proof),
                ]
        batch = {
            "keys": texts([key for key, _, _, _ in rows]),
            "content_hashes": blobs([content_hash for _, content_hash, _, _ in rows]),
            "proofs": texts([proof for _, _, proof, _ in rows]),
            "bodies": blobs([body for _, _, _, body in rows]),
            "known_keys": texts([callback.key for callback in callbacks] + list(first)),
        }
        return self.session.execute(SQL["add_callbacks"], batch).fetchall()

    def add_orders(self, orders: Sequence[KnownOrder]) -> None:
        """Insert orders. Raises SerializationFailure when another lane inserted one of them first;
        the runtime then decides the batch again.
        """
        if self.session.execute(SQL["add_orders"], _order_columns(orders)).rowcount != len(orders):
            raise SerializationFailure("another lane has just inserted one of these orders")

    def save_orders(self, orders: Sequence[KnownOrder]) -> None:
        self.session.execute(SQL["save_orders"], _order_columns(orders))


def _order_columns(orders: Sequence[KnownOrder]) -> dict[str, str]:
    return {
        "order_ids": texts([order.order_id for order in orders]),
        "generations": plain([order.generation for order in orders]),
        "sequences": plain([order.sequence for order in orders]),
        "digests": blobs([order.digest for order in orders]),
        "facts": texts([facts_to_json(order.facts) for order in orders]),
        "incidents": texts(
            [
                orjson.dumps(sorted(order.incidents)).decode() if order.incidents else NOTHING
                for order in orders
            ]
        ),
    }


def _payment_columns(payments: Sequence[KnownPayment]) -> dict[str, str]:
    return {
        "payments": texts([payment.name for payment in payments]),
        "orders": texts([orjson.dumps(sorted(payment.orders)).decode() for payment in payments]),
        "facts": texts([facts_to_json(payment.facts) for payment in payments]),
    }


def facts_to_json(facts: Mapping[str, Fact]) -> str:
    """Return the facts as a JSON object by name. Their contents are JSON already."""
    document = {
        name: {"version": fact.version, "content": orjson.Fragment(fact.content)}
        for name, fact in sorted(facts.items())
    }
    return orjson.dumps(document).decode()


def facts_from_json(text: str) -> dict[str, Fact]:
    return {
        name: Fact(name, entry["version"], orjson.dumps(entry["content"]))
        for name, entry in orjson.loads(text).items()
    }


def _incidents_from_json(text: str) -> frozenset[str]:
    return frozenset(orjson.loads(text)) if text != NOTHING else frozenset()
