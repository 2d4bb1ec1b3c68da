"""`stubline deliveries`: the jobs of orders, sent, waiting or dead-lettered. It changes nothing.
Mounts `stubline design`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from services.delivery.cli_design import design
from services.delivery.errors import DeliveryOrderUnknown
from services.delivery.store import DeliveryQueries
from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import AsJson

app = typer.Typer(no_args_is_help=True)
deliveries = typer.Typer(
    no_args_is_help=True,
    help="Deliveries: sent, waiting, and dead (`stubline dead replay` makes these due again).",
)
app.add_typer(deliveries, name="deliveries")
app.add_typer(design, name="design")

COLUMNS = (
    "order_id",
    "job_id",
    "kind",
    "status",
    "tickets",
    "recipient",
    "envelope_recipient",
    "attempts",
    "unknown_attempts",
    "mails",
    "next_attempt_at",
    "sent_at",
    "answer",
)
States = Annotated[
    list[str] | None,
    typer.Option("--state", help="due, sent, cancelled, dead. Several may be named."),
]


@deliveries.command("list")
def list_deliveries(
    *,
    state: States = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Jobs, the latest first."""
    with cli_support.connected() as connection:
        jobs = DeliveryQueries(connection).jobs(states=state, jobs_max=limit)
    cli_support.rows(jobs, COLUMNS, as_json=as_json, empty="no deliveries")


@deliveries.command()
def show(
    *,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="As `source:external id`.")],
    as_json: AsJson = False,
) -> None:
    """All deliveries of one order, the next mail's address, and what delivery last received."""
    with cli_support.connected() as connection:
        queries = DeliveryQueries(connection)
        row, jobs = queries.order(order), queries.jobs(order_id=order, jobs_max=1_000)
    if row is None:
        raise DeliveryOrderUnknown(order)
    if as_json:
        cli_support.write_json({**row, "jobs": jobs})
        return
    cli_support.rows([row], ("order_id", "decision", "tickets", "buyer_email"), as_json=False)
    cli_support.rows(jobs, COLUMNS[1:], as_json=False, empty="no deliveries")
