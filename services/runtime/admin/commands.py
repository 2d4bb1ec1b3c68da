"""Commands of operators on lanes, dead letters, controls and the generation.

Each command is one transaction with its audit row, identified by its command id: sent again it
returns "already done" and changes nothing. A command that changes a lane's row raises its epoch in
the same statement, so that the owner is fenced, whatever it is doing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow, class_row, dict_row
from psycopg.types.json import Jsonb

from schemas.envelope import Output, header
from services.runtime.admin.refusals import (
    CommandReused,
    DeadLetterNotReplayable,
    DeadLetterStateRefused,
    DeadLetterUnknown,
    LaneOffsetRefused,
    LaneUnknown,
    NothingToAccept,
    OutputDropRefused,
    TopicUnknown,
)
from services.runtime.errors import OutputRefused
from services.runtime.kafka.topics import PartitionOffsets
from services.runtime.loop import outbox
from services.runtime.observability.version import CODE_VERSION
from services.runtime.ports import DeadLetter
from services.runtime.postgres import statements
from services.runtime.postgres.lane_store import PostgresTransaction
from services.runtime.records import RECORD_BYTES_MAX, TIMER, LaneKey
from services.runtime.text import storable

SQL = statements.load(__package__)
REPLAYABLE_STATES = ("open", "replayed")
KEY_CHARS_MAX = 200
DISCARDABLE_STATES = ("open", "requested", "replayed", "discarded")
Row = dict[str, Any]


class OperatorCommand(NamedTuple):
    """The person who sends a command, and the command's id."""

    actor: str
    command_id: UUID


@dataclass(frozen=True, slots=True)
class CommandResult:
    """`already`: the command was carried out before, and nothing was changed now."""

    already: bool
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LaneRow:
    """A lane's row, locked by a command."""

    partition: int
    topic_id: str
    epoch: int
    next_offset: int
    stopped_code: str | None


