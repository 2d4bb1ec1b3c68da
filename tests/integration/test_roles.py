"""Laws of the database roles: the rights of each by the real catalog, the rows that it sees, and
the refusal of a wrong login.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deploy.local.roles import as_role
from services.runtime.postgres import connection
from services.runtime.postgres.session import DatabaseRoleMissing, check_role
from services.runtime.postgres.statements import load
from services.runtime.process import EX_SOFTWARE
from tests.integration.test_statements import numbered

SERVICES = ("ingest", "approval", "issuer", "delivery")
ROLES = (*SERVICES, "console", "operator")
READ, WRITE = frozenset({"select"}), frozenset({"select", "insert", "update"})
ALL = frozenset({"select", "insert", "update", "delete"})
OPERATOR = {
    "runtime.lanes": {"update"},
    "runtime.generation": {"update"},
    "runtime.dead_letters": {"insert", "update"},
    "runtime.controls": {"insert", "update"},
    "runtime.audit": {"insert"},
    "issuer.campaigns": {"insert", "update"},
    "issuer.campaign_products": {"insert", "delete"},
    "issuer.due_orders": {"insert"},
    "ingest.drift_notices": {"update"},
    "ingest.kept_callbacks": {"update", "delete"},
    "ingest.callbacks": {"delete"},
    "ingest.incidents_seen": {"insert", "update"},
}
OF_SERVICES = {
    "runtime.lanes": WRITE,
    "runtime.dead_letters": WRITE,
    "runtime.controls": WRITE,
    "runtime.generation": READ,
    "runtime.migrations": READ,
}
RIGHTS = """
select nspname || '.' || relname, role, lower(privilege)
from pg_class join pg_namespace on pg_namespace.oid = relnamespace,
    unnest(%(roles)s::text[]) as role,
    unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) as privilege
where relkind in ('r', 'p', 'v', 'm')
    and nspname = any(array['runtime', 'ingest', 'approval', 'issuer', 'delivery'])
    and has_table_privilege('stubline_' || role, pg_class.oid, privilege)
"""
GROUPED = """
select relname, relrowsecurity from pg_class
join pg_attribute on attrelid = pg_class.oid and attname = 'consumer_group'
where relnamespace = 'runtime'::regnamespace and relkind = 'r'
order by relname
"""
ROWS = {
    "lanes": "insert into runtime.lanes "
    "(consumer_group, topic, partition, topic_id, next_offset, first_offset) "
    "values (%(group)s, 't', 0, 'id', 0, 0)",
    "dead_letters": "insert into runtime.dead_letters (consumer_group, topic, topic_id, "
    'partition, "offset", value_sha256, headers, stage, code, text, code_version) '
    "values (%(group)s, 't', 'id', 0, 0, sha256(''), '', 'parse', 'c', 'x', '1')",
    "controls": "insert into runtime.controls (consumer_group, actor) values (%(group)s, 'ada')",
}


def expected(role: str, table: str) -> frozenset[str]:
    if role == "console":
        return READ
    if role == "operator":
        return READ | OPERATOR.get(table, set())
    return ALL if table.startswith(f"{role}.") else OF_SERVICES.get(table, frozenset())


@pytest.fixture
def filled(database_url: str) -> str:
    """A row of every group in each table that has groups."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        for statement in ROWS.values():
            for service in SERVICES:
                owner.execute(statement.encode(), {"group": f"stubline.{service}"})
    return database_url


def test_each_role_may_do_what_it_needs_on_each_table_and_nothing_else(database_url: str) -> None:
    granted: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    with psycopg.connect(database_url) as owner:
        for table, role, privilege in owner.execute(RIGHTS.encode(), {"roles": list(ROLES)}):
            granted[role, table].add(privilege)
    tables = {table for _, table in granted}
    assert len(tables) > 20
    assert {(role, table): granted[role, table] for role in ROLES for table in tables} == {
        (role, table): expected(role, table) for role in ROLES for table in tables
    }


