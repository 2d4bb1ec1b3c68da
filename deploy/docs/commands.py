"""The page of `stubline`: every command with its options, from the parser that reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from services.console.cli import application
from services.runtime.admin.cli_support import ExitCode

EVERYWHERE = frozenset({"--json", "--help", "--actor", "--command-id"})
CODES = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: (
        "refused or failed; for `status` and `topics check`: something needs a person"
    ),
    ExitCode.USAGE: "wrong usage",
    ExitCode.UNKNOWN: "what was named does not exist",
    ExitCode.UNAVAILABLE: "the database or the broker does not respond; send the same command again",
    ExitCode.CONFIGURATION: "the configuration is wrong",
}


def commands_page() -> str:
    text = (
        "# The command `stubline`\n\nTables for people, `--json` for programs, and exit codes "
        "that never change. What changes "
        "something takes `--actor` (default: STUBLINE_ACTOR, or who is logged in) and "
        "`--command-id` (default: a new one): the "
        "same id sent again answers that it was done, and changes nothing. `stubline audit` shows "
        "who did what.\n\n"
        "| exit code | means |\n| --- | --- |\n"
    )
    text += "".join(f"| {int(code)} | {meaning} |\n" for code, meaning in CODES.items())
    return text + "".join(
        section(name, command)
        for name, command in every("stubline", typer.main.get_command(application()))
    )


def every(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Commands, not the groups that they stand in, by name."""
    if isinstance(command, TyperGroup):
        for child in sorted(command.commands):
            yield from every(f"{name} {child}", command.commands[child])
    else:
        yield name, command


def section(name: str, command: Any) -> str:
    told = re.sub(r"\s+", " ", command.help or "").strip()
    options = [
        it
        for it in command.params
        if it.param_type_name == "option" and not EVERYWHERE & set(it.opts)
    ]
    words = [usage(it) for it in command.params if it.param_type_name == "argument"]
    words += [f"{it.opts[0]} {it.name.upper()}" for it in options if it.required]
    text = f"\n## {name}\n\n{told}\n\n    {' '.join([name, *words])}\n"
    lines = [f"- `{it.opts[0]}`: {it.help or ''}" for it in options]
    return text + ("\n" + "\n".join(lines) + "\n" if lines else "")


def usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"
