"""`stubline dead`: shows records that could not be worked, replays them, or discards them with a
reason.
"""

from __future__ import annotations

import base64
import sys
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import Actor, AsJson, CommandId, GroupOption
from services.runtime.admin.commands import AdminCommands, AdminQueries, DeadLetterSelection
from services.runtime.errors import catalogue
from services.runtime.records import unpack_headers
from services.runtime.text import one_line, quoted

app = typer.Typer(
    no_args_is_help=True,
    help="Dead letters: show them, replay them to their own group, or discard them with a reason.",
)

SHOWN_CHARS_MAX = 4_000
COLUMNS = (
    "id",
    "consumer_group",
    "topic",
    "partition",
    "offset",
    "code",
    "state",
    "attempts",
    "bytes",
    "created_at",
    "text",
)
MAIN_FIELDS = (
    "consumer_group",
    "topic",
    "partition",
    "offset",
    "record_time",
    "stage",
    "state",
    "attempts",
    "created_at",
)
OPTIONAL_FIELDS = ("updated_at", "code_version", "trace_id", "subject_key", "reason", "actor")

Code = Annotated[str | None, typer.Option("--code", help="Only dead letters with this error code.")]
Ids = Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...", help="Dead letters, by id.")]
Limit = Annotated[
    int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the oldest first.")
]
States = Annotated[
    list[str] | None,
    typer.Option("--state", help="open, requested, replayed, resolved, discarded."),
]


@app.command("list")
def list_dead_letters(
    *,
    group: GroupOption = None,
    code: Code = None,
    state: States = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Lists dead letters, the oldest first. Without --state: those that are not closed."""
    with cli_support.connected() as connection:
        chosen = cli_support.group_of(connection, group) if group else None
        states = state or ["open", "requested", "replayed"]
        dead_letters = AdminQueries(connection).dead_letters(
            DeadLetterSelection(group=chosen, code=code, states=states, limit=limit)
        )
    cli_support.rows(dead_letters, COLUMNS, as_json=as_json, empty="no dead letters")


@app.command()
def show(
    *,
    dead_letter_id: Annotated[UUID, typer.Argument(metavar="ID")],
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Only the record's bytes, as they are, for a file or another program."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Shows one dead letter: its origin, its error, the next step, and its bytes, safe to print."""
    with cli_support.connected() as connection:
        dead_letter = AdminQueries(connection).dead_letter(dead_letter_id)
    if raw:
        sys.stdout.buffer.write(dead_letter["value"] or b"")
    elif as_json:
        cli_support.write_json(_encoded(dead_letter))
    else:
        _describe(dead_letter)


@app.command()
def replay(
    *,
    actor: Actor,
    command_id: CommandId,
    ids: Ids = None,
    group: GroupOption = None,
    code: Code = None,
    state: States = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Replays dead letters to their own group: by id, or all that --group and --code select."""
    with cli_support.admin_commands(actor, command_id) as commands:
        done = commands.replay(
            _selection(commands, ids=ids, group=group, code=code, states=state, limit=limit)
        )
    count = len(done.details.get("dead_letters", ()))
    cli_support.report_result(
        done,
        f"{count} dead letters will be replayed; `stubline dead list` shows how they end.",
        command_id,
        as_json=as_json,
    )


@app.command()
def discard(
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; kept with the dead letter and in the audit.")
    ],
    actor: Actor,
    command_id: CommandId,
    ids: Ids = None,
    group: GroupOption = None,
    code: Code = None,
    state: States = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Discards dead letters that will never be worked: by id, or all that --group and --code
    select. They stay readable.
    """
    if not reason.strip():
        raise typer.BadParameter("it must not be empty", param_hint="--reason")
    with cli_support.admin_commands(actor, command_id) as commands:
        done = commands.discard(
            _selection(commands, ids=ids, group=group, code=code, states=state, limit=limit), reason
        )
    cli_support.report_result(
        done,
        f"{len(done.details.get('dead_letters', ()))} dead letters are discarded.",
        command_id,
        as_json=as_json,
    )


def _selection(
    commands: AdminCommands,
    *,
    ids: list[UUID] | None,
    group: str | None,
    code: str | None,
    states: list[str] | None,
    limit: int,
) -> DeadLetterSelection:
    if bool(ids) == bool(group or code):
        raise typer.BadParameter("name dead letters by their ids, or by --group and --code")
    chosen = cli_support.group_of(commands.connection, group) if group else None
    return DeadLetterSelection(
        ids or None, chosen, code, states or ["open"], len(ids) if ids else limit
    )


def _encoded(dead_letter: dict[str, Any]) -> dict[str, Any]:
    """Encode bytes as base64: JSON has none, and bytes from outside need not be text."""
    encoded = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in dead_letter.items()
    }
    headers = [
        [name, base64.b64encode(content or b"").decode()]
        for name, content in unpack_headers(dead_letter["headers"])
    ]
    return encoded | {"headers": headers, "next_step": _next_step(dead_letter["code"])}


def _describe(dead_letter: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        Text(f"{dead_letter['code']}", style="bold red"), Text(one_line(dead_letter["text"]))
    )
    console.print(Text(_next_step(dead_letter["code"])), end="\n\n")
    for name in (*MAIN_FIELDS, *OPTIONAL_FIELDS):
        if dead_letter[name] is not None:
            console.print(
                Text(f"{name.replace('_', ' '):<16}", style="dim"),
                cli_support.cell(dead_letter[name]),
            )
    console.print(Text(f"\n{'key':<16}", style="dim"), Text(one_line(dead_letter["key"])))
    for name, content in unpack_headers(dead_letter["headers"]):
        console.print(
            Text(f"{'header':<16}", style="dim"), Text(f"{one_line(name)}: {one_line(content)}")
        )
    value = dead_letter["value"]
    text = quoted(value)
    kept = len(value or b"")
    size, part = kept, ""
    if dead_letter["value_bytes"] is not None:
        size, part = dead_letter["value_bytes"], f", of which the first {kept} are kept"
    console.print(
        Text(
            f"\nvalue, {size} bytes{part}, SHA-256 {dead_letter['value_sha256'].hex()}", style="dim"
        )
    )
    console.print(Text(text[:SHOWN_CHARS_MAX]))
    if len(text) > SHOWN_CHARS_MAX:
        console.print(
            Text(
                f"... cut here; everything: stubline dead show --raw {dead_letter['id']}",
                style="dim",
            )
        )


def _next_step(code: str) -> str:
    known = catalogue().get(code)
    return known.next_step if known else f"See deploy/runbooks/errors.md, section {code}."
