"""The system under test in memory: members take steps one after the other, and the clock moves only
when one waits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from schemas.envelope import Output
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.worker import Worker
from services.runtime.ports import Controls
from services.runtime.records import LaneKey
from services.runtime.settings import LaneSettings
from services.runtime.testing import (
    FakeBroker,
    FakeBrokerClient,
    FakeClock,
    FakeDatabase,
    FakeLaneStore,
    FakeSession,
    classify_fake_error,
)
from tests.protocol.laws.system import RELEASE, Headers, NotSettledError
from tests.protocol.laws.system_state import (
    DeadLetterFacts,
    LaneFacts,
    SentRecord,
    SnapshotFacts,
    SystemState,
)
from tests.protocol.toy.events import ToyInput
from tests.protocol.toy.memory import MemoryStore
from tests.protocol.toy.names import NAMES
from tests.protocol.toy.sabotage import QuietSaboteur, Sabotage, Switches
from tests.protocol.toy.service import STAGES, Release

QUICK = {
    "batch_linger_ms": 0,
    "idle_check_ms": 400,
    "tick_interval_ms": 200,
    "controls_interval_ms": 200,
    "backoff_max_ms": 1_000,
}


class KilledError(BaseException):
    """Ends a member at a named point: no `except Exception` on the way catches it."""


class FakeMember:
    """See system.Member."""

    def __init__(
        self,
        stage: str,
        name: str,
        worker: Worker[FakeSession],
        client: FakeBrokerClient,
        telemetry: QuietSaboteur,
    ) -> None:
        self.stage, self.name = stage, name
        self.worker, self.client, self.telemetry = worker, client, telemetry
        self.is_alive, self.is_paused = True, False

    def step(self) -> None:
        if not self.is_alive or self.is_paused:
            return
        try:
            self.worker.step()
        except KilledError:
            self.kill()

    def kill(self) -> None:
        """Kill it. What its producer holds is lost; requests in flight are not."""
        self.is_alive = False
        self.client.pending.clear()

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def stop(self) -> int:
        self.is_alive = False
        return 0 if self.worker.stop() else 75


class FakeSystem:
    """See system.System. `broker` and `database` may be broken in more ways than a real one."""

    def __init__(self, *, partitions: int = 2) -> None:
        self.names = NAMES
        self.clock = FakeClock()
        self.broker, self.database = FakeBroker(self.clock), FakeDatabase()
        self.members: list[FakeMember] = []
        self._sent: list[SentRecord] = []
        self._incomplete_topics: set[str] = set()
        self._was_fixed = False
        single = (*NAMES.dead.values(), *NAMES.replay.values())
        for topic in NAMES.topics:
            self.broker.create_topic(topic, 1 if topic in single else partitions)

    # Members.

    def start(
        self, stage: str, *, at: str = "", release: Release = RELEASE, **settings: object
    ) -> FakeMember:
        group = NAMES.groups[stage]
        client, telemetry = FakeBrokerClient(self.broker, group), QuietSaboteur(Switches(at, _do))
        known: dict[str, Any] = {**QUICK, **settings}
        context = WorkerContext(
            service=STAGES[stage](MemoryStore, release),
            broker=client,
            lane_store=FakeLaneStore(self.database, group),
            settings=LaneSettings(**known),
            telemetry=telemetry,
            classify=classify_fake_error,
            clock=self.clock,
            wall_clock=self.clock,
            rng=random.random,
        )
        self._was_fixed |= release.is_fixed
        member = FakeMember(
            stage, f"{stage}-{len(self.members)}", Worker(context), client, telemetry
        )
        self.members.append(member)
        return member

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.step()

    def step(self) -> None:
        """Let each member take one step."""
        self.clock.sleep(0.001)
        for member in self.members:
            member.step()

    def until(self, what: str, done: Callable[[], bool], seconds: float = 120.0) -> None:
        end = self.clock.now + seconds
        while not done():
            if self.clock.now > end:
                raise NotSettledError(f"after {seconds:g} s: {what}")
            self.step()

    def settle(self, seconds: float = 120.0) -> None:
        end = self.clock.now + seconds
        while waits := self._unsettled():
            if self.clock.now > end:
                raise NotSettledError(f"after {seconds:g} s: {'; '.join(waits[:6])}")
            for _ in range(5):
                self.step()

    def _unsettled(self) -> list[str]:
        rows = {
            (group, lane): row
            for (group, lane), row in self.database.rows.items()
            if row.stopped_code is None
        }
        waits = [
            f"{lane} has an outbox" for (_, lane), row in rows.items() if row.outbox is not None
        ]
        dead_letters = self.database.dead_letters.items()
        waits += [
            f"dead letter {key} is {dead_letter.state}"
            for key, dead_letter in dead_letters
            if dead_letter.state in {"requested", "replayed"}
        ]
        waits += [
            f"{row.key} is due"
            for row in self.database.tables.get("firsts", {}).values()
            if row.is_due
        ]
        for stage, group in NAMES.groups.items():
            for topic in (*NAMES.own_inputs[stage], NAMES.replay[stage]):
                held = self.broker.topics.get(topic)
                for partition, entries in enumerate(held.partitions if held else []):
                    row = self.database.rows.get((group, LaneKey(topic, partition)))
                    last = max((entry.offset for entry in entries if entry is not None), default=-1)
                    if (row is None and entries) or (
                        row and not row.stopped_code and row.next_offset <= last
                    ):
                        waits.append(
                            f"{group} {topic}/{partition} is at {row and row.next_offset} of "
                            f"{last + 1}"
                        )
        return waits

    # Input.

    def send(
        self,
        *inputs: ToyInput,
        topic: str | None = None,
        partition: int | None = None,
        headers: Headers = (),
    ) -> None:
        for input_ in inputs:
            where = topic or self.names.inputs[sum(input_.id.encode()) % 2]
            self._append(
                SentRecord(where, 0, 0, input_.key.encode(), input_.value(), headers, input_),
                partition,
            )

    def send_bytes(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()
    ) -> None:
        self._append(SentRecord(topic, 0, 0, key, value, headers, None), None)

    def _append(self, record: SentRecord, partition: int | None) -> None:
        output = Output(record.topic, record.key, record.value, list(record.headers))
        lane = self.broker.append(output, partition)
        offset = len(self.broker.topics[lane.topic].partitions[lane.partition]) - 1
        self._sent.append(record._replace(partition=lane.partition, offset=offset))

    # Faults.

    @contextmanager
    def broker_unavailable(self) -> Iterator[None]:
        self.broker.is_unavailable = True
        yield
        self.broker.is_unavailable = False

    @contextmanager
    def database_unavailable(self) -> Iterator[None]:
        self.database.is_unavailable = True
        yield
        self.database.is_unavailable = False

    def recreate_topic(self, topic: str) -> None:
        partitions = len(self.broker.topics[topic].partitions)
        self.broker.delete_topic(topic)
        self.broker.create_topic(topic, partitions)
        self._forget(topic)

    def _forget(self, topic: str) -> None:
        self._incomplete_topics.add(topic)

    def delete_records(self, lane: LaneKey, before: int) -> None:
        self.broker.delete_records(lane, before)
        entries = self.broker.topics[lane.topic].partitions[lane.partition]
        entries[:before] = [None] * before
        self._forget(lane.topic)

    def add_partitions(self, total: int) -> None:
        for topic in (*self.names.inputs, *self.names.outputs.values()):
            self.broker.add_partitions(topic, total)

    # Commands of operators.

    def rewind(self, stage: str, lane: LaneKey, to: int) -> None:
        self.database.move(NAMES.groups[stage], lane, to)

    def skip(self, stage: str, lane: LaneKey) -> None:
        self.database.move(
            NAMES.groups[stage], lane, self.broker.topics[lane.topic].low[lane.partition]
        )

    def accept_topic(self, stage: str, topic: str) -> None:
        group, topic_id = NAMES.groups[stage], self.broker.topics[topic].topic_id
        for key, row in list(self.database.rows.items()):
            if key[0] == group and key[1].topic == topic and row.topic_id != topic_id:
                self.database.move(group, key[1], 0)
                self.database.rows[key] = replace(self.database.rows[key], topic_id=topic_id)

    def control(self, stage: str, *, paused: bool, rate: float | None = None) -> None:
        group = NAMES.groups[stage]
        kept = self.database.controls.get(group, Controls(False, None)).rate_limit_per_s
        self.database.controls[group] = Controls(paused, kept if rate is None else rate or None)

    def is_paused(self, stage: str) -> bool:
        return self.database.controls.get(NAMES.groups[stage], Controls(False, None)).paused

    def request_replays(self, dead_letters: Sequence[UUID]) -> None:
        for dead_letter in dead_letters:
            row = self.database.dead_letters[dead_letter]
            assert row.state in {"open", "replayed"}
            row.state = "requested"

    def restored(self) -> None:
        self.database.generation += 1

    # SystemState.

    def lanes(self, stage: str) -> list[LaneFacts]:
        return [lane for lane in self._lanes() if lane.group == NAMES.groups[stage]]

    def _lanes(self) -> list[LaneFacts]:
        owners = {
            (NAMES.groups[member.stage], lane.key): member.name
            for member in self.members
            if member.is_alive
            for lane in member.worker.assignment
            if lane.epoch >= 0
            and (NAMES.groups[member.stage], lane.key) in self.database.rows
            and lane.epoch == self.database.rows[NAMES.groups[member.stage], lane.key].epoch
        }
        return [
            LaneFacts(
                group=group,
                lane=lane,
                epoch=row.epoch,
                first_offset=row.first_offset,
                next_offset=row.next_offset,
                gaps=row.gaps,
                rewound=row.rewound,
                effects=row.effects,
                duplicates=row.duplicates,
                superseded=row.superseded,
                dead=row.dead,
                conservation_gap=row.conservation_gap,
                has_outbox=row.outbox is not None,
                stopped_code=row.stopped_code,
                owner=owners.get((group, lane)),
            )
            for (group, lane), row in sorted(self.database.rows.items(), key=lambda item: item[0])
        ]

    def dead_letters(self, stage: str = "first") -> list[DeadLetterFacts]:
        return [
            dead_letter
            for dead_letter in self._dead_letters()
            if dead_letter.group == NAMES.groups[stage]
        ]

    def _dead_letters(self) -> list[DeadLetterFacts]:
        return [
            DeadLetterFacts(
                key,
                self.database.dead_letter_groups[key],
                *row.dead_letter.record[:3],
                row.dead_letter.record.key,
                row.dead_letter.record.value,
                row.dead_letter.record.headers,
                row.code,
                row.state,
                row.attempts,
            )
            for key, row in self.database.dead_letters.items()
        ]

    def state(self) -> SystemState:
        tables = self.database.tables
        generation = self.database.generation
        return SystemState(
            names=self.names,
            sent=self._sent,
            logs={
                LaneKey(name, number): [record for record in entries if record is not None]
                for name, topic in self.broker.topics.items()
                for number, entries in enumerate(topic.partitions)
            },
            lanes=self._lanes(),
            dead_letters=self._dead_letters(),
            inputs=tables.get("inputs", {}),
            firsts={
                key: replace(row, generation=generation)
                for key, row in tables.get("firsts", {}).items()
            },
            snapshots=[SnapshotFacts(*place) for place in tables.get("snapshots", {}).values()],
            seconds={
                key: replace(row, generation=generation)
                for key, row in tables.get("seconds", {}).items()
            },
            incomplete_topics=frozenset(self._incomplete_topics),
            was_fixed=self._was_fixed,
        )


def _do(action: str) -> None:
    match action:
        case "kill":
            raise KilledError
        case "raise":
            raise Sabotage("as the test requested")
        case _:
            raise ValueError(f"{action}: not in memory")
