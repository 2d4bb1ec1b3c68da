"""Migrates the database and the broker's topics to what this release needs. It may run twice, at
the same time, and again after a crash.

Crash: each file and its row in runtime.migrations commit together, so the next run goes on after
the last applied file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep

from psycopg import Connection
from psycopg.errors import LockNotAvailable
from psycopg.rows import TupleRow

from schemas import migrations
from schemas.migrations import ChangedMigrationError, Migration
from schemas.topics import Topic, all_topics
from services.runtime.errors import Fatal
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.topics import BrokerAdmin, TopicDifference
from services.runtime.postgres import connection as database
from services.runtime.postgres import statements

SQL = statements.load(__package__)
OTHER_MIGRATION_WAIT_S = 60.0  # for another migration to end
LOCK_WAIT_MS = 2_000  # a file that waits for a table makes all later statements on it wait
LOCK_ATTEMPTS_MAX = 15
PAUSE_S = 0.5


class DatabaseTooOld(Fatal):
    """The server lacks what the statements use."""

    code = "database-too-old"
    next_step = (
        "Stubline needs PostgreSQL 18 or later (`uuidv7()`). Upgrade the server, or point "
        "DATABASE_URL at another."
    )


class MigrationChanged(Fatal):
    """An applied file has another text now, so the state of the database is unknown."""

    code = "migration-changed"
    next_step = (
        "Put the file back as it was released (`git log -- schemas/migrations`), and "
        "write the change as a new file."
    )


class MigrationBusy(Fatal):
    """Another migration runs, or a table is in use for too long."""

    code = "migration-busy"
    next_step = (
        "`select pid, query from pg_stat_activity where state <> 'idle'` shows which session holds "
        "it. Then run the migration again."
    )


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What was done: files applied, topics created or changed."""

    applied: Sequence[str]
    topics: Sequence[TopicDifference]


def migrate(
    database_url: str,
    cluster: KafkaCluster | str | None = None,
    *,
    post: bool = False,
    topics: Sequence[Topic] | None = None,
) -> MigrationReport:
    """Apply files, roles and topics, in this order. Without a broker only the database.

    `topics`: others than the project's own.
    """
    applied = migrate_database(database_url, migrations.listing(), post=post)
    repaired: list[TopicDifference] = []
    if cluster is not None:
        repaired = BrokerAdmin(cluster).repair(all_topics() if topics is None else topics)
    return MigrationReport(applied, repaired)


def migrate_database(url: str, listing: Sequence[Migration], *, post: bool = False) -> list[str]:
    """Apply the pending files and the roles. Returns the names of the files."""
    with _exclusive(url) as connection:
        try:
            waiting = migrations.pending(listing, applied(connection), post=post)
        except ChangedMigrationError as error:
            raise MigrationChanged(str(error)) from None
        for migration in waiting:
            _retry_lock_timeouts(migration.name, partial(_apply, connection, migration))
        _retry_lock_timeouts(migrations.ROLES, partial(_grant, connection))
    return [migration.name for migration in waiting]


def applied(connection: Connection[TupleRow]) -> dict[str, str]:
    """Return the applied files' hashes by name; empty in a database that was never migrated."""
    table = connection.execute(SQL["migrations_table"]).fetchone()
    if table is None or table[0] is None:
        return {}
    return dict(connection.execute(SQL["applied_migrations"]).fetchall())


@contextmanager
def _exclusive(url: str) -> Iterator[Connection[TupleRow]]:
    """Open a session that holds the migration lock. The lock ends with the session, so a killed
    migration leaves none.
    """
    with database.connect(
        url, name="stubline migrate", transaction_timeout_ms=0, idle_ms=0, lock_ms=LOCK_WAIT_MS
    ) as connection:
        if connection.info.server_version < database.MIN_VERSION:
            raise DatabaseTooOld(
                f"the server is PostgreSQL {connection.info.server_version // 10_000}"
            )
        until = monotonic() + OTHER_MIGRATION_WAIT_S
        while connection.execute(SQL["try_migration_lock"]).fetchone() != (True,):
            if monotonic() > until:
                raise MigrationBusy(
                    f"another migration has been running for {OTHER_MIGRATION_WAIT_S:.0f} s"
                )
            sleep(PAUSE_S)
        yield connection


def _retry_lock_timeouts(name: str, work: Callable[[], None]) -> None:
    for _ in range(LOCK_ATTEMPTS_MAX):
        try:
            work()
        except LockNotAvailable:
            sleep(PAUSE_S)  # the statements that wait for our lock go first
        else:
            return
    raise MigrationBusy(
        f"{name} did not get its locks in {LOCK_ATTEMPTS_MAX} tries of {LOCK_WAIT_MS} ms"
    )


def _apply(connection: Connection[TupleRow], migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.text.encode())
        connection.execute(SQL["create_migrations_table"])
        connection.execute(
            SQL["add_migration"], {"name": migration.name, "sha256": migration.sha256}
        )


def _grant(connection: Connection[TupleRow]) -> None:
    """Apply roles, their rights and row policies in one transaction, so that no session sees half
    of them.
    """
    with connection.transaction():
        connection.execute(migrations.roles().encode())
