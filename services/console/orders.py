"""`stubline orders`: an order through every stage. It only reads, and never shows codes."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.text import Text

from schemas.orders import State
from services.console.store import list_orders, read_order
from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import AsJson
from services.runtime.text import one_line

app = typer.Typer(no_args_is_help=True)
orders = typer.Typer(
    no_args_is_help=True, help="Orders: what is known, decided, issued and delivered."
)
app.add_typer(orders, name="orders")

STATES = get_args(State)
COLUMNS = (
    "order_id",
    "number",
    "state",
    "reasons",
    "refund_due_tickets",
    "suspected_duplicates",
    "decided_at",
)
PARTS = {  # part -> the columns of its table
    "lookalikes": ("order_id", "number", "state", "placed_at"),
    "facts": ("fact", "summary", "version"),
    "decisions": ("at", "sequence", "state", "reasons"),
    "tickets": ("line_id", "ordinal", "campaign_id", "number", "status", "reason", "issued_at"),
    "refund_due": ("line_id", "reason", "tickets", "amount_minor", "currency"),
    "waiting": ("line_id", "quantity", "reason", "sku", "product_id", "variation_id"),
    "deliveries": (
        "kind",
        "state",
        "is_held",
        "recipient",
        "envelope_recipient",
        "attempts",
        "mails",
        "next_attempt_at",
        "sent_at",
    ),
    "dead_letters": ("id", "code", "state", "attempts", "created_at"),
}


@orders.command("list")
def listing(
    *,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help=f"One of {', '.join(STATES)}.")
    ] = None,
    suspected: Annotated[
        bool,
        typer.Option("--suspected-duplicates", help="Only orders with a suspected duplicate."),
    ] = False,
    refund_due: Annotated[
        bool,
        typer.Option("--refund-due", help="Only orders with paid tickets that cannot be issued."),
    ] = False,
    orders_max: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="The most orders to list.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists orders, the last decided first, each with its suspected duplicates.

    Those are orders with the same buyer, total and lines, placed close together.
    """
    if state is not None and state not in STATES:
        raise typer.BadParameter(f"is none of {', '.join(STATES)}", param_hint="--state")
    with cli_support.connected() as connection:
        rows = list_orders(
            connection, state, orders_max, only_alike=suspected, only_refund_due=refund_due
        )
    cli_support.rows(rows if as_json else [_plain(row) for row in rows], COLUMNS, as_json=as_json)


@orders.command()
def show(
    *,
    order_id: Annotated[
        str, typer.Argument(metavar="ORDER", help="SOURCE:EXTERNAL_ID, for example shop:727.")
    ],
    as_json: AsJson = False,
) -> None:
    """Shows one order: its state, facts, decisions, tickets, deliveries and dead letters."""
    with cli_support.connected() as connection:
        order = read_order(connection, order_id)
    if as_json:
        cli_support.write_json(order)
        return
    console = Console(highlight=False)
    reasons = "; ".join(order.get("reasons") or ())
    state = order.get("state") or "not decided yet"
    console.print(
        Text(f"{one_line(order_id)}  {state}  {one_line(reasons)}".rstrip(), style="bold")
    )
    if buyer := order.get("buyer"):
        console.print(Text(one_line(f"{buyer.get('name', '')} <{buyer.get('email', '')}>")))
    if due := order["refund_due"]:
        console.print(Text(_refund_due(due), style="bold red"))
    if order.get("incidents"):
        console.print(
            Text(one_line(f"incidents: {len(order['incidents'])} keys came with two contents"))
        )
    for name, columns in PARTS.items():
        if order[name]:
            console.print(Text(f"\n{name}", style="dim"))
            cli_support.rows([_plain(row) for row in order[name]], columns, as_json=False)


def _refund_due(rows: list[dict[str, Any]]) -> str:
    """Return a sentence with the number of tickets and the amount, if it is known."""
    tickets, known = (
        sum(row["tickets"] for row in rows),
        [row for row in rows if row["amount_minor"] is not None],
    )
    sums: dict[str, int] = {}
    for row in known:
        sums[row["currency"] or ""] = sums.get(row["currency"] or "", 0) + int(row["amount_minor"])
    money = ", ".join(f"{amount} {one_line(currency)}".strip() for currency, amount in sums.items())
    unknown = "" if len(known) == len(rows) else "; the amount of other lines is not known"
    return (
        f"refund due: {tickets} tickets" + (f", {money} in minor units" if money else "") + unknown
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: "; ".join(map(str, part)) if isinstance(part, list) else part
        for name, part in row.items()
    }
