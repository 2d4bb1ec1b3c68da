"""Ingest's work on callbacks, as the lane does it."""

from __future__ import annotations

from services.ingest import vendors, worker
from services.runtime.postgres.ledger import Session
from services.runtime.records import Outcome, Record


def work(session: Session, *records: Record) -> list[Outcome]:
    """Parse the records one by one, decide them together, and commit."""
    outcomes = worker.handle([vendors.parse(record) for record in records], session)
    session.commit()
    return outcomes
