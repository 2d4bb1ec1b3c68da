"""What operators change: lanes, letters, controls, the generation. The only code that writes them
for a person.

Each change is one transaction with its audit row, known by its command id: sent again it answers
"already done" and changes nothing. A lane's row that is changed gets a new epoch in the same
statement, so its owner notices, wherever it rests.
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
    LaneUnknown,
    MoveRefused,
    NothingToAccept,
    OutputDropRefused,
    TopicUnknown,
)
from services.runtime.errors import OutputRefused
from services.runtime.kafka.topics import PartitionExtent
from services.runtime.loop import outbox
from services.runtime.loop.ports import DeadLetter
from services.runtime.postgres import statements
from services.runtime.postgres.ledger import PostgresTransaction
from services.runtime.records import RECORD_BYTES_MAX, TIMER, LaneKey
from services.runtime.text import storable
from services.runtime.version import CODE_VERSION

SQL = statements.load(__package__)
REPLAYABLE = ("open", "replayed")
KEY_CHARS_MAX = 200
DISCARDABLE = ("open", "requested", "replayed", "discarded")
Row = dict[str, Any]


class OperatorCommand(NamedTuple):
    """Who asks, and by which id the asking is known."""

    actor: str
    command_id: UUID


@dataclass(frozen=True, slots=True)
class CommandResult:
    """`already`: an earlier sending of this command did it; nothing was changed now."""

    already: bool
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LaneRow:
    partition: int
    topic_id: str
    epoch: int
    next_offset: int
    stopped_code: str | None


class DeadLetterFilter(NamedTuple):
    """Letters by id, or by what they have in common."""

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
        self, group: str, lane: LaneKey, *, to: int, extent: PartitionExtent | None
    ) -> CommandResult:
        """Back to an offset that the log still holds, or to where it is: that only starts a stopped
        lane again.
        """

        def work() -> Row:
            row = self._lanes(group, lane.topic, lane.partition)[0]
            if to > row.next_offset:
                raise MoveRefused(
                    f"the lane is at {row.next_offset}: {to} lies ahead, so that is a skip"
                )
            if to < row.next_offset:
                _within(lane, to, extent)
            return self._move(group, lane.topic, [(row, to, row.topic_id)])

        return self._act("lanes rewind", {"group": group, "lane": list(lane), "to": to}, work)

    def skip(
        self,
        group: str,
        lane: LaneKey,
        *,
        to: int | None,
        extent: PartitionExtent | None,
        reason: str,
    ) -> CommandResult:
        """Forward, over records that get no outcome here. Without an offset: to the first one that
        the log still holds.
        """

        def work() -> Row:
            row = self._lanes(group, lane.topic, lane.partition)[0]
            target = extent.low if to is None and extent is not None else to
            if target is None or extent is None:
                raise TopicUnknown(f"{lane.topic}/{lane.partition}")
            if target < row.next_offset:
                raise MoveRefused(
                    f"the lane is at {row.next_offset}: {target} lies behind, so that is a rewind"
                )
            _within(lane, target, extent)
            return self._move(group, lane.topic, [(row, target, row.topic_id)]) | {"reason": reason}

        return self._act(
            "lanes skip", {"group": group, "lane": list(lane), "to": to, "reason": reason}, work
        )

    def accept_topic(
        self, group: str, topic: str, topic_id: str, extents: Mapping[int, PartitionExtent]
    ) -> CommandResult:
        """All lanes that knew another topic of that name begin at the first record of this one."""

        def work() -> Row:
            lanes = [lane for lane in self._lanes(group, topic, None) if lane.topic_id != topic_id]
            if not lanes:
                raise NothingToAccept(f"{group} {topic}: id {topic_id}")
            lows = {number: extent.low for number, extent in extents.items()}
            return self._move(
                group, topic, [(lane, lows.get(lane.partition, 0), topic_id) for lane in lanes]
            )

        return self._act("lanes accept-topic", {"group": group, "topic": topic}, work)

    def drop_output(self, group: str, lane: LaneKey, number: int, reason: str) -> CommandResult:
        """Takes a refused output out of a stopped lane's row, and starts the lane again. The audit
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
                    f"the lane stands still for another one: {storable(row[2], KEY_CHARS_MAX)}"
                )
            dropped = outputs.pop(number)
            self.connection.execute(
                SQL["replace_outbox"], where | {"outputs": outbox.encode(outputs)}
            )
            return {"dropped": described(number, dropped), "left": len(outputs)}

        asked = {"group": group, "lane": list(lane), "number": number, "reason": reason}
        return self._act("lanes drop-output", asked, work)

    def restored(self) -> CommandResult:
        """After a restore from a backup: what is said from now on outranks all that was said before
        it.
        """

        def work() -> Row:
            row = self.connection.execute(SQL["raise_generation"]).fetchone()
            return {"generation": row[0] if row else None}

        return self._act("restored", {}, work)

    def control(
        self, group: str, *, paused: bool, rate: float | None, reason: str | None
    ) -> CommandResult:
        def work() -> Row:
            asked = {
                "group": group,
                "paused": paused,
                "rate": rate,
                "reason": reason,
                "actor": self.command.actor,
            }
            row = (
                self.connection.cursor(row_factory=dict_row)
                .execute(SQL["set_controls"], asked)
                .fetchone()
            )
            return dict(row or {})

        asked = {"group": group, "rate": rate, "reason": reason}
        return self._act("pause" if paused else "resume", asked, work)

    def replay(self, choice: DeadLetterFilter) -> CommandResult:
        return self._letters("dead replay", choice, "requested", REPLAYABLE, None)

    def discard(self, choice: DeadLetterFilter, reason: str) -> CommandResult:
        return self._letters("dead discard", choice, "discarded", DISCARDABLE, reason)

    def _letters(
        self,
        what: str,
        choice: DeadLetterFilter,
        state: str,
        allowed: Sequence[str],
        reason: str | None,
    ) -> CommandResult:
        ids = None if choice.ids is None else sorted(choice.ids)
        named = None if ids is None else [str(letter) for letter in ids]
        asked = {
            "ids": named,
            "group": choice.group,
            "code": choice.code,
            "states": list(choice.states),
            "reason": reason,
            "limit": choice.limit,
        }
        return self._act(what, asked, lambda: self._change(choice, state, allowed, reason))

    def _change(
        self, choice: DeadLetterFilter, state: str, allowed: Sequence[str], reason: str | None
    ) -> Row:
        """Inside a command: the letters, in their new state."""
        ids = None if choice.ids is None else sorted(choice.ids)
        wanted = {
            "ids": ids,
            "group": choice.group,
            "code": choice.code,
            "states": list(choice.states),
        }
        bounds = {"limit": choice.limit, "largest": RECORD_BYTES_MAX}
        chosen = self.connection.execute(
            SQL["lock_chosen_dead_letters"], wanted | bounds
        ).fetchall()
        if missing := sorted(set(ids or ()) - {letter for letter, _, _ in chosen}):
            raise DeadLetterUnknown(", ".join(map(str, missing)))
        if wrong := [f"{letter} is {now}" for letter, now, _ in chosen if now not in allowed]:
            raise DeadLetterStateRefused(", ".join(wrong))
        letters = [
            letter for letter, _, is_replayable in chosen if is_replayable or state != "requested"
        ]
        if ids is not None and (
            kept_in_part := sorted({letter for letter, _, _ in chosen} - set(letters))
        ):
            raise DeadLetterNotReplayable(", ".join(map(str, kept_in_part)))
        change = {"ids": letters, "state": state, "reason": reason, "actor": self.command.actor}
        self.connection.execute(SQL["set_dead_letter_states"], change)
        return {"letters": [str(letter) for letter in letters]}

    def _ask(self, group: str, letters: Sequence[DeadLetter]) -> None:
        """Inside a command: records that were taken, and are to be worked once more, as letters
        that are asked for.
        """
        added = PostgresTransaction(self.connection, group, CODE_VERSION).add_letters(letters)
        ids = [letter_id for letter_id, _ in added]
        change = {"ids": ids, "state": "requested", "reason": None, "actor": self.command.actor}
        self.connection.execute(SQL["set_dead_letter_states"], change)

    def _act(self, what: str, asked: Row, work: Callable[[], Row]) -> CommandResult:
        """The work and its audit row commit together. Refused work raises, and leaves neither."""
        command = {"command_id": self.command.command_id}
        with self.connection.transaction():
            self.connection.execute(SQL["lock_command"], command)
            earlier = self.connection.execute(SQL["find_command"], command).fetchone()
            if earlier is not None:
                if (earlier[0], earlier[1]) != (what, asked):
                    raise CommandReused(
                        f"{self.command.command_id} was `{earlier[0]}` at "
                        f"{earlier[3]:%Y-%m-%d %H:%M:%S} UTC"
                    )
                return CommandResult(already=True, details=earlier[2])
            details = work()
            row = {
                "actor": self.command.actor,
                "what": what,
                "details": Jsonb({"arguments": asked, "result": details}),
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


def described(number: int, output: Output) -> Row:
    """An output for people and for the audit: what it is, and never its content."""
    return {
        "number": number,
        "topic": output.topic,
        "key": storable((output.key or b"").decode("utf-8", "backslashreplace"), KEY_CHARS_MAX),
        "bytes": len(output.value or b""),
        "sha256": hashlib.sha256(output.value or b"").hexdigest(),
        "ce_id": storable(header(output.headers, "ce_id") or "", KEY_CHARS_MAX) or None,
    }


def _within(lane: LaneKey, to: int, extent: PartitionExtent | None) -> None:
    if lane == TIMER:
        raise MoveRefused(
            "the timer counts ticks, which nobody can bring back: only to where it is"
        )
    if extent is None:
        raise TopicUnknown(f"{lane.topic}/{lane.partition}")
    if not extent.low <= to <= extent.high:
        raise MoveRefused(
            f"{lane.topic}/{lane.partition} holds offsets {extent.low} to {extent.high}; {to} "
            "lies outside"
        )


@dataclass(frozen=True, slots=True)
class AdminQueries:
    """What operators look at. Changes nothing."""

    connection: Connection[TupleRow]

    def groups(self) -> set[str]:
        return {row[0] for row in self.connection.execute(SQL["known_groups"])}

    def lanes(self, group: str | None = None) -> list[Row]:
        return self._rows("list_lanes", {"group": group})

    def outputs(self, group: str, lane: LaneKey) -> list[Output]:
        """What the lane's row holds: committed, and perhaps not yet acknowledged by the broker."""
        where = {"group": group, "topic": lane.topic, "partition": lane.partition}
        row = self.connection.execute(SQL["find_outbox"], where).fetchone()
        if row is None:
            raise LaneUnknown(f"{group} {lane.topic}/{lane.partition}")
        return outbox.decode(row[0])

    def controls(self) -> list[Row]:
        return self._rows("list_controls", {})

    def letters(self, choice: DeadLetterFilter) -> list[Row]:
        asked = {
            "group": choice.group,
            "code": choice.code,
            "states": list(choice.states),
            "limit": choice.limit,
        }
        return self._rows("list_dead_letters", asked)

    def letter(self, letter_id: UUID) -> Row:
        if not (rows := self._rows("find_dead_letter", {"id": letter_id})):
            raise DeadLetterUnknown(str(letter_id))
        return rows[0]

    def letter_counts(self) -> list[Row]:
        return self._rows("count_dead_letters", {})

    def audit(self, limit: int) -> list[Row]:
        return self._rows("list_audit", {"limit": limit})

    def _rows(self, name: str, arguments: Mapping[str, Any]) -> list[Row]:
        return self.connection.cursor(row_factory=dict_row).execute(SQL[name], arguments).fetchall()
