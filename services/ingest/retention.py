"""Callbacks that nobody acts on, and for how long they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from services.ingest.store import IngestStore
from services.runtime.postgres.ledger import Session
from services.runtime.records import Event
from services.runtime.service import Tick

PURGED_ROWS_MAX = 1_000  # a tick
PURGE_EVERY_S = 600.0


def purge(session: Session, days: int) -> int:
    """Those that are older than so many days go, the oldest first, a bounded number at once. How
    many went.
    """
    return IngestStore(session).purge_kept(days=days, rows_max=PURGED_ROWS_MAX)


def purging(
    days: int, then: Tick[Session] | None = None, clock: Callable[[], float] = time.monotonic
) -> Tick[Session]:
    """A tick that does this now and then, at once again while there is more; and `then`, every
    time.
    """
    due = clock()

    def tick(now: datetime, session: Session) -> Sequence[Event]:
        nonlocal due
        if clock() >= due and purge(session, days) < PURGED_ROWS_MAX:
            due = clock() + PURGE_EVERY_S
        return then(now, session) if then is not None else ()

    return tick
