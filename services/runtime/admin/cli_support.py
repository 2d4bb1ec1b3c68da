"""Shared by all commands of `stubline`: options, tables, JSON for programs, and exit codes."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from getpass import getuser
from typing import Annotated, Any
from uuid import UUID, uuid4

import psycopg
import typer
from psycopg import Connection
from psycopg.rows import TupleRow
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.topics import GROUPS
from services.runtime import settings
from services.runtime.admin.commands import (
    AdminCommands,
    AdminQueries,
    CommandResult,
    OperatorCommand,
)
from services.runtime.admin.refusals import GroupUnknown, TargetUnknown
from services.runtime.errors import BrokerUnavailable, DatabaseUnavailable, StublineError
from services.runtime.failures import classification
from services.runtime.kafka.cluster import KafkaCluster, configured
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.postgres import connection as database
from services.runtime.text import one_line

NUMERIC = (int, float)
UUID_CHARS = 36
PIPED_CHARS = 1_000_000  # a program gets each row in one line, and nothing is cut
ARGUMENT_CHARS_MAX = 10_000


class ExitCode(IntEnum):
    """Exit codes, which scripts may rely on."""

    OK = 0
    REFUSED = 1  # refused or failed; for `status` and `topics check`: something needs a person
    USAGE = 2
    UNKNOWN = 3  # what the command names does not exist
    UNAVAILABLE = 4  # the database or the broker does not respond; send the same command again
    CONFIGURATION = settings.EX_CONFIG


def default_actor() -> str:
    """Return the person whom audit rows name: STUBLINE_ACTOR, or the login name."""
    return os.environ.get("STUBLINE_ACTOR") or getuser()


AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]
Actor = Annotated[
    str,
    typer.Option(
        "--actor",
        default_factory=default_actor,
        show_default="$STUBLINE_ACTOR or the user",
        help="Who sends the command; kept in the audit.",
    ),
]
Group = Annotated[
    str,
    typer.Argument(
        metavar="GROUP", help="A consumer group; `ingest` is short for `stubline.ingest`."
    ),
]
GroupOption = Annotated[str | None, typer.Option("--group", help="Only this consumer group.")]
CommandId = Annotated[
    UUID,
    typer.Option(
        "--command-id",
        default_factory=uuid4,
        show_default="new",
        help="Sending the same id again changes nothing.",
    ),
]


def unusable_argument(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with the command line, in one sentence, or None.

    Arguments go to the database, to file names and to the terminal.
    """
    named = [(f"argument {place}", word) for place, word in enumerate(arguments, 1)]
    named += [("STUBLINE_ACTOR", os.environ.get("STUBLINE_ACTOR", ""))]
    for name, word in named:
        if len(word) > ARGUMENT_CHARS_MAX:
            return f"{name} is longer than {ARGUMENT_CHARS_MAX} characters"
        # Python represents bytes that are not UTF-8 as lone surrogates.
        if any("\ud800" <= char <= "\udfff" for char in word):
            return f"{name} is not UTF-8"
        if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in word):
            return f"{name} holds a control character"
    return None


@contextmanager
def connected() -> Iterator[Connection[TupleRow]]:
    with database.connect(
        settings.load(settings.Servers).database_url, name="stubline tool"
    ) as connection:
        yield connection


@contextmanager
def admin_queries() -> Iterator[AdminQueries]:
    with connected() as connection:
        yield AdminQueries(connection)


@contextmanager
def admin_commands(actor: str, command_id: UUID) -> Iterator[AdminCommands]:
    with connected() as connection:
        yield AdminCommands(connection, OperatorCommand(actor, command_id))


def group_of(connection: Connection[TupleRow], name: str) -> str:
    """Return the full name of a group: `ingest` is short for `stubline.ingest`.

    Raises GroupUnknown for an unknown name, with which a command would silently do nothing.
    """
    known = AdminQueries(connection).groups() | {group.name for group in GROUPS}
    for candidate in (name, f"stubline.{name}"):
        if candidate in known:
            return candidate
    raise GroupUnknown(name)


def cluster() -> KafkaCluster:
    return configured(settings.load(settings.Servers).kafka_bootstrap_servers)


def broker() -> BrokerAdmin:
    return BrokerAdmin(cluster())


def rows(
    contents: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str = "none",
) -> None:
    """Print a table of these columns for people, or all columns as JSON for programs."""
    if as_json:
        write_json([dict(row) for row in contents])
        return
    if not contents:
        Console().print(empty, highlight=False)
        return
    is_terminal = sys.stdout.isatty()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row[column], NUMERIC) or row[column] is None for row in contents)
        is_id = any(isinstance(row[column], UUID) for row in contents)
        table.add_column(
            column.replace("_", " "),
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=is_id or not is_terminal,
            min_width=UUID_CHARS if is_id else None,
        )
    for row in contents:
        table.add_row(*(cell(row[column]) for column in columns))
    Console(width=None if is_terminal else PIPED_CHARS).print(table)


def cell(content: object) -> Text:
    """Return a cell without markup and control characters: its content may come from outside."""
    match content:
        case None:
            return Text("-", style="dim")
        case bool():
            return Text("yes" if content else "no")
        case float():
            return Text(f"{content:g}")
        case datetime():
            return Text(f"{content:%Y-%m-%d %H:%M:%S}")
        case bytes() | str():
            return Text(one_line(content))
        case _:
            return Text(one_line(str(content)))


def report_result(done: CommandResult, sentence: str, command_id: UUID, *, as_json: bool) -> None:
    """Print what a command did, or that it was done before."""
    if as_json:
        write_json({"command_id": str(command_id), "already_done": done.already, **done.details})
        return
    text = "already done; nothing was changed" if done.already else sentence
    Console(soft_wrap=True).print(
        Text(one_line(text)), Text(f"(command {command_id})", style="dim")
    )


def write_json(content: object) -> None:
    print(json.dumps(content, default=_plain, ensure_ascii=True))  # noqa: T201 - this is what the command is for


def _plain(content: object) -> str:
    if isinstance(content, datetime):
        return content.isoformat()
    return (
        content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else str(content)
    )


def error_and_exit_code(error: StublineError | psycopg.Error) -> tuple[StublineError, ExitCode]:
    """Return an error as one of the tree, and the exit code for it."""
    if isinstance(error, psycopg.Error):
        error = classification.as_stubline_error(error)
    if isinstance(error, TargetUnknown):
        return error, ExitCode.UNKNOWN
    return error, ExitCode.UNAVAILABLE if isinstance(
        error, BrokerUnavailable | DatabaseUnavailable
    ) else ExitCode.REFUSED


def report_error(error: StublineError, *, as_json: bool) -> None:
    """Print an error to stderr, so that stdout has only results."""
    if as_json:
        problem = {"code": error.code, "cause": error.cause, "next_step": error.next_step}
        print(json.dumps({"error": problem}), file=sys.stderr)  # noqa: T201 - this is what the command is for
        return
    # Soft-wrapped, so that a command stays in one piece and can be pasted.
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(error.code, style="bold red"), Text(one_line(error.cause)))
    console.print(Text(error.next_step))
