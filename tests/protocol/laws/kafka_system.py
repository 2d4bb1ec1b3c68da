"""The system under test on real servers: Kafka, PostgreSQL, and the toy's stages as processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    NewPartitions,
    ResourcePatternType,
    ResourceType,
)
from psycopg.rows import class_row

from deploy.local.stack import Stack
from schemas.topics import Topic
from services.runtime.admin.commands import AdminCommands, DeadLetterSelection, OperatorCommand
from services.runtime.errors import BrokerUnavailable
from services.runtime.records import LaneKey
from tests.protocol.laws.kafka_reader import KafkaReader
from tests.protocol.laws.stage_process import StageProcess
from tests.protocol.laws.system import RELEASE, Headers, NotSettledError
from tests.protocol.laws.system_state import LaneFacts, SentRecord, SnapshotFacts, SystemState
from tests.protocol.toy.events import ToyInput
from tests.protocol.toy.names import Names
from tests.protocol.toy.rules import First, Second
from tests.protocol.toy.service import Release
from tests.protocol.toy.store import tupled
from tests.support.logs import read_lanes
from tests.support.proxy import Proxy
from tests.support.stack import ServersForTests

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "tests" / "protocol" / "toy" / "schema.sql"
QUICK = {
    "idle_check_ms": 400,
    "tick_interval_ms": 200,
    "controls_interval_ms": 200,
    "backoff_max_ms": 1_000,
}
NO_PARTITION = -1  # the client chooses by the key
FIRSTS = """
    select key, (select generation from runtime.generation) as generation, sequence, state,
        children, total, is_due, confirmed, answer_generation, answer_sequence, digest
    from toy.firsts
"""
SECONDS = """
    select key, (select generation from runtime.generation) as generation, sequence, state,
        active, first_generation, first_sequence, digest,
        array(
            select child from toy.children
            where children.key = seconds.key and children.active order by child
        ) as children
    from toy.seconds
