"""The real world: Kafka, PostgreSQL, and the toy's stages as processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)
from psycopg.rows import class_row, dict_row

from deploy.local.stack import Stack
from schemas.topics import Topic
from services.runtime.admin.commands import AdminCommands, DeadLetterFilter, OperatorCommand
from services.runtime.errors import BrokerUnavailable
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.loop.dead_letters import unpack_headers
from services.runtime.records import LaneKey, Record
from tests.protocol.laws.evidence import Evidence, LaneFacts, LetterFacts, Sent, Spoken
from tests.protocol.laws.member import Process
from tests.protocol.laws.world import RELEASE, Headers, NotAtRestError
from tests.protocol.toy.events import Input
from tests.protocol.toy.names import Names
from tests.protocol.toy.rules import First, Second
from tests.protocol.toy.service import Release
from tests.protocol.toy.store import tupled
from tests.support.logs import read_lanes, read_logs
from tests.support.proxy import Proxy
from tests.support.stack import Servers

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tests" / "toy" / "schema.sql"
QUICK = {
    "idle_check_ms": 400,
    "tick_interval_ms": 200,
    "controls_interval_ms": 200,
    "outage_backoff_max_ms": 1_000,
}
NO_PARTITION = -1  # the client chooses by the key
LANES = """
    select consumer_group as "group", topic, partition, epoch, first_offset, next_offset, gaps, rewound, effects, duplicates,
        superseded, dead, conservation_gap, outbox is not null as has_unpublished, stopped_code,
        owner
    from runtime.lanes where consumer_group = any(%s) order by consumer_group, topic, partition
"""
LETTERS = """
    select id, consumer_group as "group", topic, partition, "offset", key, value, headers, code, state, attempts
    from runtime.dead_letters where consumer_group = any(%s) order by id
"""
FIRSTS = """
    select key, (select generation from runtime.generation) as generation, sequence, state, children, total, is_due,
        confirmed, answer_generation, answer_sequence, digest from toy.firsts
"""
SECONDS = """
    select key, (select generation from runtime.generation) as generation, sequence, state, active, first_generation,
        first_sequence, digest, array(
            select child from toy.children where children.key = seconds.key and children.active order by child
        ) as children from toy.seconds
