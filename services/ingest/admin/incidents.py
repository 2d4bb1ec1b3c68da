"""Incidents as operators read and resolve them.

An incident is resolved in parts, each a command in a transaction of its own with its audit row
(services.runtime.admin.commands). The ids of later parts are derived from the first's, so a command
that is sent again continues where it stopped, and in the end does nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from psycopg import Connection
from psycopg.rows import TupleRow, dict_row

from schemas.orders import order_of
from schemas.text import rfc3339
from services.ingest.errors import CallbackKept, IncidentChoiceRefused, IncidentUnknown
from services.ingest.rules.incidents import (
    CONTENT_CONFLICT,
    SAME_KEY_OTHER_CONTENT,
    EvidenceKind,
    EvidenceRow,
    Incident,
    fingerprint,
    group_by_cause,
    incident_id,
    source_of,
)
from services.runtime.admin.commands import (
    REPLAYABLE_STATES,
    AdminCommands,
    AdminQueries,
    CommandResult,
    DeadLetterSelection,
    Row,
)
from services.runtime.ports import DeadLetter
from services.runtime.postgres import statements
from services.runtime.records import Record, unpack_headers

SQL = statements.load(__package__)
GROUP = "stubline.ingest"
DEAD_LETTERS_OF_PART, KEPT_OF_PART = 5_000, 100  # a kept callback may have a mebibyte
WORDS_MAX = 10


class ResolutionMethod(StrEnum):
    """How an incident is resolved."""

    REPLAY = "replay"
    DISCARD = "discard"
    SEEN = "seen"


class ResolutionRequest(NamedTuple):
    """What an operator requests."""

    incident_id: str
    method: ResolutionMethod
    reason: str | None


@dataclass(frozen=True, slots=True)
class IncidentQueries:
    """Read-only queries."""

    connection: Connection[TupleRow]

    def incidents(self) -> dict[str, Incident]:
        return group_by_cause([*self._dead_letters(), *self._drift(), *self._orders()])

    def incident(self, incident_id: str) -> Incident:
        if (incident := self.incidents().get(incident_id)) is None:
            raise IncidentUnknown(incident_id)
        return incident

    def words(self, incident: Incident) -> list[Row]:
        """Return the original texts, before what varies was folded; the most frequent first."""
        if incident.evidence is EvidenceKind.ORDERS:
            return []
        name = (
            "original_causes"
            if incident.evidence is EvidenceKind.DEAD_LETTERS
            else "original_words"
        )
        return self._rows(name, arguments(incident) | {"limit": WORDS_MAX})

    def example(self, incident: Incident) -> bytes:
        """Return the bytes of a callback; of an order with conflicting content, the order's id."""
        match incident.evidence:
            case EvidenceKind.DEAD_LETTERS:
                return (
                    AdminQueries(self.connection).dead_letter(UUID(incident.example))["value"]
                    or b""
                )
            case EvidenceKind.DRIFT:
                return bytes(
                    self._rows("example_of_drift_notice", arguments(incident))[0]["example"]
                )
            case EvidenceKind.ORDERS:
                return incident.example.encode()

    def kept(self, incident: Incident) -> int:
        """Return how many of its callbacks are kept."""
        rows = (
            self._rows("count_kept_callbacks", arguments(incident))
            if incident.evidence is EvidenceKind.DRIFT
            else []
        )
        return int(rows[0]["count"]) if rows else 0

    def _dead_letters(self) -> Iterable[EvidenceRow]:
        for row in self._rows("dead_letters_by_cause", {"group": GROUP}):
            origin = row["source"]
            is_open = bool(row["waiting"] or row["replaying"])
            numbers = {
                name: row[name]
                for name in ("count", "waiting", "replaying", "first_at", "last_at", "example")
            }
            yield EvidenceRow(
                EvidenceKind.DEAD_LETTERS,
                source_of(origin),
                row["code"],
                row["cause"],
                origin=origin,
                is_open=is_open,
                **numbers,
            )

    def _drift(self) -> Iterable[EvidenceRow]:
        for row in self._rows("drift_notices_by_kind", {}):
            yield EvidenceRow(
                EvidenceKind.DRIFT,
                **row | {"origin": row["cause"], "cause": fingerprint(row["cause"])},
            )

    def _orders(self) -> Iterable[EvidenceRow]:
        seen: Mapping[str, datetime] = {
            row["incident_id"]: row["seen_at"] for row in self._rows("incidents_seen", {})
        }
        for row in self._rows("orders_with_conflicting_keys", {}):
            seen_at = seen.get(incident_id(CONTENT_CONFLICT, row["source"], SAME_KEY_OTHER_CONTENT))
            is_open = seen_at is None or row["last_at"] > seen_at
            yield EvidenceRow(
                EvidenceKind.ORDERS,
                kind=CONTENT_CONFLICT,
                cause=SAME_KEY_OTHER_CONTENT,
                origin=row["source"],
                is_open=is_open,
                **row,
            )

    def _rows(self, name: str, given: Mapping[str, Any]) -> list[Row]:
        return self.connection.cursor(row_factory=dict_row).execute(SQL[name], given).fetchall()


