"""The issuer's commands in `stubline`: campaigns and tickets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.issuer import campaign_file
from services.issuer.commands import CampaignCommands, IssuerQueries
from services.issuer.rules.campaigns import CampaignDefinition
from services.runtime.admin import cli_support, preflight
from services.runtime.admin.cli_support import Actor, AsJson, CommandId
from services.runtime.admin.commands import OperatorCommand

app = typer.Typer(no_args_is_help=True)
campaigns = typer.Typer(
    no_args_is_help=True, help="Campaigns: what numbers belong to, and which products they take."
)
app.add_typer(campaigns, name="campaigns")
tickets = typer.Typer(no_args_is_help=True, help="Tickets: their numbers and their holders.")
app.add_typer(tickets, name="tickets")

CAMPAIGNS = (
    "campaign_id",
    "name",
    "status",
    "mode",
    "version",
    "issued",
    "capacity",
    "date",
    "applied_at",
)
TICKETS = (
    "order_id",
    "line_id",
    "ordinal",
    "campaign_id",
    "number",
    "status",
    "holder_name",
    "holder_email",
    "recipient_email",
    "issued_at",
)
COUNTS = ("issued", "active", "won", "cancelled", "refund_due")


@campaigns.command("apply")
def apply_campaigns(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML; each campaign begins with [[campaign]].")
    ],
    actor: Actor,
    command_id: CommandId,
    as_json: AsJson = False,
) -> None:
    """Applies all campaigns of a file, or none. Lines that wait for them are issued then.

    Each design is laid out for its campaign first, so that a design that cannot be printed is
    refused here and not at the ticket.
    """
    definitions = campaign_file.read(file)
    preflight.run_all("campaign", [definition.snapshot() for definition in definitions])
    with cli_support.connected() as connection:
        result = CampaignCommands(connection, OperatorCommand(actor, command_id)).apply(definitions)
    applied = [
        f"{campaign['campaign_id']} {campaign['change']}, version {campaign['version']}"
        for campaign in result.details.get("campaigns", ())
    ]
    due = result.details.get("due_orders", 0)
    sentence = (
        f"{'; '.join(applied)}. "
        f"{f'{due} waiting orders are due.' if due else 'No order waits for them.'}"
    )
    cli_support.report_result(result, sentence, command_id, as_json=as_json)


@campaigns.command("list")
def list_campaigns(*, as_json: AsJson = False) -> None:
    """Lists all campaigns, and how many numbers each has issued."""
    with cli_support.connected() as connection:
        stored = IssuerQueries(connection).campaigns()
    cli_support.rows(
        stored, CAMPAIGNS, as_json=as_json, empty="no campaign yet: `stubline campaigns apply FILE`"
    )


@campaigns.command("show")
def show_campaign(
    *,
    campaign: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Its id.")],
    as_json: AsJson = False,
) -> None:
    """Shows one campaign as it was applied, and what became of its numbers."""
    with cli_support.connected() as connection:
        stored = IssuerQueries(connection).campaign(campaign)
    if as_json:
        cli_support.write_json(stored)
        return
    # A definition that an earlier release stored may lack keys.
    definition = {key: stored["definition"].get(key, "") for key in CampaignDefinition.model_fields}
    fields = {"version": stored["version"], **definition, **{name: stored[name] for name in COUNTS}}
    shown = [
        {"key": key, "content": ", ".join(content) if isinstance(content, list) else content}
        for key, content in fields.items()
    ]
    cli_support.rows(shown, ("key", "content"), as_json=False)


@tickets.command("list")
def list_tickets(
    *,
    order: Annotated[str | None, typer.Option("--order", help="Its id, such as shop:4711.")] = None,
    campaign: Annotated[str | None, typer.Option("--campaign", help="Its id.")] = None,
    email: Annotated[
        str | None, typer.Option("--email", help="The purchaser's; guests too.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000)] = 200,
    as_json: AsJson = False,
) -> None:
    """Lists the tickets of an order, a campaign or a purchaser, and the paid ordinals without one.

    Codes are never shown.
    """
    if order is None and campaign is None and email is None:
        raise typer.BadParameter("give --order, --campaign or --email")
    with cli_support.connected() as connection:
        listed = IssuerQueries(connection).tickets(
            order=order, campaign=campaign, email=email, limit=limit
        )
    cli_support.rows(listed, TICKETS, as_json=as_json, empty="no ticket")
