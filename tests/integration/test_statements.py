"""Each named statement fits the migrated schema: the server plans it, with every parameter cast,
without running it.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib.resources import files

import psycopg
import pytest

import services
from services.runtime.postgres import statements as sql
from tests.support.stack import Databases

PLANNED = re.compile(
    r"(select|insert|update|delete|with|merge|values)\b", re.IGNORECASE
)  # the rest defines something
COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
PARAMETER = re.compile(r"%\((\w+)\)[sbt]")


def statements() -> dict[str, str]:
    """Without their comments."""
    loaded = {}
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if module.ispkg and files(module.name).joinpath("queries").is_dir():
            for name, text in sql.load(module.name).items():
                loaded[f"{module.name}.{name}"] = COMMENT.sub("", text.decode()).strip()
    return loaded


def numbered(statement: str) -> str:
    """Psycopg's parameters as the server's own: the same name is the same number."""
    names = list(dict.fromkeys(PARAMETER.findall(statement)))
    return PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", statement).replace(
        "%%", "%"
    )


STATEMENTS = {name: text for name, text in statements().items() if PLANNED.match(text)}


@pytest.fixture(scope="module")
def connection(databases: Databases) -> Iterator[psycopg.Connection]:
    with databases.new() as url, psycopg.connect(url, autocommit=True) as opened:
        yield opened


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_server_can_plan_it(name: str, connection: psycopg.Connection) -> None:
    plan = connection.execute(
        f"explain (generic_plan) {numbered(STATEMENTS[name])}".encode()
    ).fetchall()
    assert plan


def test_there_are_statements_to_plan() -> None:
    assert len(STATEMENTS) > 30