class DeadLetterSelection(NamedTuple):
    """Dead letters by id, or by what they have in common."""

    ids: Sequence[UUID] | None = None
    group: str | None = None
    code: str | None = None
    states: Sequence[str] = ("open",)
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AdminCommands:
    """Every method that changes something is one command, in a transaction of its own."""

    connection: Connection[TupleRow]
    command: OperatorCommand

    def rewind(
        self, group: str, lane: LaneKey, *, to: int, offsets: PartitionOffsets | None
    ) -> CommandResult:
        """Move a lane back to an offset that the log still holds. A move to the lane's own offset
        only starts it again, if it is stopped.
        """

        def work() -> Row:
            row = self._lanes(group, lane.topic, lane.partition)[0]
            if to > row.next_offset:
                raise LaneOffsetRefused(
                    f"the lane is at {row.next_offset}: {to} is after it, so that is a skip"
                )
            if to < row.next_offset:
                _within(lane, to, offsets)
            return self._move(group, lane.topic, [(row, to, row.topic_id)])

        return self.execute("lanes rewind", {"group": group, "lane": list(lane), "to": to}, work)

    def skip(
        self,
        group: str,
        lane: LaneKey,
        *,
        to: int | None,
        offsets: PartitionOffsets | None,
        reason: str,
    ) -> CommandResult:
        """Move a lane forward, over records that get no outcome here. Without an offset: to the
        first one that the log still holds.
        """

        def work() -> Row:
            row = self._lanes(group, lane.topic, lane.partition)[0]
            target = offsets.low_watermark if to is None and offsets is not None else to
            if target is None or offsets is None:
                raise TopicUnknown(f"{lane.topic}/{lane.partition}")
            if target < row.next_offset:
                raise LaneOffsetRefused(
                    f"the lane is at {row.next_offset}: {target} is before it, so that is a rewind"
                )
            _within(lane, target, offsets)
            return self._move(group, lane.topic, [(row, target, row.topic_id)]) | {"reason": reason}

        return self.execute(
            "lanes skip", {"group": group, "lane": list(lane), "to": to, "reason": reason}, work
        )

    def accept_topic(
        self,
        group: str,
        topic: str,
        topic_id: str,
        offsets_by_partition: Mapping[int, PartitionOffsets],
    ) -> CommandResult:
        """Move the lanes that know a deleted topic of that name to the first record of the
        new one.
        """

        def work() -> Row:
            lanes = [lane for lane in self._lanes(group, topic, None) if lane.topic_id != topic_id]
            if not lanes:
                raise NothingToAccept(f"{group} {topic}: id {topic_id}")
            lows = {
                number: offsets.low_watermark for number, offsets in offsets_by_partition.items()
            }
            return self._move(
                group, topic, [(lane, lows.get(lane.partition, 0), topic_id) for lane in lanes]
            )

        return self.execute("lanes accept-topic", {"group": group, "topic": topic}, work)

    def drop_output(self, group: str, lane: LaneKey, number: int, reason: str) -> CommandResult:
        """Remove a refused output from a stopped lane's row, and start the lane again. The audit
        keeps its hash.
        """

        def work() -> Row:
            where = {"group": group, "topic": lane.topic, "partition": lane.partition}
            row = self.connection.execute(SQL["lock_outbox"], where).fetchone()
            if row is None:
                raise LaneUnknown(f"{group} {lane.topic}/{lane.partition}")
            if row[1] != OutputRefused.code:
                raise OutputDropRefused(
                    f"{lane.topic}/{lane.partition} is not stopped with {OutputRefused.code}"
                )
            outputs = outbox.decode(row[0])
            if number >= len(outputs) or not row[2].startswith(f"output {number}: "):
                raise OutputDropRefused(
                    f"the lane is stopped for another output: {storable(row[2], KEY_CHARS_MAX)}"
                )
            dropped = outputs.pop(number)
            self.connection.execute(
                SQL["replace_outbox"], where | {"outputs": outbox.encode(outputs)}
            )
            return {"dropped": output_summary(number, dropped), "left": len(outputs)}

        request = {"group": group, "lane": list(lane), "number": number, "reason": reason}
        return self.execute("lanes drop-output", request, work)

    def restored(self) -> CommandResult:
        """Raise the generation, after a restore from a backup: snapshots published from now on
        outrank all that were published before.
        """

        def work() -> Row:
            row = self.connection.execute(SQL["raise_generation"]).fetchone()
            return {"generation": row[0] if row else None}

        return self.execute("restored", {}, work)

    def control(
        self, group: str, *, paused: bool, rate: float | None, reason: str | None
    ) -> CommandResult:
        def work() -> Row:
            request = {
                "group": group,
                "paused": paused,
                "rate": rate,
                "reason": reason,
                "actor": self.command.actor,
            }
            row = (
                self.connection.cursor(row_factory=dict_row)
                .execute(SQL["set_controls"], request)
                .fetchone()
            )
            return dict(row or {})

        request = {"group": group, "rate": rate, "reason": reason}
        return self.execute("pause" if paused else "resume", request, work)

    def replay(self, selection: DeadLetterSelection) -> CommandResult:
        return self._dead_letters("dead replay", selection, "requested", REPLAYABLE_STATES, None)

    def discard(self, selection: DeadLetterSelection, reason: str) -> CommandResult:
        return self._dead_letters(
            "dead discard", selection, "discarded", DISCARDABLE_STATES, reason
        )

    def _dead_letters(
        self,
        what: str,
        selection: DeadLetterSelection,
        state: str,
        allowed: Sequence[str],
        reason: str | None,
    ) -> CommandResult:
        ids = None if selection.ids is None else sorted(selection.ids)
        named = None if ids is None else [str(dead_letter) for dead_letter in ids]
        request = {
            "ids": named,
            "group": selection.group,
            "code": selection.code,
            "states": list(selection.states),
            "reason": reason,
            "limit": selection.limit,
        }
        return self.execute(
            what, request, lambda: self.set_dead_letter_state(selection, state, allowed, reason)
        )

    def set_dead_letter_state(
        self, selection: DeadLetterSelection, state: str, allowed: Sequence[str], reason: str | None
    ) -> Row:
        """Change the state of dead letters, inside a command."""
        ids = None if selection.ids is None else sorted(selection.ids)
        wanted = {
            "ids": ids,
            "group": selection.group,
            "code": selection.code,
            "states": list(selection.states),
        }
        bounds = {"limit": selection.limit, "largest": RECORD_BYTES_MAX}
        chosen = self.connection.execute(
            SQL["lock_chosen_dead_letters"], wanted | bounds
        ).fetchall()
        if missing := sorted(set(ids or ()) - {dead_letter for dead_letter, _, _ in chosen}):
            raise DeadLetterUnknown(", ".join(map(str, missing)))
        if wrong := [
            f"{dead_letter} is {now}" for dead_letter, now, _ in chosen if now not in allowed
        ]:
            raise DeadLetterStateRefused(", ".join(wrong))
        dead_letters = [
            dead_letter
            for dead_letter, _, is_replayable in chosen
            if is_replayable or state != "requested"
        ]
        if ids is not None and (
            kept_in_part := sorted(
                {dead_letter for dead_letter, _, _ in chosen} - set(dead_letters)
            )
        ):
            raise DeadLetterNotReplayable(", ".join(map(str, kept_in_part)))
        change = {
            "ids": dead_letters,
            "state": state,
            "reason": reason,
            "actor": self.command.actor,
        }
        self.connection.execute(SQL["set_dead_letter_states"], change)
        return {"dead_letters": [str(dead_letter) for dead_letter in dead_letters]}

    def request_replays(self, group: str, dead_letters: Sequence[DeadLetter]) -> None:
        """Store records as dead letters whose replay is requested, inside a command: records that
        were consumed, and are to be worked once more.
        """
        added = PostgresTransaction(self.connection, group, CODE_VERSION).add_dead_letters(
            dead_letters
        )
        ids = [dead_letter_id for dead_letter_id, _ in added]
        change = {"ids": ids, "state": "requested", "reason": None, "actor": self.command.actor}
        self.connection.execute(SQL["set_dead_letter_states"], change)

    def execute(self, what: str, request: Row, work: Callable[[], Row]) -> CommandResult:
        """Commit the work together with its audit row. Work that is refused raises, and leaves
        neither.
        """
        command = {"command_id": self.command.command_id}
        with self.connection.transaction():
            self.connection.execute(SQL["lock_command"], command)
            earlier = self.connection.execute(SQL["find_command"], command).fetchone()
            if earlier is not None:
                if (earlier[0], earlier[1]) != (what, request):
                    raise CommandReused(
                        f"{self.command.command_id} was `{earlier[0]}` at "
                        f"{earlier[3]:%Y-%m-%d %H:%M:%S} UTC"
                    )
                return CommandResult(already=True, details=earlier[2])
            details = work()
            row = {
                "actor": self.command.actor,
                "what": what,
                "details": Jsonb({"arguments": request, "result": details}),
            }
            self.connection.execute(SQL["add_audit"], command | row)
        return CommandResult(already=False, details=details)

    def _lanes(self, group: str, topic: str, partition: int | None) -> list[LaneRow]:
        cursor = self.connection.cursor(row_factory=class_row(LaneRow))
        arguments = {"group": group, "topic": topic, "partition": partition}
        lanes = cursor.execute(SQL["lock_lanes_of_topic"], arguments).fetchall()
        if not lanes:
            raise LaneUnknown(f"{group} {topic}" + ("" if partition is None else f"/{partition}"))
        return lanes

    def _move(self, group: str, topic: str, moves: Sequence[tuple[LaneRow, int, str]]) -> Row:
        change = {
            "group": group,
            "topic": topic,
            "partitions": [lane.partition for lane, _, _ in moves],
            "next_offsets": [to for _, to, _ in moves],
            "topic_ids": [topic_id for _, _, topic_id in moves],
        }
        self.connection.execute(SQL["move_lanes"], change)
        lanes = [
            {
                "partition": lane.partition,
                "from": lane.next_offset,
                "to": to,
                "stopped": lane.stopped_code,
            }
            for lane, to, _ in moves
        ]
        return {"lanes": lanes}


