"""`stubline topics`: what the brokers must have, and the rights that each process needs."""

from __future__ import annotations

from typing import Annotated

import typer

from schemas.topics import all_topics
from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import AsJson, ExitCode
from services.runtime.kafka.acls import PROCESSES, Acl, required_acls
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.settings import KafkaSettings
from services.runtime.settings import load

app = typer.Typer(
    no_args_is_help=True,
    help="Topics: whether the brokers have what is needed, and who may read and write them.",
)


@app.command("check")
def check_topics(*, as_json: AsJson = False) -> None:
    """Compares the brokers' topics with what is needed. Exit code 1: something differs, and
    `stubline migrate` repairs it.
    """
    findings = [finding._asdict() for finding in cli_support.broker().compare(all_topics())]
    cli_support.rows(
        findings,
        ("topic", "what", "should", "found"),
        as_json=as_json,
        empty="all topics are as needed",
    )
    if findings:
        raise typer.Exit(ExitCode.REFUSED)


@app.command("acls")
def print_acls(
    *,
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user",
            metavar="PROCESS=USER",
            help=(
                f"The Kafka user of a process ({', '.join(PROCESSES)}); repeatable. Without it: "
                "stubline-PROCESS."
            ),
        ),
    ] = None,
    as_commands: Annotated[
        bool, typer.Option("--commands", help="Lines of kafka-acls.sh instead of a table.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prints the ACLs that each process needs, and no more. Reads nothing from the brokers."""
    acls = required_acls(KafkaCluster("", load(KafkaSettings)), _users(user or []))
    if as_commands:
        for acl in acls:
            print(acl.command)  # noqa: T201 - lines to paste, which a console would wrap
        return
    cli_support.rows([acl._asdict() for acl in acls], Acl._fields, as_json=as_json)


def _users(given: list[str]) -> dict[str, str]:
    users = dict[str, str]()
    for pair in given:
        process, _, user = pair.partition("=")
        if process not in PROCESSES:
            raise typer.BadParameter(
                f"{process} is none of {', '.join(PROCESSES)}", param_hint="--user"
            )
        if not user:
            raise typer.BadParameter(f"{pair} names no user", param_hint="--user")
        users[process] = user.removeprefix("User:")
    return users
