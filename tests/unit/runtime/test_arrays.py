"""The server reads a batch's arrays as they were written: each element, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from services.runtime.postgres import arrays
from tests.support.stack import ServersForTests

TEXTS = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
HARD = some.sampled_from(
    [
        "",
        "NULL",
        "null",
        '"',
        "\\",
        '\\"',
        "{}",
        "{",
        ",",
        " ",
        "a,b",
        "\n",
        "\t",
        "'",
        "é",
        "{null}",
    ]
)


@pytest.fixture(scope="module")
def connection(servers: ServersForTests) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.database_url, autocommit=True) as opened:
        yield opened


@given(some.lists(TEXTS | HARD | some.none(), max_size=6) | some.lists(TEXTS | HARD, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_arrive_as_they_are(
    connection: psycopg.Connection, elements: list[str | None]
) -> None:
    assert connection.execute("select %s::text[]", [arrays.texts(elements)]).fetchone() == (
        elements,
    )


@given(some.lists(some.integers(-(2**63), 2**63 - 1) | some.none(), max_size=6))
def test_numbers_arrive_as_they_are(
    connection: psycopg.Connection, elements: list[int | None]
) -> None:
    assert connection.execute("select %s::bigint[]", [arrays.plain(elements)]).fetchone() == (
        elements,
    )


def test_booleans_arrive_as_they_are(connection: psycopg.Connection) -> None:
    sent = arrays.plain([True, None, False])
    assert connection.execute("select %s::boolean[]", [sent]).fetchone() == ([True, None, False],)


@pytest.mark.parametrize("elements", [["a\0b", "c"], ["\0"], ["a", None, "b\0"]])
def test_a_nul_is_refused_and_never_splits_an_element(
    connection: psycopg.Connection, elements: list[str | None]
) -> None:
    with pytest.raises(psycopg.DataError):
        connection.execute("select %s::text[]", [arrays.texts(elements)])
