"""The real world: Kafka, PostgreSQL, and the toy's stages as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.rows import class_row, dict_row

from deploy.local.launch import __file__ as launch_file
from schemas.topics import Topic
from services.runtime.broker import Broker
from services.runtime.kafka import _sorted_out
from services.runtime.letters import unpack_headers
from services.runtime.records import LaneKey, Record
from tests.laws.evidence import Evidence, LaneFacts, LetterFacts, Sent, Spoken
from tests.laws.world import Headers, NotAtRest
from tests.toy.events import Input
from tests.toy.names import Names
from tests.toy.rules import First, Second
from tests.toy.store import tupled

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tests" / "toy" / "schema.sql"
QUICK = {"idle_check_ms": 400, "tick_interval_ms": 200, "controls_interval_ms": 200, "outage_backoff_max_ms": 1_000}
NO_PARTITION = -1  # the client chooses by the key
LANES = """
    select consumer_group as "group", topic, partition, epoch, first_offset, next_offset, gaps, rewound, effects, duplicates,
        superseded, dead, conservation_gap, unpublished is not null as has_unpublished, stopped_code, owner
    from runtime.lanes where consumer_group = any(%s) order by consumer_group, topic, partition
"""
LETTERS = """
    select id, consumer_group as "group", topic, partition, "offset", key, value, headers, code, state, attempts
    from runtime.dead_letters where consumer_group = any(%s) order by id
"""
FIRSTS = """
    select key, (select generation from runtime.generation) as generation, sequence, state, children, total, is_due,
        confirmed, answer_generation, answer_sequence, said from toy.firsts
"""
SECONDS = """
    select key, (select generation from runtime.generation) as generation, sequence, state, active, first_generation,
        first_sequence, said, array(
            select child from toy.children where children.key = seconds.key and children.active order by child
        ) as children from toy.seconds
"""


def until(what: Callable[[], str], done: Callable[[], bool], seconds: float) -> None:
    """Waits; a failure says what was still missing."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise NotAtRest(f"after {seconds:g} s: {what()}")
        time.sleep(0.05)


class Process:
    """One member. See world.Member."""

    def __init__(self, stage: str, environment: Mapping[str, str], log: Path) -> None:
        self.stage, self.log_file = stage, log
        launch = [sys.executable, "-I", "-S", launch_file, "--parent", str(os.getpid()), "--signal", "9", "--"]
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [*launch, sys.executable, "-m", "tests.toy", stage],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                cwd=ROOT,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(10)

    def pause(self) -> None:
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        self._child.send_signal(signal.SIGTERM)
        return self.wait(20)

    def wait(self, seconds: float) -> int:
        return self._child.wait(seconds)

    @property
    def is_stopped(self) -> bool:
        state = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
        return state == "T"

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")


