"""The servers that tests use: one local stack a run, and new databases for the price of a copy.

Tests make the names of topics and groups unique (`prefix`), so that one broker serves all of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from deploy.local import servers
from deploy.local.stack import Stack
from services.runtime.admin.migrate import migrate


@dataclass(frozen=True, slots=True)
class ServersForTests:
    """The environment's servers, or a stack's. Some laws need a stack, which can be stopped."""

    bootstrap_servers: str
    database_url: str
    stack: Stack | None = None


@contextlib.contextmanager
def servers_for_tests() -> Iterator[ServersForTests]:
    if servers.named_by_environment():
        yield ServersForTests(os.environ[servers.KAFKA], os.environ[servers.DATABASE])
        return
    with Stack.temporary() as stack:
        yield ServersForTests(stack.bootstrap_servers, stack.database_url, stack)


@dataclass(slots=True)
class Databases:
    """Databases that are copies of a migrated one: some 50 ms each instead of all migrations."""

    url: str
    name: str = field(default_factory=lambda: f"test_{secrets.token_hex(4)}")
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _template: str = ""

    @contextlib.contextmanager
    def new(self) -> Iterator[str]:
        """Create a migrated database, and drop it afterwards whatever is still connected."""
        name = f"{self.name}_{next(self._numbers)}"
        self._create(name, self._migrated())
        try:
            yield self._url(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        if self._template:
            self._drop(self._template)

    def _migrated(self) -> str:
        if not self._template:
            name = f"{self.name}_template"
            self._create(name, "template0")
            migrate(self._url(name), post=True)
            self._template = name
        return self._template

    def _url(self, name: str) -> str:
        return make_conninfo(self.url, dbname=name)

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("create database {} template {}").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        self._execute(statement)

    def _drop(self, name: str) -> None:
        self._execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement)
