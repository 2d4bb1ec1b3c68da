"""Laws of the logs: a line is a JSON object, and the contents of a record are in none."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis.strategies import (
    binary,
    booleans,
    characters,
    dictionaries,
    floats,
    integers,
    lists,
    none,
    recursive,
    text,
)

from services.runtime.observability import logs

words = text(characters())
fields = recursive(
    none() | booleans() | integers() | floats(allow_nan=False) | words | binary(),
    lambda inner: lists(inner, max_size=3) | dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    stream = io.StringIO()
    logs.configure("toy", level="DEBUG", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logs.configure("tests")


@given(
    dictionaries(text(characters(), min_size=1).map(lambda name: f"x{name}"), fields, max_size=4)
)
def test_whatever_is_logged_is_one_line_of_json(content: dict[str, Any]) -> None:
    stream = io.StringIO()
    logs.configure("toy", stream=stream)
    logs.get("lanes").info("it happened", **content)
    written = stream.getvalue()
    assert written.count("\n") == 1
    line = json.loads(written)
    assert (line["event"], line["component"], line["service"], line["level"]) == (
        "it happened",
        "lanes",
        "toy",
        "info",
    )
    assert "\\u0000" not in written
    written.encode()  # no lone surrogate


@pytest.mark.parametrize("name", sorted(logs.NEVER_LOGGED))
def test_contents_and_secrets_are_never_logged(
    name: str, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    logs.get("lanes").info("it happened", **{name: "ada@example.com"})
    assert lines()[0][name] == "(not logged)"


def test_bytes_are_counted_and_not_shown(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.get("lanes").info("it happened", raw=b"ada@example.com")
    assert lines()[0]["raw"] == "(15 bytes)"


def test_an_error_shows_where_it_stood_and_not_its_values(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    def fail(secret: str) -> None:
        raise ValueError(f"failed with {len(secret)} characters")

    try:
        fail("ada@example.com")
    except ValueError:
        logs.get("lanes").error("it failed", exc_info=True)
    line = lines()[0]
    assert line["error"] == "ValueError: failed with 15 characters"
    assert line["where"][-1].endswith(" fail")
    assert "ada" not in json.dumps(line)


def test_a_databases_error_is_logged_without_the_row_that_it_quotes() -> None:
    class UniqueViolation(psycopg.errors.UniqueViolation):
        class diag:  # noqa: N801 - psycopg's name
            message_primary = "duplicate key value violates unique constraint"

    error = UniqueViolation("duplicate key\nDETAIL:  Key (mail)=(ada@example.com) already exists.")
    assert (
        logs.describe(error)
        == "UniqueViolation: duplicate key value violates unique constraint (23505)"
    )


def test_a_librarys_warning_goes_the_same_way(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logging.getLogger("library").warning("beware of %s", "the dog")
    line = lines()[0]
    assert (line["event"], line["component"], line["level"]) == (
        "beware of the dog",
        "library",
        "warning",
    )


def test_below_the_level_nothing_is_written() -> None:
    stream = io.StringIO()
    logs.configure("toy", level="WARNING", stream=stream)
    logs.get("lanes").info("it happened")
    assert not stream.getvalue()
