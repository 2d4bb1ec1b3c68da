"""Laws of the migration: run twice, at once, or killed in the middle, it has the same result.

The topics follow the same laws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import make_conninfo

from schemas import migrations
from schemas.migrations import Migration, Phase, arrange
from schemas.topics import MIB, Topic
from services.runtime.admin.migrate import MigrationChanged, applied, migrate, migrate_database
from services.runtime.errors import BrokerUnavailable
from services.runtime.failures import classification
from services.runtime.failures.classification import FailureKind
from services.runtime.kafka.topics import BrokerAdmin, TopicDifference
from services.runtime.postgres import connection as database
from tests.support.sessions import waiting_sessions
from tests.support.stack import ServersForTests

BASE = [migration for migration in migrations.listing() if migration.phase is Phase.PRE]


@pytest.fixture
def new_database(servers: ServersForTests, prefix: str) -> Iterator[Callable[[], str]]:
    """Return a function that creates databases without any migration."""
    created: list[str] = []
    with psycopg.connect(servers.database_url, autocommit=True) as connection:

        def make() -> str:
            created.append(f"{prefix}_{len(created)}")
            connection.execute(f"create database {created[-1]} template template0".encode())
            return make_conninfo(servers.database_url, dbname=created[-1])

        yield make
        for name in created:
            connection.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def empty(new_database: Callable[[], str]) -> str:
    return new_database()


def next_file(text: str, name: str = "toy") -> list[Migration]:
    texts = {migration.name: migration.text for migration in BASE}
    return arrange(texts | {f"{len(BASE) + 1:04}_{name}.pre.sql": text})


def names(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return list(applied(connection))


def test_a_second_run_does_nothing(empty: str) -> None:
    assert migrate(empty).applied == [migration.name for migration in BASE]
    assert migrate(empty).applied == []


def test_ten_at_once_apply_each_file_once(empty: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(lambda _: migrate_database(empty, BASE), range(10)))
    assert [name for run in runs for name in run] == [migration.name for migration in BASE]


def test_databases_of_one_cluster_create_the_roles_at_once(new_database: Callable[[], str]) -> None:
    """Roles belong to the cluster and the lock to a database, so the statement itself must cope."""
    urls = [new_database() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda url: migrate_database(url, BASE), urls))
    with psycopg.connect(urls[0]) as connection:
        fetched = connection.execute(
            "select rolname from pg_roles where rolname like 'stubline\\_%' order by 1"
        ).fetchall()
    assert [row[0] for row in fetched] == [
        f"stubline_{name}"
        for name in ("approval", "console", "delivery", "ingest", "issuer", "operator")
    ]


def test_a_role_that_another_database_is_creating_now_is_no_error(empty: str, prefix: str) -> None:
    """The statement finds no role, and meets the one of the other transaction when it writes."""
    migrate_database(empty, BASE)
    roles = migrations.roles().replace("stubline_", f"{prefix}_")
    with (
        psycopg.connect(empty) as slow,
        psycopg.connect(empty, autocommit=True) as fast,
        ThreadPoolExecutor(1) as pool,
    ):
        slow.execute(f"create role {prefix}_ingest".encode())
        creation = pool.submit(fast.execute, roles.encode())
        while not waiting_sessions(slow):
            assert not creation.done()
        slow.commit()
        creation.result(60)
        for service in ("ingest", "approval", "issuer", "delivery", "console", "operator"):
            fast.execute(f"drop owned by {prefix}_{service}; drop role {prefix}_{service}".encode())


def test_a_file_that_fails_leaves_nothing_behind_and_the_files_before_it_whole(empty: str) -> None:
    broken = next_file("create table public.half (id int); select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate_database(empty, broken)
    assert names(empty) == [migration.name for migration in BASE]
    with psycopg.connect(empty) as connection:
        assert connection.execute("select to_regclass('public.half')").fetchone() == (None,)
    fixed = next_file("create table public.half (id int);")
    assert migrate_database(empty, fixed) == [fixed[-1].name]


def test_a_file_with_another_text_is_refused(empty: str) -> None:
    migrate_database(empty, next_file("create table public.one (id int);"))
    with pytest.raises(MigrationChanged, match="toy"):
        migrate_database(empty, next_file("create table public.two (id int);"))


def test_a_file_that_waits_for_its_table_lets_others_pass(empty: str) -> None:
    migrate_database(empty, BASE)
    with (
        psycopg.connect(empty) as reader,
        psycopg.connect(empty, autocommit=True) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        reader.execute("select * from runtime.lanes")  # an open transaction: it holds the table
        waiting = pool.submit(
            migrate_database, empty, next_file("alter table runtime.lanes add column toy int;")
        )
        while not waiting_sessions(other):
            assert not waiting.done()
        other.execute("set lock_timeout = '5s'")
        # It queues after the migration until that gives way.
        other.execute("select count(*) from runtime.lanes")
        assert not waiting.done()
        reader.rollback()
        assert len(waiting.result(60)) == 1


def test_a_services_role_may_do_its_work_and_no_more(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set role stubline_issuer")
        connection.execute("select generation from runtime.generation")
        connection.execute("select 1 from runtime.lanes for update")
        for forbidden in (
            "delete from runtime.lanes",
            "delete from runtime.dead_letters",
            "update runtime.audit set actor = 'nobody'",
            "update runtime.generation set generation = 99",
            "create table runtime.mine (id int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())
        connection.execute("set role stubline_console")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("update runtime.controls set paused = true")


def test_topics_are_created_once_and_then_left_alone(bootstrap_servers: str, prefix: str) -> None:
    topics = [
        Topic(f"{prefix}.a.v1", "key", "test", partitions=3),
        Topic(f"{prefix}.b.v1", "key", "test"),
    ]
    broker = BrokerAdmin(bootstrap_servers)
    assert {difference.actual for difference in broker.repair(topics)} == {"missing"}
    assert broker.repair(topics) == []
    assert broker.compare(topics) == []
    assert {
        name: topic.partitions
        for name, topic in broker.existing(topic.name for topic in topics).items()
    } == {
        f"{prefix}.a.v1": 3,
        f"{prefix}.b.v1": 8,
    }


def test_a_topic_gets_more_partitions_and_its_settings_are_repaired(
    bootstrap_servers: str, prefix: str
) -> None:
    small = Topic(
        f"{prefix}.a.v1", "key", "test", partitions=2, retention_ms=1_000, max_message_bytes=MIB
    )
    wanted = replace(small, partitions=4, retention_ms=60_000, max_message_bytes=8 * MIB)
    broker = BrokerAdmin(bootstrap_servers)
    broker.repair([small])
    differences = [
        TopicDifference(small.name, "partitions", "4", "2"),
        TopicDifference(small.name, "retention.ms", "60000", "1000"),
        TopicDifference(small.name, "max.message.bytes", str(8 * MIB), str(MIB)),
    ]
    assert broker.compare([wanted]) == differences
    assert broker.repair([wanted]) == differences
    assert broker.compare([wanted]) == []


def test_an_installation_may_make_a_topic_larger(bootstrap_servers: str, prefix: str) -> None:
    name = f"{prefix}.a.v1"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    config = {
        "retention.ms": "60000",
        "max.message.bytes": str(20 * MIB),
        "cleanup.policy": "delete",
    }
    admin.create_topics([NewTopic(name, 12, 1, config=config)])[name].result(60)
    broker = BrokerAdmin(bootstrap_servers)
    broker.partition_offsets(name)  # waits until it is known
    assert broker.compare([Topic(name, "key", "test", retention_ms=60_000)]) == []


def test_a_topic_with_unlimited_retention_is_a_difference(
    bootstrap_servers: str, prefix: str
) -> None:
    topic = Topic(f"{prefix}.a.v1", "key", "test", partitions=1)
    broker = BrokerAdmin(bootstrap_servers)
    broker.repair([replace(topic, retention_ms=-1)])
    assert broker.compare([topic]) == [
        TopicDifference(topic.name, "retention.ms", str(topic.retention_ms), "-1")
    ]


def test_extents_follow_what_is_written(bootstrap_servers: str, prefix: str) -> None:
    topic = Topic(f"{prefix}.a.v1", "key", "test", partitions=2)
    broker = BrokerAdmin(bootstrap_servers)
    assert broker.partition_offsets(topic.name) == {}
    broker.repair([topic])
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for _ in range(3):
        producer.produce(topic.name, b"x", partition=1)
    assert producer.flush(10) == 0
    assert broker.partition_offsets(topic.name) == {0: (0, 0, 0), 1: (0, 3, 3)}


def test_an_unavailable_broker_is_reported() -> None:
    with pytest.raises(BrokerUnavailable):
        BrokerAdmin("127.0.0.1:1", timeout_s=0.5).brokers()


def test_a_connection_bounds_all_its_waits(database_url: str) -> None:
    with database.connect(database_url, name="law") as connection:
        shown = {
            name: (connection.execute(f"show {name}".encode()).fetchone() or ("",))[0]
            for name in (
                "transaction_timeout",
                "idle_in_transaction_session_timeout",
                "lock_timeout",
                "timezone",
                "application_name",
            )
        }
    assert list(shown.values()) == ["3s", "2s", "1500ms", "UTC", "law"]


@pytest.mark.parametrize(
    ("transaction_timeout_ms", "lock_ms", "statement"),
    [
        (200, 1_500, "select pg_sleep(2)"),
        (3_000, 100, "select * from runtime.generation for update"),
    ],
)
def test_a_wait_that_is_cut_short_is_a_transient_error(
    transaction_timeout_ms: int, lock_ms: int, statement: str, database_url: str
) -> None:
    with psycopg.connect(database_url) as holder:
        holder.execute("select * from runtime.generation for update")
        with (
            pytest.raises(psycopg.Error) as raised,
            database.connect(
                database_url,
                name="law",
                transaction_timeout_ms=transaction_timeout_ms,
                lock_ms=lock_ms,
            ) as connection,
        ):
            connection.execute(statement.encode())
    assert classification.classify_error(raised.value) in {
        FailureKind.TRANSIENT,
        FailureKind.TOO_SLOW,
    }
