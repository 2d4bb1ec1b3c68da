"""`stubline sources` and `stubline check-event`: check a sources file, or a storefront's event,
without any server.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.callbacks import TOPIC
from schemas.topics import MIB
from services.ingest.admin import cli_incidents
from services.ingest.admin.check_event import EventCheck, NotAnEventFileError, check, draft_from
from services.ingest.config import sources_file
from services.ingest.config.sources_file import WEBHOOK_PATH_PREFIX, SourceConfig
from services.ingest.settings import IngestSettings
from services.runtime import files as bounded
from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import AsJson, ExitCode
from services.runtime.settings import EX_CONFIG, ConfigurationError, load
from services.runtime.text import one_line

app = typer.Typer(no_args_is_help=True)
sources = typer.Typer(
    no_args_is_help=True,
    help="Sources: which sources the webhook endpoint serves, and why it does not serve one.",
)
app.add_typer(sources, name="sources")
app.add_typer(cli_incidents.app, name="incidents")

EVENT_BYTES_MAX = 16 * MIB  # twice the largest record, because `kcat -J` escapes it
COLUMNS = ("source", "kind", "state", "path", "secrets", "rate_max", "poll", "why")
File = Annotated[
    Path | None,
    typer.Option("--file", help="The sources file; else STUBLINE_INGEST_SOURCES_FILE."),
]


@sources.command("list")
def list_sources(*, file: File = None, as_json: AsJson = False) -> None:
    """List every source of the file and where its secrets are, never what they are."""
    _print_sources(_read(file), as_json=as_json)


@sources.command("check")
def check_sources(*, file: File = None, as_json: AsJson = False) -> None:
    """Check the file as the webhook endpoint reads it. Exit code 1: a source would not be served or
    polled; 78: the endpoint would not start.
    """
    configs = _read(file)
    _print_sources(configs, as_json=as_json)
    if any(config.refusal is not None or config.poll_refusal is not None for config in configs):
        raise typer.Exit(ExitCode.REFUSED)


@app.command("check-event")
def check_event(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="JSON: an order, a structured CloudEvent, or `kcat -J`'s record. - is stdin.",
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option("--key", help="The record's key; default: the one that it must have."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check what ingest would make of an event before a storefront publishes it; nothing is sent.
    Exit code 1: a dead letter.
    """
    try:
        text = _content(file)
        result = check(draft_from(text, key), datetime.now(UTC))
    except bounded.FileUnusableError as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    except NotAnEventFileError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        cli_support.write_json(_report(result))
    else:
        _print_check(result)
    if result.fault:
        raise typer.Exit(ExitCode.REFUSED)


def _report(result: EventCheck) -> dict[str, Any]:
    callback = result.callback
    return {
        "fault": result.fault,
        "warnings": list(result.warnings),
        "order": callback.order_id if callback else None,
        "facts": [fact.name for fact in callback.facts] if callback else [],
        "key": result.draft.key,
        "topic": TOPIC,
        "supplied": list(result.draft.supplied),
    }


def _content(file: Path) -> bytes:
    if str(file) == "-":
        return bounded.read_stream(sys.stdin.buffer, EVENT_BYTES_MAX)
    return bounded.read_bytes(file, EVENT_BYTES_MAX)


def _print_check(result: EventCheck) -> None:
    if result.callback is None:
        lines = [f"would be a dead letter: {result.fault}"]
    else:
        facts = ", ".join(fact.name for fact in result.callback.facts)
        lines = [f"good: order {result.callback.order_id}, with the facts {facts}"]
        if "headers" in result.draft.supplied:
            headers = [
                f"{name}: {(text or b'').decode()}"
                for name, text in result.draft.headers
                if name != "ce_id"
            ]
            lines.append(
                f"publish it to {TOPIC} with the key {result.draft.key}, a ce_id of its own, and "
                f"{'; '.join(headers)}"
            )
        elif "key" in result.draft.supplied:
            lines.append(f"publish it to {TOPIC} with the key {result.draft.key}")
    lines += [f"warning: {text}" for text in result.warnings]
    for line in lines:
        typer.echo(one_line(line))


def _read(file: Path | None) -> list[SourceConfig]:
    path = file or load(IngestSettings).sources_file
    if path is None:
        raise typer.BadParameter(
            "STUBLINE_INGEST_SOURCES_FILE is not set; name the file with --file"
        )
    try:
        return list(sources_file.read(path).values())
    except ConfigurationError as error:
        typer.echo(one_line(f"configuration: {error}"), err=True)
        raise typer.Exit(EX_CONFIG) from None


def _print_sources(configs: list[SourceConfig], *, as_json: bool) -> None:
    settings = load(IngestSettings)
    warning_of_source = sources_file.warnings({config.slug: config for config in configs})
    cli_support.rows(
        [_row(config, settings, warning_of_source.get(config.slug)) for config in configs],
        COLUMNS,
        as_json=as_json,
    )


def _row(config: SourceConfig, settings: IngestSettings, warning: str | None) -> dict[str, Any]:
    return {
        "source": config.slug,
        "kind": config.source.kind,
        "state": "served" if config.refusal is None else "refused",
        "path": WEBHOOK_PATH_PREFIX + config.slug,
        "secrets": ", ".join(config.secret_references),
        "rate_max": config.rate_max or settings.webhook_source_rate_max,
        "poll": poll_address(config),
        "why": "; ".join(
            filter(
                None,
                (
                    config.refusal,
                    config.poll_refusal and f"not polled: {config.poll_refusal}",
                    warning,
                ),
            )
        ),
    }


def poll_address(config: SourceConfig) -> str:
    """Return where the source is polled."""
    if config.poll_refusal is not None:
        return "refused"
    return config.poll.url if config.poll is not None else ""