"""


class KafkaWorld:
    """See world.World. Its database is migrated and its own; its topics begin with its prefix."""

    def __init__(
        self,
        servers: Servers,
        database_url: str,
        prefix: str,
        folder: Path,
        *,
        partitions: int = 2,
    ) -> None:
        self.names = Names(prefix)
        self.bootstrap_servers, self.database_url, self._folder = (
            servers.bootstrap_servers,
            database_url,
            folder,
        )
        self._servers, self.partitions = servers, partitions
        self.proxy: Proxy | None = (
            None  # through which members that are started from now on reach the database
        )
        self.mutation = (
            ""  # of members that are started from now on: a name in tests/protocol/toy/mutate.py
        )
        self.members: list[Process] = []
        self._sent: list[Sent] = []
        self._disturbed: set[str] = set()
        self._was_mended = False
        self._connection: psycopg.Connection[Any] | None = None
        self._producer = self._new_producer()
        self.broker = BrokerAdmin(self.bootstrap_servers)
        self.admin = self._new_admin()

    @property
    def _stack(self) -> Stack:
        if self._servers.stack is None:
            pytest.skip("stops servers, and those of the environment are not ours to stop")
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

    def _new_admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def compress(self, codec: str) -> None:
        """What the world sends from now on."""
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
    ) -> Process:
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "DATABASE_URL": self.proxy.url(self.database_url) if self.proxy else self.database_url,
            "TOY_PREFIX": self.names.prefix,
            "TOY_AT": at,
            "TOY_RELEASE": str(release.number),
            "TOY_MENDED": "1" if release.is_mended else "",
            "TOY_TICKS": "1" if release.ticks else "",
            "TOY_MUTATION": self.mutation,
            **{
                f"STUBLINE_TOY_{name.upper()}": str(value)
                for name, value in {**QUICK, **settings}.items()
            },
        }
        self._was_mended |= release.is_mended
        member = Process(stage, environment, self._folder / f"{stage}-{len(self.members)}.log")
        self.members.append(member)
        return member

    def run(self, seconds: float) -> None:
        time.sleep(seconds)

    def until(self, what: str, done: Callable[[], bool], seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise NotAtRestError(f"after {seconds:g} s: {what}\n{self.told()}")
            time.sleep(0.05)

    # What is sent.

    def send(
        self,
        *inputs: Input,
        topic: str | None = None,
        partition: int | None = None,
        headers: Headers = (),
    ) -> None:
        for told in inputs:
            where = topic or self.names.inputs[sum(told.id.encode()) % 2]
            self._produce(
                Sent(
                    where,
                    NO_PARTITION if partition is None else partition,
                    0,
                    told.key.encode(),
                    told.value(),
                    headers,
                    told,
                )
            )
        self._flush()

    def send_bytes(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()
    ) -> None:
        self._produce(Sent(topic, NO_PARTITION, 0, key, value, headers, None))
        self._flush()

    def send_in_transaction(self, *inputs: Input, topic: str, abort: bool = False) -> None:
        """Kafka's own transactions: nobody of ours uses them, and their markers take offsets."""
        settings = {
            "bootstrap.servers": self.bootstrap_servers,
            "transactional.id": f"{uuid4()}",
            "log_level": 0,
        }
        producer, placed = Producer(settings), list[Sent]()
        producer.init_transactions(20)
        producer.begin_transaction()
        for told in inputs:
            self._produce(
                Sent(topic, NO_PARTITION, 0, told.key.encode(), told.value(), (), told),
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
        self, record: Sent, producer: Producer | None = None, placed: list[Sent] | None = None
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
            raise NotAtRestError(f"{left} inputs are not acknowledged")

    def sent(self) -> Sequence[Sent]:
        return self._sent

    # What the world does.

    @contextmanager
    def broker_away(self) -> Iterator[None]:
        for broker in self._stack.kafka:
            broker.stop(immediate=True)
        try:
            yield
        finally:
            for broker in self._stack.kafka:
                broker.start()

    @contextmanager
    def database_away(self) -> Iterator[None]:
        self._stack.postgres.stop(immediate=True)
        try:
            yield
        finally:
            self._stack.postgres.start()

    @contextmanager
    def broker_paused(self) -> Iterator[None]:
        """It answers nobody, and hangs up on nobody either."""
        for broker in self._stack.kafka:
            broker.pause()
        try:
            yield
        finally:
            for broker in self._stack.kafka:
                broker.resume()

    @contextmanager
    def forbidden(self, kind: ResourceType, name: str) -> Iterator[None]:
        """Somebody else has a right to read it, so we have none."""
        assert self._stack.kafka  # other servers need not keep rights
        who = (
            kind,
            name,
            ResourcePatternType.LITERAL,
            "User:somebody-else",
            "*",
            AclOperation.READ,
        )
        right = AclBinding(*who, AclPermissionType.ALLOW)
        for answer in self.admin.create_acls([right]).values():
            answer.result(60)
        try:
            yield
        finally:
            for answer in self.admin.delete_acls(
                [AclBindingFilter(*who, AclPermissionType.ALLOW)]
            ).values():
                answer.result(60)

    def segment_of(self, lane: LaneKey) -> Path:
        """The file in which the broker keeps a partition's first records."""
        data = self._stack.kafka[0].folder / "data"
        return data / f"{lane.topic}-{lane.partition}" / "00000000000000000000.log"

    def recreate_topic(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(60)
        self.until(f"{topic} is gone", lambda: not self.broker.standing([topic]))
        self.broker.repair([self._topic(topic)])
        self._disturbed.add(topic)

    def delete_records(self, lane: LaneKey, before: int) -> None:
        place = TopicPartition(*lane, before)
        self.admin.delete_records([place])[TopicPartition(*lane)].result(60)
        self._disturbed.add(lane.topic)

    def add_partitions(self, total: int) -> None:
        grown = [
            NewPartitions(topic, total) for topic in (*self.names.inputs, *self.names.said.values())
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
        """By the broker: the controller answers before every broker has heard of it."""
        return len(self.admin.list_topics(topic, timeout=10).topics[topic].partitions)

    # What operators do.

    @property
    def _desk(self) -> AdminCommands:
        return AdminCommands(self.database, OperatorCommand("the laws", uuid4()))

    def rewind(self, stage: str, lane: LaneKey, to: int) -> None:
        extent = self.broker.extents(lane.topic).get(lane.partition)
        self._desk.rewind(self.names.groups[stage], lane, to=to, extent=extent)

    def skip(self, stage: str, lane: LaneKey) -> None:
        extent = self.broker.extents(lane.topic)[lane.partition]
        self._desk.skip(self.names.groups[stage], lane, to=None, extent=extent, reason="the laws")

    def accept_topic(self, stage: str, topic: str) -> None:
        standing = self.broker.standing([topic])[topic]
        self._desk.accept_topic(
            self.names.groups[stage], topic, standing.topic_id, self.broker.extents(topic)
        )

    def control(self, stage: str, *, paused: bool, rate: float | None = None) -> None:
        self._desk.control(self.names.groups[stage], paused=paused, rate=rate, reason="the laws")

    def is_paused(self, stage: str) -> bool:
        found = self.rows(
            "select paused from runtime.controls where consumer_group = %s",
            self.names.groups[stage],
        )
        return bool(found and found[0][0])

    def ask_for(self, letters: Sequence[UUID]) -> None:
        self._desk.replay(DeadLetterFilter(ids=letters))

    def restored(self) -> None:
        self._desk.restored()

    # What is found.

    @property
    def database(self) -> psycopg.Connection[Any]:
        """A connection that lives: servers are restarted here."""
        if self._connection is not None:
            with suppress(psycopg.OperationalError):
                self._connection.execute("select 1")
                return self._connection
            self._connection.close()
        self._connection = psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
        return self._connection

    def rows(self, statement: str, *arguments: object) -> list[Any]:
        return self.database.execute(statement.encode(), arguments).fetchall()

    def settle(self, seconds: float = 120.0) -> None:
        waits = ["not looked at yet"]
        end = time.monotonic() + seconds
        while waits:
            if time.monotonic() > end:
                raise NotAtRestError(f"after {seconds:g} s: {'; '.join(waits[:6])}\n{self.told()}")
            time.sleep(0.05)
            try:
                waits = self._unsettled()
            except (psycopg.OperationalError, KafkaException, BrokerUnavailable) as error:
                waits = [f"{error}"]
                self.admin = (
                    self._new_admin()
                )  # the old one may keep asking with a leader's epoch that is over

    def _unsettled(self) -> list[str]:
        """Rows first, then the ends of the logs: what the rows have published by then is in the
        ends.
        """
        rows = {(it.group, it.lane): it for it in self._lanes()}
        waits = [
            f"{it.group} {it.lane} has unpublished outputs"
            for it in rows.values()
            if it.has_unpublished and it.stopped_code is None
        ]
        waits += [
            f"letter {it[0]} is {it[1]}"
            for it in self.rows(
                "select id, state from runtime.dead_letters where state in ('requested', "
                "'replayed')"
            )
        ]
        waits += [f"{it[0]} is due" for it in self.rows("select key from toy.firsts where is_due")]
        return waits or self._behind(rows)

    def _behind(self, rows: Mapping[tuple[str, LaneKey], LaneFacts]) -> list[str]:
        waits = []
        for lane, (low, high) in self.ends().items():
            for group in (self.names.groups[stage] for stage in self.names.readers[lane.topic]):
                row = rows.get((group, lane))
                at = row.next_offset if row else None
                if high > low and at != high and not (row and row.stopped_code):
                    waits.append(f"{group} {lane} is at {at} of {high}")
        return waits

    def ends(self) -> dict[LaneKey, tuple[int, int]]:
        """(low, high) of every partition, in three questions."""
        standing = self.broker.standing(self.names.topics)
        lanes = [
            LaneKey(topic, number)
            for topic, it in standing.items()
            for number in range(it.partitions)
        ]
        low, high = (
            self._offsets(lanes, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        return {lane: (low[lane], high[lane]) for lane in lanes}

    def _offsets(self, lanes: Sequence[LaneKey], spec: OffsetSpec) -> dict[LaneKey, int]:
        asked = self.admin.list_offsets(
            {TopicPartition(*lane): spec for lane in lanes}, request_timeout=10
        )
        return {
            LaneKey(place.topic, place.partition): answer.result(60).offset
            for place, answer in asked.items()
        }

    def _lanes(self) -> list[LaneFacts]:
        cursor = self.database.cursor(row_factory=dict_row)
        rows = cursor.execute(LANES.encode(), [list(self.names.groups.values())]).fetchall()
        return [
            LaneFacts(lane=LaneKey(row.pop("topic"), row.pop("partition")), **row) for row in rows
        ]

    def lanes(self, stage: str) -> list[LaneFacts]:
        return [it for it in self._lanes() if it.group == self.names.groups[stage]]

    def letters(self, stage: str = "first") -> list[LetterFacts]:
        return [it for it in self._letters() if it.group == self.names.groups[stage]]

    def _letters(self) -> list[LetterFacts]:
        cursor = self.database.cursor(row_factory=dict_row)
        rows = cursor.execute(LETTERS.encode(), [list(self.names.groups.values())]).fetchall()
        return [LetterFacts(**row | {"headers": unpack_headers(row["headers"])}) for row in rows]

    def records(self, topic: str) -> list[Record]:
        """Everything that a topic holds."""
        return [
            record for log in read_logs(self.bootstrap_servers, [topic]).values() for record in log
        ]

    def evidence(self) -> Evidence:
        firsts = (
            self.database.cursor(row_factory=class_row(First)).execute(FIRSTS.encode()).fetchall()
        )
        seconds = (
            self.database.cursor(row_factory=class_row(Second)).execute(SECONDS.encode()).fetchall()
        )
        spoken = self.rows(
            "select key, generation, sequence, state, children, total, confirmed from toy.snapshots"
        )
        return Evidence(
            names=self.names,
            sent=self._sent,
            logs=read_lanes(self.bootstrap_servers, self.ends()),
            lanes=self._lanes(),
            letters=self._letters(),
            inputs=dict(self.rows("select id, amount from toy.inputs")),
            firsts={row.key: tupled(row) for row in firsts},
            snapshots=[
                Spoken(key, generation, sequence, state, tuple(children), total, confirmed)
                for key, generation, sequence, state, children, total, confirmed in spoken
            ],
            seconds={row.key: tupled(row) for row in seconds},
            disturbed=frozenset(self._disturbed),
            was_mended=self._was_mended,
        )

    def told(self) -> str:
        """The last lines of every member's log, and where it is."""
        for member in self.members:
            member.dump()
        time.sleep(0.2)
        return "\n".join(
            f"--- {member.log_file.name}\n{member.log()[-1500:]}" for member in self.members
        )
