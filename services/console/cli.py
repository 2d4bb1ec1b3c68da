"""The command `stubline`: the commands of all installed services under one name.

Exit codes, which never change: 0 done; 1 refused or failed; 2 wrong usage; 3 what was named does
not exist; 4 the database or the broker is unavailable, and the same command may be sent again; 78
the configuration is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

import psycopg
import typer

from services.runtime.admin import cli_support
from services.runtime.errors import StublineError

HELP = "Stubline turns paid orders into uniquely numbered tickets, exactly once."
EPILOG = (
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 unknown name, 4 database or broker "
    "unavailable (send the same command again), 78 wrong configuration."
)


def application() -> typer.Typer:
    """Return the application, with the services' commands in the order of their names."""
    app = typer.Typer(
        name="stubline",
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry in sorted(entry_points(group="stubline.commands"), key=lambda entry: entry.name):
        app.add_typer(entry.load())
    return app


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code.

    An unexpected error is a defect and keeps its traceback.
    """
    if (problem := cli_support.unusable_argument(arguments)) is not None:
        print(f"usage: {problem}", file=sys.stderr)  # noqa: T201 - as the parser itself does
        return cli_support.ExitCode.USAGE
    try:
        application()(args=list(arguments), prog_name="stubline")
    except (StublineError, psycopg.Error) as error:
        explained, code = cli_support.explained(error)
        cli_support.report(explained, as_json="--json" in arguments)
        return code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return cli_support.ExitCode.OK


def main() -> None:
    """The entry point of the package."""
    raise SystemExit(run(sys.argv[1:]))