def output_summary(number: int, output: Output) -> Row:
    """Describe an output for people and the audit, without its content."""
    return {
        "number": number,
        "topic": output.topic,
        "key": storable((output.key or b"").decode("utf-8", "backslashreplace"), KEY_CHARS_MAX),
        "bytes": len(output.value or b""),
        "sha256": hashlib.sha256(output.value or b"").hexdigest(),
        "ce_id": storable(header(output.headers, "ce_id") or "", KEY_CHARS_MAX) or None,
    }


def _within(lane: LaneKey, to: int, offsets: PartitionOffsets | None) -> None:
    if lane == TIMER:
        raise LaneOffsetRefused(
            "the timer counts ticks, which cannot be repeated: it moves only to its own offset"
        )
    if offsets is None:
        raise TopicUnknown(f"{lane.topic}/{lane.partition}")
    if not offsets.low_watermark <= to <= offsets.high_watermark:
        raise LaneOffsetRefused(
            f"{lane.topic}/{lane.partition} holds offsets {offsets.low_watermark} to "
            f"{offsets.high_watermark}; {to} is outside"
        )


@dataclass(frozen=True, slots=True)
class AdminQueries:
    """What operators see. Nothing here changes anything."""

    connection: Connection[TupleRow]

    def groups(self) -> set[str]:
        return {row[0] for row in self.connection.execute(SQL["known_groups"])}

    def lanes(self, group: str | None = None) -> list[Row]:
        return self._rows("list_lanes", {"group": group})

    def outputs(self, group: str, lane: LaneKey) -> list[Output]:
        """Return the outbox of the lane's row: committed, perhaps not yet acknowledged."""
        where = {"group": group, "topic": lane.topic, "partition": lane.partition}
        row = self.connection.execute(SQL["find_outbox"], where).fetchone()
        if row is None:
            raise LaneUnknown(f"{group} {lane.topic}/{lane.partition}")
        return outbox.decode(row[0])

    def controls(self) -> list[Row]:
        return self._rows("list_controls", {})

    def dead_letters(self, selection: DeadLetterSelection) -> list[Row]:
        request = {
            "group": selection.group,
            "code": selection.code,
            "states": list(selection.states),
            "limit": selection.limit,
        }
        return self._rows("list_dead_letters", request)

    def dead_letter(self, dead_letter_id: UUID) -> Row:
        if not (rows := self._rows("find_dead_letter", {"id": dead_letter_id})):
            raise DeadLetterUnknown(str(dead_letter_id))
        return rows[0]

    def dead_letter_counts(self) -> list[Row]:
        return self._rows("count_dead_letters", {})

    def audit(self, limit: int) -> list[Row]:
        return self._rows("list_audit", {"limit": limit})

    def _rows(self, name: str, arguments: Mapping[str, Any]) -> list[Row]:
        return self.connection.cursor(row_factory=dict_row).execute(SQL[name], arguments).fetchall()
