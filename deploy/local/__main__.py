"""`python -m deploy.local`: the local stack by hand. The Makefile's targets call it."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.local import inspection, servers
from deploy.local.postgres import program
from deploy.local.process import StackError
from deploy.local.roles import environment_of, environment_of_command
from deploy.local.stack import STATE, Stack
from services.runtime.kafka.cluster import configured

app = typer.Typer(
    help="The local stack: Kafka, PostgreSQL and a mail server.",
    no_args_is_help=True,
    add_completion=False,
)
State = Annotated[Path, typer.Option(help="The stack's folder.")]
ANY = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command()
def up(state: State = STATE, brokers: Annotated[int, typer.Option(min=1, max=3)] = 1) -> None:
    """Start what does not run yet; it runs until `down`."""
    if servers.named_by_environment():
        print(f"nothing to start: {servers.KAFKA} and {servers.DATABASE} name your own servers")
        return
    show(Stack(state, brokers, detached=True).start())


@app.command()
def down(state: State = STATE) -> None:
    """Stop it; data and ports stay."""
    Stack(state, broker_count(state), detached=True).stop()


@app.command()
def remove(state: State = STATE) -> None:
    """Stop it and remove its data for good."""
    stack = Stack(state, broker_count(state), detached=True)
    stack.stop(immediate=True)
    stack.forget()


@app.command()
def status(state: State = STATE) -> None:
    """Show what runs."""
    show(Stack(state, broker_count(state), detached=True))


@app.command()
def env(state: State = STATE) -> None:
    """Print KEY=VALUE lines: `export $(make env)` in a shell."""
    variables = servers.environment(state)
    names = (
        servers.KAFKA,
        servers.DATABASE,
        "STUBLINE_DELIVERY_SMTP_URL",
        servers.FILES,
        servers.PLATES,
    )
    print("\n".join(f"{name}={variables[name]}" for name in names if name in variables))


@app.command(context_settings=ANY)
def run(context: typer.Context, state: State = STATE) -> None:
    """Run a command with the servers in its environment; `stubline` runs as an operator."""
    program_name, *words = context.args
    environment = servers.environment(state)
    if Path(program_name).name == "stubline":
        environment = environment_of_command(environment, words[0] if words else "")
    os.execvpe(program_name, context.args, environment)  # noqa: S606 - an argument list, no shell


@app.command(context_settings=ANY)
def psql(context: typer.Context, state: State = STATE) -> None:
    """Open psql on the database; takes psql's own options."""
    command = [str(program("psql")), servers.environment(state)[servers.DATABASE], *context.args]
    os.execv(command[0], command)  # noqa: S606 - an argument list, no shell


@app.command()
def tail(topic: str, state: State = STATE, last: Annotated[int, typer.Option(min=0)] = 10) -> None:
    """Print the last records of each partition, then new ones until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        inspection.tail(configured(servers.environment(state)[servers.KAFKA]), topic, last=last)


@app.command()
def lag(state: State = STATE) -> None:
    """Show the lag of each lane."""
    variables = servers.environment(state)
    inspection.lag(
        configured(variables[servers.KAFKA]), environment_of(variables, "console")[servers.DATABASE]
    )


def broker_count(state: Path) -> int:
    return max(1, len(list(state.glob("kafka-*/server.properties"))))


def show(stack: Stack) -> None:
    addresses = {
        **{broker.name: broker.address for broker in stack.kafka},
        "postgres": f"127.0.0.1:{stack.postgres.port}",
        "smtp": f"127.0.0.1:{stack.smtp.port}, mails in {stack.smtp.maildir}",
    }
    for server in stack.servers:
        identity = server.identity
        print(
            f"{server.name:10} {'does not run' if identity is None else f'pid {identity.pid:<7}'} "
            f"{addresses[server.name]}"
        )


if __name__ == "__main__":
    try:
        app(prog_name="python -m deploy.local")
    except StackError as error:
        sys.exit(f"stack: {error}")
