"""The limit that the issuer's stage is measured against: its rows, inserted set by set into tables
like its own.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg

ORDERS_PER_BATCH = 1_000  # as the issuer takes them
TABLES = {
    "orders": (
        "order_id, sequence, generation, digest, decided_generation, decided_sequence, "
        "buyer_email, is_waiting, decision"
    ),
    "tickets": (
        "ticket_id, order_id, line_id, ordinal, campaign_id, place, number, code, status, "
        "reason, holder_name, "
        "holder_email, product_id, issued_at"
    ),
    "audit": "order_id, ticket_id, from_status, to_status, cause, actor, at",
}


def rate(url: str, orders: int) -> float:
    """Orders a second. The rows are read first, batch by batch in the order in which they were
    issued, and not counted.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create schema raw")
        types = {}
        for table, columns in TABLES.items():
            connection.execute(
                f"create table raw.{table} (like issuer.{table} including all)".encode()
            )
            types[table] = _types(connection, table)
            assert {name.strip().strip('"') for name in columns.split(",")} <= types[table].keys()
        connection.execute("checkpoint")
        spent = 0.0
        ids = [
            row[0]
            for row in connection.execute(
                "select order_id from issuer.orders order by ctid limit %s", [orders]
            )
        ]
        for at in range(0, len(ids), ORDERS_PER_BATCH):
            batch = {
                table: _read(connection, table, ids[at : at + ORDERS_PER_BATCH]) for table in TABLES
            }
            begun = time.monotonic()
            with connection.transaction():
                for table, arrays in batch.items():
                    connection.execute(_insert(table, types[table]), arrays)
            spent += time.monotonic() - begun
    return len(ids) / spent


def _types(connection: psycopg.Connection, table: str) -> dict[str, str]:
    asked = (
        "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = "
        "%s::regclass and attnum > 0"
    )
    return dict(connection.execute(asked, [f"issuer.{table}"]).fetchall())


def _read(connection: psycopg.Connection, table: str, ids: list[str]) -> list[Any]:
    """An array a column; documents and ids as texts, as the issuer hands them over."""
    names = [name.strip() for name in TABLES[table].split(",")]
    texts = {"decision", "ticket_id", "cause"}
    said = ", ".join(f"array_agg({name}{'::text' if name in texts else ''})" for name in names)
    asked = f"select {said} from issuer.{table} where order_id = any(%s)"
    return list(connection.execute(asked.encode(), [ids]).fetchone() or ())


def _insert(table: str, types: dict[str, str]) -> bytes:
    names = [name.strip() for name in TABLES[table].split(",")]
    plain = [types[name.strip('"')] for name in names]
    texts = {"json", "jsonb", "uuid"}
    arrays = ", ".join(f"%b::{'text' if kind in texts else kind}[]" for kind in plain)
    chosen = ", ".join(
        f"c{place}{f'::{kind}' if kind in texts else ''}" for place, kind in enumerate(plain)
    )
    aliases = ", ".join(f"c{place}" for place in range(len(names)))
    return (
        f"insert into raw.{table} ({', '.join(names)}) select {chosen} from unnest({arrays}) "
        f"as batch ({aliases})"
    ).encode()
