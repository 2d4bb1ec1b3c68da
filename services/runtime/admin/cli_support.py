"""What all commands of `stubline` share: options, tables for people, JSON for programs, and exit
codes that never change.
"""

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
from services.runtime import failures, settings
from services.runtime.admin.commands import (
    AdminCommands,
    AdminQueries,
    CommandResult,
    OperatorCommand,
)
from services.runtime.admin.refusals import GroupUnknown, TargetUnknown
from services.runtime.errors import BrokerUnavailable, DatabaseUnavailable, StublineError
from services.runtime.kafka.cluster import KafkaCluster, configured
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.postgres import connection as database
from services.runtime.text import one_line

NUMERIC = (int, float)
UUID_CHARS = 36
PIPED_CHARS = 1_000_000  # a program gets each row in one line, with nothing cut
ARGUMENT_CHARS_MAX = 10_000


class ExitCode(IntEnum):
    """What a script may rely on."""

    OK = 0
    REFUSED = 1  # refused or failed; for `status` and `topics check`: something needs a person
    USAGE = 2
    UNKNOWN = 3  # what the command names does not exist
    AWAY = 4  # the database or the broker does not answer; the same command may be sent again
    CONFIGURATION = settings.EX_CONFIG


def default_actor() -> str:
    """Audit rows name a person: STUBLINE_ACTOR, or who is logged in."""
    return os.environ.get("STUBLINE_ACTOR") or getuser()


AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]
Actor = Annotated[
    str,
    typer.Option(
        "--actor",
        default_factory=default_actor,
        show_default="$STUBLINE_ACTOR or the user",
        help="Who asks; stands in the audit.",
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
        help="The same id again changes nothing.",
    ),
]


def unusable_argument(arguments: Sequence[str]) -> str | None:
    """What is wrong with the command's words, in one sentence: they go to the database, to file
    names and to the terminal.
    """
    named = [(f"argument {place}", word) for place, word in enumerate(arguments, 1)]
    named += [("STUBLINE_ACTOR", os.environ.get("STUBLINE_ACTOR", ""))]
    for name, word in named:
        if len(word) > ARGUMENT_CHARS_MAX:
            return f"{name} is longer than {ARGUMENT_CHARS_MAX} characters"
        if any(
            "\ud800" <= it <= "\udfff" for it in word
        ):  # how Python keeps bytes that are no UTF-8
            return f"{name} is no UTF-8"
        if any(unicodedata.category(it) == "Cc" and it not in "\n\t" for it in word):
            return f"{name} holds a control character"
    return None


@contextmanager
def connected() -> Iterator[Connection[TupleRow]]:
    with database.connect(
        settings.load(settings.Servers).database_url, name="stubline tool"
    ) as connection:
        yield connection


@contextmanager
def reader() -> Iterator[AdminQueries]:
    with connected() as connection:
        yield AdminQueries(connection)


@contextmanager
def desk(actor: str, command_id: UUID) -> Iterator[AdminCommands]:
    with connected() as connection:
        yield AdminCommands(connection, OperatorCommand(actor, command_id))


def group_of(connection: Connection[TupleRow], name: str) -> str:
    """`ingest` is short for `stubline.ingest`. A name that nobody knows is refused: it would act on
    nothing, in silence.
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
    found: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str = "none",
) -> None:
    """A table of these columns for people; for programs every column there is."""
    if as_json:
        write_json([dict(row) for row in found])
        return
    if not found:
        Console().print(empty, highlight=False)
        return
    is_terminal = sys.stdout.isatty()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row[column], NUMERIC) or row[column] is None for row in found)
        is_id = any(isinstance(row[column], UUID) for row in found)
        table.add_column(
            column.replace("_", " "),
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=is_id or not is_terminal,
            min_width=UUID_CHARS if is_id else None,
        )
    for row in found:
        table.add_row(*(cell(row[column]) for column in columns))
    Console(width=None if is_terminal else PIPED_CHARS).print(table)


def cell(content: object) -> Text:
    """Never markup and never a control character: what is shown may have come from a stranger."""
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


def told(done: CommandResult, sentence: str, command_id: UUID, *, as_json: bool) -> None:
    """What a command did, or that an earlier sending of it had done it."""
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


def explained(error: StublineError | psycopg.Error) -> tuple[StublineError, ExitCode]:
    """One error of the tree, and how the command ends."""
    if isinstance(error, psycopg.Error):
        error = failures.explained(error)
    if isinstance(error, TargetUnknown):
        return error, ExitCode.UNKNOWN
    return error, ExitCode.AWAY if isinstance(
        error, BrokerUnavailable | DatabaseUnavailable
    ) else ExitCode.REFUSED


def report(error: StublineError, *, as_json: bool) -> None:
    """On stderr, so that stdout stays what was asked for."""
    if as_json:
        problem = {"code": error.code, "cause": error.cause, "next_step": error.next_step}
        print(json.dumps({"error": problem}), file=sys.stderr)  # noqa: T201 - this is what the command is for
        return
    console = Console(
        stderr=True, highlight=False, soft_wrap=True
    )  # a command must stay in one piece, to be pasted
    console.print(Text(error.code, style="bold red"), Text(one_line(error.cause)))
    console.print(Text(error.next_step))