"""


class KafkaSystem(KafkaReader):
    """See system.System. It has its own migrated database, and topics with its own prefix."""

    def __init__(
        self,
        servers: ServersForTests,
        database_url: str,
        prefix: str,
        folder: Path,
        *,
        partitions: int = 2,
    ) -> None:
        super().__init__(servers.bootstrap_servers, database_url, Names(prefix))
        self._folder = folder
        self._servers, self.partitions = servers, partitions
        # Through it, members that are started from now on reach the database.
        self.proxy: Proxy | None = None
        # Of members that are started from now on: a name in tests/protocol/toy/mutate.py.
        self.mutation = ""
        self.members: list[StageProcess] = []
        self._sent: list[SentRecord] = []
        self._incomplete_topics: set[str] = set()
        self._was_fixed = False
        self._producer = self._new_producer()

    @property
    def _stack(self) -> Stack:
        if self._servers.stack is None:
            pytest.skip("stops servers, and servers that the environment names must not be stopped")
        return self._servers.stack

    def __enter__(self) -> Self:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(SCHEMA.read_bytes())
        self.broker.repair([self._topic(name) for name in self.names.topics])
        return self

    def _topic(self, name: str) -> Topic:
        single = (*self.names.dead.values(), *self.names.replay.values())
        return Topic(name, "key", "tests", partitions=1 if name in single else self.partitions)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members:
            if member.is_alive:
                member.kill()
        if self._connection is not None:
            self._connection.close()
        self.admin.delete_topics(list(self.names.topics))

    def compress(self, codec: str) -> None:
        """Compress what is sent from now on."""
        self._producer = self._new_producer(**{"compression.type": codec})

    def _new_producer(self, **more: str) -> Producer:
        return Producer(
            {
                **more,
                "bootstrap.servers": self.bootstrap_servers,
                "linger.ms": 2,
                "message.max.bytes": 8 * 2**20,
                "partitioner": "murmur2_random",
                "log_level": 0,
            }
        )

    # Members.

    def start(
        self,
        stage: str,
        *,
        at: str = "",
        release: Release = RELEASE,
        **settings: object,
    ) -> StageProcess:
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "DATABASE_URL": self.proxy.url(self.database_url) if self.proxy else self.database_url,
            "TOY_PREFIX": self.names.prefix,
            "TOY_AT": at,
            "TOY_RELEASE": str(release.number),
            "TOY_FIXED": "1" if release.is_fixed else "",
            "TOY_TICKS": "1" if release.ticks else "",
            "TOY_MUTATION": self.mutation,
            **{
                f"STUBLINE_TOY_{name.upper()}": str(value)
                for name, value in {**QUICK, **settings}.items()
            },
        }
        self._was_fixed |= release.is_fixed
        member = StageProcess(stage, environment, self._folder / f"{stage}-{len(self.members)}.log")
        self.members.append(member)
        return member

    def run(self, seconds: float) -> None:
        time.sleep(seconds)

    def until(self, what: str, done: Callable[[], bool], seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise NotSettledError(f"after {seconds:g} s: {what}\n{self.logs_tail()}")
            time.sleep(0.05)

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
            self._produce(
                SentRecord(
                    where,
                    NO_PARTITION if partition is None else partition,
                    0,
                    input_.key.encode(),
                    input_.value(),
                    headers,
                    input_,
                )
            )
        self._flush()

    def send_bytes(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()
    ) -> None:
        self._produce(SentRecord(topic, NO_PARTITION, 0, key, value, headers, None))
        self._flush()

    def send_in_transaction(self, *inputs: ToyInput, topic: str, abort: bool = False) -> None:
        """Send in a Kafka transaction, which Stubline never does: its marker takes an offset."""
        settings = {
            "bootstrap.servers": self.bootstrap_servers,
            "transactional.id": f"{uuid4()}",
            "log_level": 0,
        }
        producer, placed = Producer(settings), list[SentRecord]()
        producer.init_transactions(20)
        producer.begin_transaction()
        for input_ in inputs:
            self._produce(
                SentRecord(topic, NO_PARTITION, 0, input_.key.encode(), input_.value(), (), input_),
                producer,
                placed,
            )
        producer.flush(20)
        if abort:
            producer.abort_transaction(20)
            return
        producer.commit_transaction(20)
        self._sent += placed

    def _produce(
        self,
        record: SentRecord,
        producer: Producer | None = None,
        placed: list[SentRecord] | None = None,
    ) -> None:
        producer, placed = producer or self._producer, self._sent if placed is None else placed

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise KafkaException(error)
            placed.append(
                record._replace(partition=message.partition() or 0, offset=message.offset() or 0)
            )

        producer.produce(
            record.topic,
            record.value,
            record.key,
            record.partition,
            headers=list(record.headers),
            on_delivery=delivered,
        )
        producer.poll(0)

    def _flush(self) -> None:
        if left := self._producer.flush(20):
            raise NotSettledError(f"{left} inputs are not acknowledged")

    def sent(self) -> Sequence[SentRecord]:
        return self._sent

    # Faults.

    @contextmanager
    def broker_unavailable(self) -> Iterator[None]:
        for broker in self._stack.kafka:
            broker.stop(immediate=True)
        try:
            yield
        finally:
            for broker in self._stack.kafka:
                broker.start()

    @contextmanager
    def database_unavailable(self) -> Iterator[None]:
        self._stack.postgres.stop(immediate=True)
        try:
            yield
        finally:
            self._stack.postgres.start()

    @contextmanager
    def broker_paused(self) -> Iterator[None]:
        """Stop the broker like SIGSTOP: it responds to no request, and closes no connection."""
        for broker in self._stack.kafka:
            broker.pause()
        try:
            yield
        finally:
            for broker in self._stack.kafka:
                broker.resume()

    @contextmanager
    def forbidden(self, kind: ResourceType, name: str) -> Iterator[None]:
        """Grant another user the right to read it, so that we have none."""
        assert self._stack.kafka  # other servers need not keep rights
        entry = (
            kind,
            name,
            ResourcePatternType.LITERAL,
            "User:somebody-else",
            "*",
            AclOperation.READ,
        )
        right = AclBinding(*entry, AclPermissionType.ALLOW)
        for answer in self.admin.create_acls([right]).values():
            answer.result(60)
        try:
            yield
        finally:
            for answer in self.admin.delete_acls(
                [AclBindingFilter(*entry, AclPermissionType.ALLOW)]
            ).values():
                answer.result(60)

    def segment_of(self, lane: LaneKey) -> Path:
        """The file in which the broker keeps a partition's first records."""
        data = self._stack.kafka[0].folder / "data"
        return data / f"{lane.topic}-{lane.partition}" / "00000000000000000000.log"

    def recreate_topic(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(60)
        self.until(f"{topic} is deleted", lambda: not self.broker.existing([topic]))
        self.broker.repair([self._topic(topic)])
        self._incomplete_topics.add(topic)

    def delete_records(self, lane: LaneKey, before: int) -> None:
        place = TopicPartition(*lane, before)
        self.admin.delete_records([place])[TopicPartition(*lane)].result(60)
        self._incomplete_topics.add(lane.topic)

    def add_partitions(self, total: int) -> None:
        grown = [
            NewPartitions(topic, total)
            for topic in (*self.names.inputs, *self.names.outputs.values())
        ]
        for answer in self.admin.create_partitions(grown).values():
            answer.result(60)
        topics = [new.topic for new in grown]
        self.until(
            "partitions", lambda: all(self._partitions_of(topic) == total for topic in topics)
        )
        self.partitions = total
        self._producer = self._new_producer()  # one that knows them at once

    def _partitions_of(self, topic: str) -> int:
        """Ask the broker: the controller responds before every broker knows of a change."""
        return len(self.admin.list_topics(topic, timeout=10).topics[topic].partitions)

    # Commands of operators.

    @property
    def _commands(self) -> AdminCommands:
        return AdminCommands(self.database, OperatorCommand("the laws", uuid4()))

    def rewind(self, stage: str, lane: LaneKey, to: int) -> None:
        offsets = self.broker.partition_offsets(lane.topic).get(lane.partition)
        self._commands.rewind(self.names.groups[stage], lane, to=to, offsets=offsets)

    def skip(self, stage: str, lane: LaneKey) -> None:
        offsets = self.broker.partition_offsets(lane.topic)[lane.partition]
        self._commands.skip(
            self.names.groups[stage], lane, to=None, offsets=offsets, reason="the laws"
        )

    def accept_topic(self, stage: str, topic: str) -> None:
        description = self.broker.existing([topic])[topic]
        self._commands.accept_topic(
            self.names.groups[stage],
            topic,
            description.topic_id,
            self.broker.partition_offsets(topic),
        )

    def control(self, stage: str, *, paused: bool, rate: float | None = None) -> None:
        self._commands.control(
            self.names.groups[stage], paused=paused, rate=rate, reason="the laws"
        )

    def is_paused(self, stage: str) -> bool:
        fetched = self.rows(
            "select paused from runtime.controls where consumer_group = %s",
            self.names.groups[stage],
        )
        return bool(fetched and fetched[0][0])

    def request_replays(self, dead_letters: Sequence[UUID]) -> None:
        self._commands.replay(DeadLetterSelection(ids=dead_letters))

    def restored(self) -> None:
        self._commands.restored()

    # What is found.

    def settle(self, seconds: float = 120.0) -> None:
        waits = ["not checked yet"]
        end = time.monotonic() + seconds
        while waits:
            if time.monotonic() > end:
                raise NotSettledError(
                    f"after {seconds:g} s: {'; '.join(waits[:6])}\n{self.logs_tail()}"
                )
            time.sleep(0.05)
            try:
                waits = self._unsettled()
            except (psycopg.OperationalError, KafkaException, BrokerUnavailable) as error:
                waits = [f"{error}"]
                # The old one may go on sending requests with an old leader epoch.
                self.admin = self.new_admin()

    def _unsettled(self) -> list[str]:
        """Read rows first, then the ends of the logs, so that the ends include what the rows
        published.
        """
        rows = {(row.group, row.lane): row for row in self._lanes()}
        waits = [
            f"{row.group} {row.lane} has an outbox"
            for row in rows.values()
            if row.has_outbox and row.stopped_code is None
        ]
        waits += [
            f"dead letter {row[0]} is {row[1]}"
            for row in self.rows(
                "select id, state from runtime.dead_letters where state in ('requested', "
                "'replayed')"
            )
        ]
        waits += [
            f"{row[0]} is due" for row in self.rows("select key from toy.firsts where is_due")
        ]
        return waits or self._lanes_with_lag(rows)

    def _lanes_with_lag(self, rows: Mapping[tuple[str, LaneKey], LaneFacts]) -> list[str]:
        waits = []
        for lane, (low, high) in self.ends().items():
            for group in (self.names.groups[stage] for stage in self.names.readers[lane.topic]):
                row = rows.get((group, lane))
                at = row.next_offset if row else None
                if high > low and at != high and not (row and row.stopped_code):
                    waits.append(f"{group} {lane} is at {at} of {high}")
        return waits

    def state(self) -> SystemState:
        firsts = (
            self.database.cursor(row_factory=class_row(First)).execute(FIRSTS.encode()).fetchall()
        )
        seconds = (
            self.database.cursor(row_factory=class_row(Second)).execute(SECONDS.encode()).fetchall()
        )
        snapshots = self.rows(
            "select key, generation, sequence, state, children, total, confirmed from toy.snapshots"
        )
        return SystemState(
            names=self.names,
            sent=self._sent,
            logs=read_lanes(self.bootstrap_servers, self.ends()),
            lanes=self._lanes(),
            dead_letters=self._dead_letters(),
            inputs=dict(self.rows("select id, amount from toy.inputs")),
            firsts={row.key: tupled(row) for row in firsts},
            snapshots=[
                SnapshotFacts(key, generation, sequence, state, tuple(children), total, confirmed)
                for key, generation, sequence, state, children, total, confirmed in snapshots
            ],
            seconds={row.key: tupled(row) for row in seconds},
            incomplete_topics=frozenset(self._incomplete_topics),
            was_fixed=self._was_fixed,
        )

    def logs_tail(self) -> str:
        """Return the last lines of every member's log, with its stack."""
        for member in self.members:
            member.dump()
        time.sleep(0.2)
        return "\n".join(
            f"--- {member.log_file.name}\n{member.log()[-1500:]}" for member in self.members
        )
