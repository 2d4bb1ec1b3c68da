"""Callbacks that nobody acts on, and for how long they are kept."""

from __future__ import annotations

from services.ingest.store import Store
from services.runtime.ledger import Session

PURGED_ROWS_MAX = 1_000  # a tick


def purge(session: Session, days: int) -> int:
    """Those that are older than so many days go, the oldest first, a bounded number at once. How many went."""
    return Store(session).purge_kept(days=days, rows_max=PURGED_ROWS_MAX)
