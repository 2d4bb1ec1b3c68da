"""The page of the command `stubline`: every command with its options, taken from its parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from services.console.cli import application
from services.runtime.admin.cli_support import ExitCode

COMMON_OPTIONS = frozenset({"--json", "--help", "--actor", "--command-id"})
CODES = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: (
        "refused or failed; for `status` and `topics check`: something needs a person"
    ),
    ExitCode.USAGE: "wrong usage",
    ExitCode.UNKNOWN: "what was named does not exist",
    ExitCode.UNAVAILABLE: (
        "the database or the broker does not respond; send the same command again"
    ),
    ExitCode.CONFIGURATION: "the configuration is wrong",
}


INTRODUCTION = """# The command `stubline`

Commands print tables for people, and JSON for programs with `--json`; their exit codes are
permanent. A command that changes something takes `--actor` (default: STUBLINE_ACTOR, or the login
name) and `--command-id` (default: a new id): a repeated id is answered "done already" and changes
nothing. `stubline audit` shows who did what.

| exit code | means |
| --- | --- |
"""


def commands_page() -> str:
    text = INTRODUCTION
    text += "".join(f"| {int(code)} | {consequence} |\n" for code, consequence in CODES.items())
    return text + "".join(
        section(name, command)
        for name, command in leaves("stubline", typer.main.get_command(application()))
    )


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands below `command`, by name, without the groups that they stand in."""
    if isinstance(command, TyperGroup):
        for child in sorted(command.commands):
            yield from leaves(f"{name} {child}", command.commands[child])
    else:
        yield name, command


def section(name: str, command: Any) -> str:
    description = re.sub(r"\s+", " ", command.help or "").strip()
    options = [
        parameter
        for parameter in command.params
        if parameter.param_type_name == "option" and not COMMON_OPTIONS & set(parameter.opts)
    ]
    words = [
        usage(parameter) for parameter in command.params if parameter.param_type_name == "argument"
    ]
    words += [f"{option.opts[0]} {option.name.upper()}" for option in options if option.required]
    text = f"\n## {name}\n\n{description}\n\n    {' '.join([name, *words])}\n"
    lines = [f"- `{option.opts[0]}`: {option.help or ''}" for option in options]
    return text + ("\n" + "\n".join(lines) + "\n" if lines else "")


def usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"
