"""The console's queries of the services' tables. It writes none of them."""

from __future__ import annotations

from typing import Any

from psycopg import Connection
from psycopg.rows import TupleRow, dict_row

from schemas.orders import OVER_ORDER_LIMIT
from services.runtime.admin.refusals import TargetUnknown
from services.runtime.postgres import statements

SQL = statements.load(__package__)
PARTS = (
    "lookalikes",
    "facts",
    "decisions",
    "tickets",
    "refund_due",
    "waiting",
    "deliveries",
    "dead_letters",
)


class OrderUnknown(TargetUnknown):
    """No service knows an order of that id."""

    code = "order-unknown"
    next_step = (
        "An order's id is SOURCE:EXTERNAL_ID, for example shop:727. A callback that could not be "
        "parsed is a dead letter: `stubline dead list`."
    )


def read_order(connection: Connection[TupleRow], order_id: str) -> dict[str, Any]:
    """Return all that is known of an order, by part. Raises OrderUnknown."""
    cursor = connection.cursor(row_factory=dict_row)
    arguments = {"order_id": order_id, "over_order_limit": OVER_ORDER_LIMIT}
    head = (
        cursor.execute(SQL["order"], arguments).fetchone()
        or cursor.execute(SQL["observed"], arguments).fetchone()
    )
    parts = {name: cursor.execute(SQL[name], arguments).fetchall() for name in PARTS}
    if head is None and not any(parts.values()):
        raise OrderUnknown(order_id)
    due = sum(row["tickets"] for row in parts["refund_due"])
    return {"order_id": order_id, **(head or {}), "refund_due_tickets": due, **parts}


def list_orders(
    connection: Connection[TupleRow],
    state: str | None,
    orders_max: int,
    *,
    only_alike: bool,
    only_refund_due: bool = False,
) -> list[dict[str, Any]]:
    """Return the orders that were decided last, each with its suspected duplicates and the number
    of paid tickets that cannot be issued.
    """
    arguments = {
        "state": state,
        "alike": only_alike,
        "refund_due": only_refund_due,
        "orders_max": orders_max,
    }
    return connection.cursor(row_factory=dict_row).execute(SQL["listed"], arguments).fetchall()
