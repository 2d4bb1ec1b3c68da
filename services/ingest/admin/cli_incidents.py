"""`stubline incidents`: what goes wrong with callbacks, one line per cause, however often it
happened.
"""

from __future__ import annotations

import base64
import shlex
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from services.ingest.admin.incidents import (
    IncidentCommands,
    IncidentQueries,
    ResolutionMethod,
    resolution_methods,
)
from services.ingest.rules.incidents import EvidenceKind, Incident
from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import Actor, AsJson, CommandId
from services.runtime.admin.commands import OperatorCommand
from services.runtime.errors import catalogue
from services.runtime.text import one_line, quoted

app = typer.Typer(
    no_args_is_help=True,
    help="Incidents: what goes wrong with callbacks, one line per cause; and their replay.",
)

SHOWN_CHARS_MAX = 4_000
COLUMNS = ("count", "waiting", "state", "first_at", "last_at", "source", "kind", "cause", "id")
DETAILS = (
    "id",
    "source",
    "count",
    "waiting",
    "replaying",
    "state",
    "first_at",
    "last_at",
    "evidence",
    "example",
)
NEXT_STEP_OF_EVIDENCE = {
    EvidenceKind.DRIFT: (
        "The callbacks were accepted, and nothing is lost: what this release does not know of"
        " them is left out. Deploy a release that knows it."
    ),
    EvidenceKind.ORDERS: (
        "Nothing waits. If a source sends an order as it is at the time of sending "
        "(WooCommerce, Ticket Evolution, a storefront's own), the callback that Kafka took "
        "last wins; of a gateway's events the one with the greater amount wins. WooCommerce "
        "edits lines and refunds without changing `date_modified`: its incidents of this kind"
        " are no defect. For other sources, report it to the people who run the source."
    ),
}
# For drift that is not about an unknown word.
NEXT_STEP_OF_KIND = {
    "missing-field": (
        "The callbacks were accepted with a default in its place: an order without `refunds` "
        "as never refunded, without `date_modified_gmt` as changed when it was made, an "
        "order, a line or a movement without its amount as of an unknown one, a line of "
        "Ticket Evolution without a price as free; an order of Ticket Evolution without its "
        "fraud check is read once more. Find out at the source why the field is missing."
    ),
    "unknown-currency": (
        "The orders and movements were accepted; their amounts are kept as the texts that "
        "were sent, and no ticket depends on them. ISO 4217 does not define how many decimals"
        " this currency has: for a WooCommerce shop, set `decimals` in the sources file."
    ),
    "unreadable-amount": (
        "The orders and movements were accepted; this amount is kept as the text that was "
        "sent, because it has more decimals than its currency, or is not a number. If the "
        "shop uses another number of decimals, set `decimals` in the sources file."
    ),
    "unreadable-date": (
        "The orders were accepted as if this date were missing. Without a readable date of "
        "payment an order is not paid under a trigger by payment; without one of change it is"
        " ordered by when it was made, and then by Kafka."
    ),
    "unreadable-list": (
        "The orders were accepted without it: it is neither a list nor an object with numbers"
        " as keys. `meta_data` holds gifts, chosen numbers and payments. Find the plugin that"
        " writes it."
    ),
    "refund-unnamed": (
        "These refunds are unknown here, so nothing acts on them. Add refund.created to the "
        "endpoint's events, and send what it missed once more."
    ),
    "test-mode": (
        "Nothing acts on events of Stripe's test mode, and no release will. Remove this "
        "address from the endpoint of its test mode."
    ),
    "unusable-recipient": (
        "The orders were accepted, and the buyer holds these gifts: the line names no recipient."
    ),
    "unusable-number": (
        "The orders were accepted without these chosen numbers, which no ticket can print."
    ),
    "webhook-disabled": (
        "Enable it again at the source. Until then polls find its changes, later than "
        "webhooks would."
    ),
    "poll-warning": (
        "The objects of which it warns were left out; the rest of the page was found. Repair "
        "them at the source."
    ),
    "poll-too-large": (
        "This order is unknown here, because no record can hold it. Make it smaller at the "
        "source (notes, meta) and save it there: the next poll finds it."
    ),
    "order-missing": (
        "Nothing acts on it: a callback without proof named an order that its source does not"
        " have. If there are many, somebody else knows the word in the address, so replace "
        "it."
    ),
}
KEPT_SENTENCE = (
    "{kept} of these callbacks are kept whole, because this release does not act on them."
    " --replay gives them to a release that does."
)
EFFECT_OF_RESOLVING = {
    (
        EvidenceKind.DEAD_LETTERS,
        ResolutionMethod.REPLAY,
    ): "replays the {waiting} open dead letters, when a release fixes the cause",
    (
        EvidenceKind.DEAD_LETTERS,
        ResolutionMethod.DISCARD,
    ): "discards the {waiting} open dead letters, when they can never be processed",
    (
        EvidenceKind.DRIFT,
        ResolutionMethod.REPLAY,
    ): "replays the {kept} kept callbacks, and closes the incident until it comes again",
    (
        EvidenceKind.DRIFT,
        ResolutionMethod.SEEN,
    ): "closes the incident until it comes again; the {kept} kept callbacks stay kept",
    (
        EvidenceKind.ORDERS,
        ResolutionMethod.SEEN,
    ): "closes the incident until it comes again; no order changes",
}
RESOLVED_SENTENCE = {
    ResolutionMethod.REPLAY: (
        "{concerned} {records} are replayed; `stubline dead list` shows how they end."
    ),
    ResolutionMethod.DISCARD: "{concerned} dead letters are discarded.",
    ResolutionMethod.SEEN: "The incident is closed until it comes again.",
}


