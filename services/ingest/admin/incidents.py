"""Incidents as operators read and resolve them.

Resolving is done in parts, each a command in a transaction of its own with its audit row
(services.runtime.admin.commands). The ids of the later parts follow from the first's, so a command
that is sent again goes on where it was, and in the end does nothing.
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
from services.ingest.errors import CallbackKept, IncidentChoiceRefused, IncidentUnknown
from services.ingest.rules.incidents import (
    SAME_KEY,
    TWO_MEANINGS,
    Evidence,
    EvidenceRow,
    Incident,
    fingerprint,
    gathered,
    name_of,
    source_of,
)
from services.runtime.admin.commands import (
    REPLAYABLE,
    AdminCommands,
    AdminQueries,
    CommandResult,
    DeadLetterFilter,
    Row,
)
from services.runtime.loop.dead_letters import unpack_headers
from services.runtime.loop.ports import DeadLetter
from services.runtime.postgres import statements
from services.runtime.records import Record

SQL = statements.load(__package__)
GROUP = "stubline.ingest"
LETTERS_OF_PART, KEPT_OF_PART = 5_000, 100  # a kept callback may be a mebibyte
WORDS_MAX = 10


class ResolutionMethod(StrEnum):
    """By what an incident is resolved."""

    REPLAY = "replay"
    DISCARD = "discard"
    SEEN = "seen"


class ResolutionRequest(NamedTuple):
    """What an operator asks for."""

    incident_id: str
    how: ResolutionMethod
    reason: str | None


@dataclass(frozen=True, slots=True)
class IncidentQueries:
    """What operators look at. Changes nothing."""

    connection: Connection[TupleRow]

    def incidents(self) -> dict[str, Incident]:
        return gathered([*self._letters(), *self._notices(), *self._orders()])

    def incident(self, incident_id: str) -> Incident:
        if (found := self.incidents().get(incident_id)) is None:
            raise IncidentUnknown(incident_id)
        return found

    def words(self, incident: Incident) -> list[Row]:
        """How it was told, before what varies was folded; the most frequent first."""
        if incident.evidence is Evidence.ORDERS:
            return []
        name = "original_causes" if incident.evidence is Evidence.LETTERS else "original_words"
        return self._rows(name, arguments(incident) | {"limit": WORDS_MAX})

    def example(self, incident: Incident) -> bytes:
        """The bytes of a callback; of an order that has the incident its id."""
        match incident.evidence:
            case Evidence.LETTERS:
                return AdminQueries(self.connection).letter(UUID(incident.example))["value"] or b""
            case Evidence.NOTICES:
                return bytes(
                    self._rows("example_of_drift_notice", arguments(incident))[0]["example"]
                )
            case Evidence.ORDERS:
                return incident.example.encode()

    def kept(self, incident: Incident) -> int:
        """How many of its callbacks are kept, for nobody acted on them."""
        found = (
            self._rows("count_kept_callbacks", arguments(incident))
            if incident.evidence is Evidence.NOTICES
            else []
        )
        return int(found[0]["count"]) if found else 0

    def _letters(self) -> Iterable[EvidenceRow]:
        for row in self._rows("dead_letters_by_cause", {"group": GROUP}):
            said = row["source"]
            is_open = bool(row["waiting"] or row["replaying"])
            numbers = {
                name: row[name]
                for name in ("count", "waiting", "replaying", "first_at", "last_at", "example")
            }
            yield EvidenceRow(
                Evidence.LETTERS,
                source_of(said),
                row["code"],
                row["cause"],
                origin=said,
                is_open=is_open,
                **numbers,
            )

    def _notices(self) -> Iterable[EvidenceRow]:
        for row in self._rows("drift_notices_by_kind", {}):
            yield EvidenceRow(
                Evidence.NOTICES, **row | {"origin": row["what"], "what": fingerprint(row["what"])}
            )

    def _orders(self) -> Iterable[EvidenceRow]:
        seen: Mapping[str, datetime] = {
            row["incident_id"]: row["seen_at"] for row in self._rows("incidents_seen", {})
        }
        for row in self._rows("orders_with_conflicting_keys", {}):
            seen_at = seen.get(name_of(TWO_MEANINGS, row["source"], SAME_KEY))
            is_open = seen_at is None or row["last_at"] > seen_at
            yield EvidenceRow(
                Evidence.ORDERS,
                kind=TWO_MEANINGS,
                what=SAME_KEY,
                origin=row["source"],
                is_open=is_open,
                **row,
            )

    def _rows(self, name: str, given: Mapping[str, Any]) -> list[Row]:
        return self.connection.cursor(row_factory=dict_row).execute(SQL[name], given).fetchall()


@dataclass(frozen=True, slots=True)
class IncidentCommands(AdminCommands):
    """What resolves incidents."""

    def resolve(
        self, incident_id: str, how: ResolutionMethod, reason: str | None = None
    ) -> CommandResult:
        """Its details: how many letters or kept callbacks it concerned, by this sending and all
        before it.
        """
        wanted, first = ResolutionRequest(incident_id, how, reason), self.command.command_id
        incident = IncidentQueries(self.connection).incidents().get(incident_id)
        already, total, until = True, 0, None
        for part in count():
            of_part = self.command._replace(
                command_id=uuid5(first, f"part {part}") if part else first
            )
            done = replace(self, command=of_part).resolve_part(wanted, incident, part, until)
            already, total, until = (
                already and done.already,
                total + done.details["concerned"],
                done.details["until"],
            )
            if not done.details["goes_on"]:
                break
        return CommandResult(
            already, {"incident": incident_id, "how": how.value, "concerned": total}
        )

    def resolve_part(
        self, wanted: ResolutionRequest, incident: Incident | None, part: int, until: str | None
    ) -> CommandResult:
        """`until`: what the first part said; later ones leave what came or failed since."""
        asked = {
            "incident": wanted.incident_id,
            "how": wanted.how.value,
            "reason": wanted.reason,
            "part": part,
        }
        return self._act("incidents resolve", asked, lambda: self._resolve(wanted, incident, until))

    def _resolve(
        self, wanted: ResolutionRequest, incident: Incident | None, until: str | None
    ) -> Row:
        begun = until or self._moment()
        if incident is None and until is None:
            raise IncidentUnknown(wanted.incident_id)
        if incident is None:  # all its letters that were given back have ended, for another cause
            return {"concerned": 0, "goes_on": False, "until": begun}
        refuse(incident, wanted.how)
        if incident.evidence is Evidence.LETTERS:
            most, concerned = LETTERS_OF_PART, self._end_letters(incident, wanted, begun)
        elif wanted.how is ResolutionMethod.REPLAY:
            most, concerned = KEPT_OF_PART, self._give_kept(incident, begun)
        else:
            most, concerned = 1, 0
        if until is None:
            self._close(incident)
        about = {"source": incident.source, "kind": incident.kind, "what": incident.what}
        return about | {"concerned": concerned, "goes_on": concerned == most, "until": begun}

    def _moment(self) -> str:
        row = self.connection.execute(SQL["transaction_time"]).fetchone()
        return str(row[0].isoformat()) if row else ""

    def _end_letters(self, incident: Incident, wanted: ResolutionRequest, until: str) -> int:
        given = arguments(incident) | {"until": until, "limit": LETTERS_OF_PART}
        ids = [row[0] for row in self.connection.execute(SQL["lock_open_dead_letters"], given)]
        state = "requested" if wanted.how is ResolutionMethod.REPLAY else "discarded"
        if ids:
            self._change(DeadLetterFilter(ids, limit=len(ids)), state, REPLAYABLE, wanted.reason)
        return len(ids)

    def _give_kept(self, incident: Incident, until: str) -> int:
        given = arguments(incident) | {"until": until, "limit": KEPT_OF_PART}
        kept = (
            self.connection.cursor(row_factory=dict_row)
            .execute(SQL["take_kept_callbacks"], given)
            .fetchall()
        )
        if kept:
            self._ask(GROUP, [_letter(row, incident) for row in kept])
        return len(kept)

    def _close(self, incident: Incident) -> None:
        if incident.evidence is Evidence.NOTICES:
            self.connection.execute(SQL["close_drift_notices"], arguments(incident))
        elif incident.evidence is Evidence.ORDERS:
            self.connection.execute(SQL["acknowledge_incident"], {"id": incident.id})


def ways(incident: Incident) -> tuple[ResolutionMethod, ...]:
    """By what it can be resolved."""
    match incident.evidence:
        case Evidence.LETTERS:
            return (ResolutionMethod.REPLAY, ResolutionMethod.DISCARD)
        case Evidence.NOTICES:
            return (ResolutionMethod.REPLAY, ResolutionMethod.SEEN)
        case Evidence.ORDERS:
            return (ResolutionMethod.SEEN,)


def refuse(incident: Incident, how: ResolutionMethod) -> None:
    if how not in (possible := ways(incident)):
        told = " or ".join(f"--{way}" for way in possible)
        raise IncidentChoiceRefused(
            f"{incident.id} is of {incident.evidence}: it is resolved by {told}"
        )


def arguments(incident: Incident) -> Row:
    return {
        "group": GROUP,
        "source": incident.source,
        "kind": incident.kind,
        "what": incident.what,
        "origins": list(incident.origins),
        "example": incident.example,
    }


def _letter(kept: Row, incident: Incident) -> DeadLetter:
    """As the runtime gives records back. The topic's id is the callback's own name, so it meets no
    letter of another one.
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
    text = f"{incident.kind}: {incident.what}"
    return DeadLetter(
        record, topic_id, "handle", CallbackKept.code, text, None, order_of(record.key)
    )
