"""Groups evidence into incidents: one per kind, source and cause. Pure: no clock, no randomness, no
I/O.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

NUMBER_PATTERN = re.compile("[0-9]+")
AND_MORE_PATTERN = re.compile(r"; and # more\Z")
FINGERPRINT_CHARS_MAX = 300
ID_CHARS = 12
UNKNOWN_SOURCE = "?"  # stands for a source that not even the record's key names
CONTENT_CONFLICT = "conflicting-content"
SAME_KEY_OTHER_CONTENT = "same key, different content"


class EvidenceKind(StrEnum):
    DEAD_LETTERS = "dead-letters"  # callbacks that were dead-lettered: they wait for a decision
    DRIFT = "drift"  # words that this release does not know, in callbacks that were accepted
    ORDERS = "orders"  # keys that came with different contents, noted at their orders


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """One row of evidence: how often something happened, and since when."""

    evidence: EvidenceKind
    source: str
    kind: str
    cause: str  # with what varies folded
    count: int
    first_at: datetime
    last_at: datetime
    example: str  # a dead letter's id, a callback's key, or an order's id
    origin: str  # the source as dead letters have it, or the original words of drift
    is_open: bool = False
    waiting: int = 0  # dead letters that need a decision
    replaying: int = 0  # dead letters whose replay has not ended


@dataclass(frozen=True, slots=True)
class Incident:
    """All evidence of one kind, source and cause, however often it happened."""

    id: str
    evidence: EvidenceKind
    source: str
    kind: str
    cause: str
    count: int
    waiting: int
    replaying: int
    state: str  # "open" until every dead letter has ended or the incident was seen; then "resolved"
    first_at: datetime
    last_at: datetime
    example: str
    origins: tuple[str, ...]


def fingerprint(cause: str) -> str:
    """Return the cause without what varies: the same error in another line, or in more of them, has
    the same fingerprint. `runtime.cause_of` computes it for dead letters in the database.
    """
    parts = AND_MORE_PATTERN.sub("", NUMBER_PATTERN.sub("#", cause)).split("; ")
    return "; ".join(sorted(set(parts)))[:FINGERPRINT_CHARS_MAX]


def source_of(origin: str) -> str:
    """Return the slug: `/sources/shop` and `shop` are one source."""
    return origin.removeprefix("/sources/") or UNKNOWN_SOURCE


def incident_id(kind: str, source: str, cause: str) -> str:
    """Return an id that never changes and is the same in every installation."""
    return hashlib.sha256(
        f"{kind}\0{source}\0{cause}".encode("utf-8", "surrogatepass")
    ).hexdigest()[:ID_CHARS]


def group_by_cause(evidence_rows: Iterable[EvidenceRow]) -> dict[str, Incident]:
    """Return incidents by id, the most frequent first. The order of the evidence does not
    matter.
    """
    rows_by_id = defaultdict[str, list[EvidenceRow]](list)
    for row in evidence_rows:
        rows_by_id[incident_id(row.kind, row.source, row.cause)].append(row)
    incidents = [_incident(key, rows) for key, rows in rows_by_id.items()]
    return {incident.id: incident for incident in sorted(incidents, key=_by_frequency)}


def _by_frequency(incident: Incident) -> tuple[int, str]:
    return -incident.count, incident.id


def _incident(name: str, rows: Sequence[EvidenceRow]) -> Incident:
    newest = max(rows, key=lambda row: (row.last_at, row.example))
    return Incident(
        id=name,
        evidence=newest.evidence,
        source=newest.source,
        kind=newest.kind,
        cause=newest.cause,
        count=sum(row.count for row in rows),
        waiting=sum(row.waiting for row in rows),
        replaying=sum(row.replaying for row in rows),
        state="open" if any(row.is_open for row in rows) else "resolved",
        first_at=min(row.first_at for row in rows),
        last_at=newest.last_at,
        example=newest.example,
        origins=tuple(sorted({row.origin for row in rows})),
    )