class IncidentState(StrEnum):
    """Which incidents to list."""

    OPEN = "open"
    RESOLVED = "resolved"
    ALL = "all"


Id = Annotated[
    str, typer.Argument(metavar="ID", help="An incident, by the id that the list shows.")
]


@app.command("list")
def list_incidents(
    *,
    source: Annotated[
        str | None, typer.Option("--source", help="Only incidents of this source.")
    ] = None,
    state: Annotated[
        IncidentState, typer.Option("--state", help="open, resolved, all.")
    ] = IncidentState.OPEN,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=100_000, help="At most so many incidents.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List incidents, the most frequent first. `waiting` counts dead letters that need a
    decision.
    """
    with cli_support.connected() as connection:
        incidents = IncidentQueries(connection).incidents().values()
    rows = [
        asdict(incident)
        for incident in incidents
        if state in (IncidentState.ALL, incident.state)
        and (source is None or incident.source == source)
    ]
    cli_support.rows(rows[:limit], COLUMNS, as_json=as_json, empty="no incidents")


@app.command()
def show(
    *,
    incident_id: Id,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Only the example's bytes, as they are, for a file or another program."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show an incident: what it is, how it was reported, what to do, and an example, made safe to
    print.
    """
    with cli_support.connected() as connection:
        reader = IncidentQueries(connection)
        incident = reader.incident(incident_id)
        example, words = reader.example(incident), reader.words(incident)
        kept = reader.kept(incident)
    if raw:
        sys.stdout.buffer.write(example)
    elif as_json:
        more = {
            "words": words,
            "kept": kept,
            "next_step": _next_step(incident, kept),
            "resolve": _commands(incident),
        }
        cli_support.write_json(
            asdict(incident) | more | {"example_bytes": base64.b64encode(example).decode()}
        )
    else:
        _describe(incident, example, words, kept)


@app.command()
def resolve(
    *,
    incident_id: Id,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Replay its dead letters, or its kept callbacks."),
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Discard its dead letters; they stay readable.")
    ] = False,
    seen: Annotated[bool, typer.Option("--seen", help="Close it until it comes again.")] = False,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Why; kept in the audit. --discard and --seen need it."),
    ] = None,
    actor: Actor,
    command_id: CommandId,
    as_json: AsJson = False,
) -> None:
    """Resolve an incident in one of three ways. Without a choice, show what each would do and
    change nothing.
    """
    method = _chosen(replay=replay, discard=discard, seen=seen)
    if method is None:
        _print_options(incident_id, as_json=as_json)
        return
    if method is not ResolutionMethod.REPLAY and not (reason or "").strip():
        raise typer.BadParameter("give a reason", param_hint="--reason")
    with cli_support.connected() as connection:
        result = IncidentCommands(connection, OperatorCommand(actor, command_id)).resolve(
            incident_id, method, reason
        )
    sentence = RESOLVED_SENTENCE[method].format(
        concerned=result.details["concerned"], records="callbacks"
    )
    cli_support.report_result(result, sentence, command_id, as_json=as_json)


