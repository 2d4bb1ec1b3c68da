"""What a database's sessions are doing: laws about locks wait for it instead of sleeping."""

from __future__ import annotations

import psycopg

WAITING = b"""
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


def waiting_sessions(connection: psycopg.Connection) -> int:
    """Sessions of this database that wait for a lock. A transaction sees the same figures until it
    asks anew.
    """
    connection.execute("select pg_stat_clear_snapshot()")
    row = connection.execute(WAITING).fetchone()
    return int(row[0]) if row else 0
