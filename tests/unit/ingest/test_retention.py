"""Kept callbacks go in time: now and then, and at once again while there are more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest

from services.ingest import retention
from services.runtime.postgres.ledger import Session

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_a_tick_purges_now_and_then_and_goes_on_while_there_is_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    purged_counts, at = [retention.PURGED_ROWS_MAX, 3, 0, 0], 100.0
    purged, ticked = list[int](), list[datetime]()

    def purge(_session: Session, days: int) -> int:
        purged.append(days)
        return purged_counts.pop(0)

    def then(now: datetime, _session: Session) -> list[object]:
        ticked.append(now)
        return []

    monkeypatch.setattr(retention, "purge", purge)
    tick = retention.purging(90, then, clock=lambda: at)  # type: ignore[arg-type]  # it publishes nothing
    for _ in range(4):
        tick(NOW, cast("Session", None))
    assert purged == [90, 90]  # a full part, the remainder, and then none for a while
    at += retention.PURGE_EVERY_S
    tick(NOW, cast("Session", None))
    assert purged == [90] * 3
    assert len(ticked) == 5  # the other tick runs every time