def _chosen(*, replay: bool, discard: bool, seen: bool) -> ResolutionMethod | None:
    flags = zip(ResolutionMethod, (replay, discard, seen), strict=True)
    chosen = [method for method, is_chosen in flags if is_chosen]
    if len(chosen) > 1:
        raise typer.BadParameter("choose one of --replay, --discard and --seen")
    return chosen[0] if chosen else None


def _print_options(incident_id: str, *, as_json: bool) -> None:
    with cli_support.connected() as connection:
        reader = IncidentQueries(connection)
        incident = reader.incident(incident_id)
        kept = reader.kept(incident)
    options = _options(incident, kept)
    if as_json:
        cli_support.write_json(asdict(incident) | {"kept": kept, "resolve": options})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(incident.kind, style="bold red"), Text(one_line(incident.cause)))
    console.print(
        Text(
            f"{incident.count} times, source {one_line(incident.source)}; nothing was changed. "
            "It is resolved by"
        )
    )
    for option in options:
        console.print(Text(f"\n    {option['command']}"))
        console.print(Text(f"{option['does']}."))


def _options(incident: Incident, kept: int) -> list[dict[str, str]]:
    return [
        {
            "command": command,
            "does": EFFECT_OF_RESOLVING[incident.evidence, method].format(
                waiting=incident.waiting, kept=kept
            ),
        }
        for method, command in zip(resolution_methods(incident), _commands(incident), strict=True)
    ]


def _commands(incident: Incident) -> list[str]:
    why = {
        ResolutionMethod.REPLAY: "",
        ResolutionMethod.DISCARD: ' --reason "why"',
        ResolutionMethod.SEEN: ' --reason "why"',
    }
    return [
        f"stubline incidents resolve {incident.id} --{method}{why[method]}"
        for method in resolution_methods(incident)
    ]


def _next_step(incident: Incident, kept: int) -> str:
    if incident.evidence is not EvidenceKind.DEAD_LETTERS:
        meanwhile = NEXT_STEP_OF_KIND.get(incident.kind, NEXT_STEP_OF_EVIDENCE[incident.evidence])
        return " ".join([meanwhile, *([KEPT_SENTENCE.format(kept=kept)] if kept else [])])
    known = catalogue().get(incident.kind)
    return known.next_step if known else f"See deploy/runbooks/errors.md, section {incident.kind}."


def _inspect_command(incident: Incident) -> str:
    match incident.evidence:
        case EvidenceKind.DEAD_LETTERS:
            return f"stubline dead show {incident.example}"
        case EvidenceKind.DRIFT:
            return f"stubline incidents show --raw {incident.id}"
        case EvidenceKind.ORDERS:
            return f"stubline orders show {shlex.quote(one_line(incident.example))}"


def _describe(incident: Incident, example: bytes, words: list[dict[str, Any]], kept: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(one_line(incident.kind), style="bold red"), Text(one_line(incident.cause)))
    console.print(Text(_next_step(incident, kept)), end="\n\n")
    fields = asdict(incident)
    for name in DETAILS:
        console.print(
            Text(f"{name.replace('_', ' '):<16}", style="dim"), cli_support.cell(fields[name])
        )
    for row in words:
        console.print(
            Text(f"{row['count']:>8} times    ", style="dim"), Text(one_line(row["words"]))
        )
    text = quoted(example)
    console.print(
        Text(f"\nexample, {len(example)} bytes: {_inspect_command(incident)}", style="dim")
    )
    console.print(Text(text[:SHOWN_CHARS_MAX]))
    if len(text) > SHOWN_CHARS_MAX:
        console.print(
            Text(
                f"... truncated here; in full: stubline incidents show --raw {incident.id}",
                style="dim",
            )
        )
    for option in _options(incident, kept):
        console.print(Text(f"\n    {option['command']}"))
        console.print(Text(f"{option['does']}."))