@dataclass(frozen=True, slots=True)
class IncidentCommands(AdminCommands):
    """Commands that resolve incidents."""

    def resolve(
        self, incident_id: str, method: ResolutionMethod, reason: str | None = None
    ) -> CommandResult:
        """Resolve the incident. The details count the dead letters or kept callbacks that this
        command concerned, earlier sendings included.
        """
        request, first = ResolutionRequest(incident_id, method, reason), self.command.command_id
        incident = IncidentQueries(self.connection).incidents().get(incident_id)
        already, total, until = True, 0, None
        for part in count():
            command = self.command._replace(
                command_id=uuid5(first, f"part {part}") if part else first
            )
            result = replace(self, command=command).resolve_part(request, incident, part, until)
            already = already and result.already
            total += result.details["concerned"]
            until = result.details["until"]
            if not result.details["goes_on"]:
                break
        return CommandResult(
            already, {"incident": incident_id, "how": method.value, "concerned": total}
        )

    def resolve_part(
        self, request: ResolutionRequest, incident: Incident | None, part: int, until: str | None
    ) -> CommandResult:
        """Resolve one part. `until` is the time of the first part; later parts leave what came or
        failed since.
        """
        arguments_of_command = {
            "incident": request.incident_id,
            "how": request.method.value,
            "reason": request.reason,
            "part": part,
        }
        return self.execute(
            "incidents resolve",
            arguments_of_command,
            lambda: self._resolve(request, incident, until),
        )

    def _resolve(
        self, request: ResolutionRequest, incident: Incident | None, until: str | None
    ) -> Row:
        begun = until or self._moment()
        if incident is None and until is None:
            raise IncidentUnknown(request.incident_id)
        if incident is None:  # its replayed dead letters have all ended with another cause
            return {"concerned": 0, "goes_on": False, "until": begun}
        refuse_impossible(incident, request.method)
        if incident.evidence is EvidenceKind.DEAD_LETTERS:
            most, concerned = DEAD_LETTERS_OF_PART, self._end_dead_letters(incident, request, begun)
        elif request.method is ResolutionMethod.REPLAY:
            most, concerned = KEPT_OF_PART, self._replay_kept(incident, begun)
        else:
            most, concerned = 1, 0
        if until is None:
            self._close(incident)
        about = {"source": incident.source, "kind": incident.kind, "cause": incident.cause}
        return about | {"concerned": concerned, "goes_on": concerned == most, "until": begun}

    def _moment(self) -> str:
        row = self.connection.execute(SQL["transaction_time"]).fetchone()
        return rfc3339(row[0]) if row else ""

    def _end_dead_letters(self, incident: Incident, request: ResolutionRequest, until: str) -> int:
        given = arguments(incident) | {"until": until, "limit": DEAD_LETTERS_OF_PART}
        ids = [row[0] for row in self.connection.execute(SQL["lock_open_dead_letters"], given)]
        state = "requested" if request.method is ResolutionMethod.REPLAY else "discarded"
        if ids:
            self.set_dead_letter_state(
                DeadLetterSelection(ids, limit=len(ids)), state, REPLAYABLE_STATES, request.reason
            )
        return len(ids)

    def _replay_kept(self, incident: Incident, until: str) -> int:
        given = arguments(incident) | {"until": until, "limit": KEPT_OF_PART}
        kept = (
            self.connection.cursor(row_factory=dict_row)
            .execute(SQL["take_kept_callbacks"], given)
            .fetchall()
        )
        if kept:
            self.request_replays(GROUP, [_kept_as_dead_letter(row, incident) for row in kept])
        return len(kept)

    def _close(self, incident: Incident) -> None:
        if incident.evidence is EvidenceKind.DRIFT:
            self.connection.execute(SQL["close_drift_notices"], arguments(incident))
        elif incident.evidence is EvidenceKind.ORDERS:
            self.connection.execute(SQL["acknowledge_incident"], {"id": incident.id})


def resolution_methods(incident: Incident) -> tuple[ResolutionMethod, ...]:
    """Return the methods that apply to the incident's evidence."""
    match incident.evidence:
        case EvidenceKind.DEAD_LETTERS:
            return (ResolutionMethod.REPLAY, ResolutionMethod.DISCARD)
        case EvidenceKind.DRIFT:
            return (ResolutionMethod.REPLAY, ResolutionMethod.SEEN)
        case EvidenceKind.ORDERS:
            return (ResolutionMethod.SEEN,)


def refuse_impossible(incident: Incident, method: ResolutionMethod) -> None:
    if method not in (possible := resolution_methods(incident)):
        options = " or ".join(f"--{way}" for way in possible)
        raise IncidentChoiceRefused(
            f"{incident.id} has the evidence {incident.evidence}: it is resolved by {options}"
        )


def arguments(incident: Incident) -> Row:
    return {
        "group": GROUP,
        "source": incident.source,
        "kind": incident.kind,
        "cause": incident.cause,
        "origins": list(incident.origins),
        "example": incident.example,
    }


def _kept_as_dead_letter(kept: Row, incident: Incident) -> DeadLetter:
    """Return the callback as a dead letter, which the runtime can replay. Its topic id is made from
    the callback's key, so it collides with no other record.
    """
    record = Record(
        topic=kept["topic"],
        partition=kept["partition"],
        offset=kept["offset"],
        timestamp_ms=kept["timestamp_ms"],
        key=kept["record_key"],
        value=kept["body"],
        headers=unpack_headers(kept["headers"]),
    )
    topic_id = f"kept:{hashlib.sha256(kept['key'].encode()).hexdigest()}"
    text = f"{incident.kind}: {incident.cause}"
    return DeadLetter(
        record, topic_id, "handle", CallbackKept.code, text, None, order_of(record.key)
    )
