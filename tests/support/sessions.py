"""What a database's sessions are doing, for laws about locks that wait for it."""

from __future__ import annotations

import psycopg

WAITING = b"""
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


def waiting_sessions(connection: psycopg.Connection) -> int:
    """Count the sessions of this database that wait for a lock, also within a transaction."""
    connection.execute("select pg_stat_clear_snapshot()")
    row = connection.execute(WAITING).fetchone()
    return int(row[0]) if row else 0
