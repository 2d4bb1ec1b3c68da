"""How long callbacks are kept that no release acts on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from services.ingest.store import IngestStore
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Event
from services.runtime.service import Tick

PURGED_ROWS_MAX = 1_000  # in one tick
PURGE_EVERY_S = 600.0


def purge(session: Session, days: int) -> int:
    """Delete the oldest kept callbacks beyond `days`, a bounded number at once. Return how many."""
    return IngestStore(session).purge_kept(days=days, rows_max=PURGED_ROWS_MAX)


def purging(
    days: int, then: Tick[Session] | None = None, clock: Callable[[], float] = time.monotonic
) -> Tick[Session]:
    """Return a tick that purges every PURGE_EVERY_S, and again at once while there is more. It
    calls `then` every time.
    """
    due = clock()

    def tick(now: datetime, session: Session) -> Sequence[Event]:
        nonlocal due
        if clock() >= due and purge(session, days) < PURGED_ROWS_MAX:
            due = clock() + PURGE_EVERY_S
        return then(now, session) if then is not None else ()

    return tick