def test_every_table_with_groups_is_secured_by_row(database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        assert dict(owner.execute(GROUPED.encode()).fetchall()) == dict.fromkeys(sorted(ROWS), True)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("table", sorted(ROWS))
def test_a_service_reads_and_changes_the_rows_of_its_own_group_alone(
    filled: str, service: str, table: str
) -> None:
    own, name = f"stubline.{service}", sql.Identifier("runtime", table)
    with psycopg.connect(as_role(filled, service), autocommit=True) as session:
        read = session.execute(sql.SQL("select consumer_group from {}").format(name)).fetchall()
        changed = session.execute(
            sql.SQL("update {} set updated_at = now() returning consumer_group").format(name)
        ).fetchall()
        assert (read, changed) == ([(own,)], [(own,)])
        for other in (f"stubline.{other}" for other in SERVICES if other != service):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(ROWS[table].encode(), {"group": other})
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(
                    sql.SQL("update {} set consumer_group = {}").format(name, sql.Literal(other))
                )


@pytest.mark.parametrize("table", sorted(ROWS))
def test_operators_change_the_rows_of_all_groups_and_the_console_only_reads_them(
    filled: str, table: str
) -> None:
    name = sql.Identifier("runtime", table)
    change = sql.SQL("update {} set updated_at = now()").format(name)
    with psycopg.connect(as_role(filled, "operator"), autocommit=True) as session:
        assert session.execute(change).rowcount == len(SERVICES)
    with psycopg.connect(as_role(filled, "console"), autocommit=True) as session:
        assert session.execute(sql.SQL("select from {}").format(name)).rowcount == len(SERVICES)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(change)


def test_the_policy_of_a_lane_is_one_comparison_with_a_constant(filled: str) -> None:
    """No function call and no subquery per row, and the primary key still finds the lanes."""
    statements = load("services.runtime.postgres")
    with psycopg.connect(as_role(filled, "issuer"), autocommit=True) as session:
        session.execute("set enable_seqscan = off")
        for name in ("lock_lanes", "advance_lanes"):
            statement = numbered(statements[name].decode().partition("*/")[2])
            comment_free = "\n".join(
                line for line in statement.splitlines() if not line.startswith("--")
            )
            rows = session.execute(f"explain (generic_plan) {comment_free}".encode()).fetchall()
            plan = "\n".join(row[0] for row in rows)
            assert "lanes_pkey" in plan
            assert "'stubline.issuer'::text" in plan
            assert "SubPlan" not in plan
            assert "pg_has_role" not in plan


def login(owner: psycopg.Connection, url: str, name: str, *roles: str) -> str:
    """Create a login with these roles and return its URL."""
    owner.execute(f"create role {name} login password 'only-a-test'".encode())
    for role in roles:
        owner.execute(f"grant stubline_{role} to {name}".encode())
    return psycopg.conninfo.make_conninfo(url, user=name, password="only-a-test")


@pytest.mark.parametrize(
    ("module", "roles"),
    [
        ("services.issuer", ("approval",)),
        ("services.issuer", ()),
        ("services.delivery.sender", ("issuer", "console")),
    ],
)
def test_a_process_with_the_login_of_another_service_ends_and_names_its_role(
    database_url: str,
    bootstrap_servers: str,
    prefix: str,
    tmp_path: Path,
    module: str,
    roles: tuple[str, ...],
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        try:
            url = login(owner, database_url, f"{prefix}_login", *roles)
            environment = {
                **os.environ,
                "DATABASE_URL": url,
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
                "STUBLINE_DELIVERY_SMTP_URL": "smtp://127.0.0.1:1",
                "STUBLINE_DELIVERY_FILES_URL": tmp_path.as_uri(),
            }
            done = subprocess.run(
                [sys.executable, "-m", module],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        finally:
            owner.execute(f"drop role if exists {prefix}_login".encode())
    assert done.returncode == EX_SOFTWARE, done.stdout + done.stderr
    output = done.stdout + done.stderr
    assert DatabaseRoleMissing.code in output
    assert f"stubline_{module.split('.')[1]}" in output
    assert "Traceback" not in output


def test_a_login_with_the_groups_role_is_accepted_and_so_is_the_owner(
    database_url: str, prefix: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        check_role(owner, "stubline.issuer")
        try:
            with connection.connect(
                login(owner, database_url, f"{prefix}_login", "issuer"), name="law"
            ) as session:
                check_role(session, "stubline.issuer")
                with pytest.raises(DatabaseRoleMissing):
                    check_role(session, "stubline.approval")
        finally:
            owner.execute(f"drop role if exists {prefix}_login".encode())


def test_a_service_that_starts_before_the_first_migration_is_not_refused(
    database_url: str, prefix: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("drop schema runtime cascade")
        try:
            with connection.connect(
                login(owner, database_url, f"{prefix}_login"), name="law"
            ) as session:
                check_role(session, "stubline.issuer")
        finally:
            owner.execute(f"drop role if exists {prefix}_login".encode())