class KafkaWorld:
    """See world.World. Its database is migrated and its own; its topics begin with its prefix."""

    def __init__(
        self,
        bootstrap_servers: str,
        database_url: str,
        prefix: str,
        folder: Path,
        *,
        partitions: int = 2,
        ticks: bool = False,
    ) -> None:
        self.names = Names(prefix)
        self.bootstrap_servers, self.database_url, self._folder = bootstrap_servers, database_url, folder
        self._partitions, self._ticks = partitions, ticks
        self.members: list[Process] = []
        self._sent: list[Sent] = []
        self._disturbed: set[str] = set()
        self._connection: psycopg.Connection[Any] | None = None
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "linger.ms": 2, "partitioner": "murmur2_random", "log_level": 0}
        )
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})

    def __enter__(self) -> Self:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(SCHEMA.read_bytes())
        Broker(self.bootstrap_servers).repair([self.topic(name) for name in self.names.topics])
        return self

    def topic(self, name: str) -> Topic:
        single = (*self.names.dead.values(), *self.names.replay.values())
        return Topic(name, "key", "tests", partitions=1 if name in single else self._partitions)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            if member.is_alive:
                member.kill()
        if self._connection is not None:
            self._connection.close()
        self.admin.delete_topics(list(self.names.topics))

    # Members.

    def start(
        self, stage: str, *, at: str = "", release: int = 1, healed: bool = False, mutate: str = "", **settings: object
    ) -> Process:
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "DATABASE_URL": str(settings.pop("database_url", self.database_url)),
            "TOY_PREFIX": self.names.prefix,
            "TOY_AT": at,
            "TOY_RELEASE": str(release),
            "TOY_HEALED": "1" if healed else "",
            "TOY_TICKS": "1" if self._ticks else "",
            "TOY_MUTATE": mutate,
            **{f"STUBLINE_TOY_{name.upper()}": str(value) for name, value in {**QUICK, **settings}.items()},
        }
        member = Process(stage, environment, self._folder / f"{stage}-{len(self.members)}.log")
        self.members.append(member)
        return member

    def wait_dead(self, member: Process, seconds: float = 20) -> None:
        until(lambda: f"{member.stage} lives\n{member.log()[-2000:]}", lambda: not member.is_alive, seconds)

    def wait_paused(self, member: Process, seconds: float = 20) -> None:
        until(lambda: f"{member.stage} runs\n{member.log()[-2000:]}", lambda: member.is_stopped, seconds)

    def wait_until_owns_all(self, *members: Process, seconds: float = 25) -> None:
        """By the rows: each lane's owner is one of these."""
        pids = {str(member.pid) for member in members}
        group = self.names.groups[members[0].stage]
        wanted = sum(self._partitions_now(topic) for topic in self._topics_of(members[0].stage))

        def owners() -> list[str]:
            rows = [it for it in self._lanes() if it.group == group and it.lane.topic != "@timer"]
            return [(it.owner or "").rpartition(":")[2] for it in rows]

        until(
            lambda: f"{group} is owned by {owners()}, wanted {wanted} lanes by {pids}",
            lambda: len(found := owners()) == wanted and set(found) == pids,
            seconds,
        )

    def _topics_of(self, stage: str) -> tuple[str, ...]:
        return (*self.names.own_inputs[stage], self.names.replay[stage])

    def _partitions_now(self, topic: str) -> int:
        return len(self.admin.list_topics(topic, timeout=10).topics[topic].partitions)

    # What is sent.

    def send(
        self, *inputs: Input, topic: str | None = None, partition: int | None = None, headers: Headers = ()
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

    def send_bytes(self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()) -> None:
        self._produce(Sent(topic, NO_PARTITION, 0, key, value, headers, None))
        self._flush()

    def _produce(self, record: Sent) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise KafkaException(error)
            self._sent.append(record._replace(partition=message.partition() or 0, offset=message.offset() or 0))

        self._producer.produce(
            record.topic,
            record.value,
            record.key,
            record.partition,
            headers=list(record.headers),
            on_delivery=delivered,
        )
        self._producer.poll(0)

    def _flush(self) -> None:
        if left := self._producer.flush(20):
            raise NotAtRest(f"{left} inputs are not acknowledged")

    def sent(self) -> Sequence[Sent]:
        return self._sent

    # What is found.

    @property
    def database(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
        return self._connection

    def rows(self, statement: str, *arguments: object) -> list[Any]:
        return self.database.execute(statement.encode(), arguments).fetchall()

    def settle(self, seconds: float = 30.0) -> None:
        missing = ["not looked at yet"]

        def at_rest() -> bool:
            try:
                missing[:] = self._unsettled()
            except (psycopg.OperationalError, KafkaException) as error:
                missing[:] = [f"{error}"]
            return not missing

        try:
            until(lambda: "; ".join(missing[:6]), at_rest, seconds)
        except NotAtRest as error:
            raise NotAtRest(f"{error}\n{self.told()}") from None

    def _unsettled(self) -> list[str]:
        """Rows first, then the ends of the logs: what the rows have published by then is in the ends."""
        rows = {(it.group, it.lane): it for it in self._lanes()}
        waits = [
            f"{it.group} {it.lane} has unpublished outputs"
            for it in rows.values()
            if it.has_unpublished and it.stopped_code is None
        ]
        waits += [
            f"letter {it[0]} is {it[1]}"
            for it in self.rows("select id, state from runtime.dead_letters where state in ('requested', 'replayed')")
        ]
        waits += [f"{it[0]} is due" for it in self.rows("select key from toy.firsts where is_due")]
        ends = self.ends()
        for stage, group in self.names.groups.items():
            for topic in self._topics_of(stage):
                for lane, (low, high) in ends.items():
                    if lane.topic == topic and high > low:
                        row = rows.get((group, lane))
                        at = row.next_offset if row else None
                        if at != high and not (row and row.stopped_code):
                            waits.append(f"{group} {lane} is at {at} of {high}")
        return waits

    def ends(self) -> dict[LaneKey, tuple[int, int]]:
        broker = Broker(self.bootstrap_servers)
        return {
            LaneKey(topic, number): (extent.low, extent.high)
            for topic in self.names.topics
            for number, extent in broker.extents(topic).items()
        }

    def _lanes(self) -> list[LaneFacts]:
        cursor = self.database.cursor(row_factory=dict_row)
        rows = cursor.execute(LANES.encode(), [list(self.names.groups.values())]).fetchall()
        return [LaneFacts(lane=LaneKey(row.pop("topic"), row.pop("partition")), **row) for row in rows]

    def lane(self, stage: str, topic: str, partition: int = 0) -> LaneFacts:
        found = [it for it in self._lanes() if it.group == self.names.groups[stage] and it.lane == (topic, partition)]
        assert found, f"no row for {stage} {topic}/{partition}"
        return found[0]

    def letters(self) -> list[LetterFacts]:
        cursor = self.database.cursor(row_factory=dict_row)
        rows = cursor.execute(LETTERS.encode(), [list(self.names.groups.values())]).fetchall()
        return [LetterFacts(**row | {"headers": unpack_headers(row["headers"])}) for row in rows]

    def evidence(self) -> Evidence:
        firsts = self.database.cursor(row_factory=class_row(First)).execute(FIRSTS.encode()).fetchall()
        seconds = self.database.cursor(row_factory=class_row(Second)).execute(SECONDS.encode()).fetchall()
        spoken = self.rows("select key, generation, sequence, state, children, total, confirmed from toy.snapshots")
        return Evidence(
            names=self.names,
            sent=self._sent,
            logs=self._logs(),
            lanes=self._lanes(),
            letters=self.letters(),
            inputs=dict(self.rows("select id, amount from toy.inputs")),
            firsts={row.key: tupled(row) for row in firsts},
            snapshots=[Spoken(*row[:4], tuple(row[4]), *row[5:]) for row in spoken],
            seconds={row.key: tupled(row) for row in seconds},
            disturbed=frozenset(self._disturbed),
        )

    def _logs(self) -> dict[LaneKey, list[Record]]:
        """Every record of every topic."""
        ends = self.ends()
        logs: dict[LaneKey, list[Record]] = {lane: [] for lane in ends}
        wanted = {lane for lane, (low, high) in ends.items() if high > low}
        settings = {"bootstrap.servers": self.bootstrap_servers, "group.id": "laws", "enable.auto.commit": False}
        with _closing(Consumer(settings | {"enable.partition.eof": True, "log_level": 0})) as consumer:
            consumer.assign([TopicPartition(*lane, ends[lane][0]) for lane in wanted])
            end = time.monotonic() + 20
            while wanted:
                assert time.monotonic() < end, f"cannot read {wanted}"
                messages = consumer.consume(1_000, 0.2)
                for message in messages:
                    error = message.error()
                    if error is not None and error.code() == KafkaError._PARTITION_EOF:
                        wanted.discard(LaneKey(message.topic() or "", message.partition() or 0))
                for lane, records in _sorted_out([it for it in messages if it.error() is None]).records.items():
                    logs[lane] += records
        return logs

    def told(self) -> str:
        """The last lines of every member's log."""
        return "\n".join(f"--- {member.log_file.name}\n{member.log()[-1500:]}" for member in self.members)


@contextmanager
def _closing(consumer: Consumer) -> Iterator[Consumer]:
    try:
        yield consumer
    finally:
        consumer.close()
