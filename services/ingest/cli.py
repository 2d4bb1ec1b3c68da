"""`stubline sources`: who may come to the door, and what keeps one out. Reads the sources file as the door does; needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from services.ingest import shops
from services.ingest.settings import Settings
from services.ingest.shops import PREFIX, Shop
from services.runtime import terminal
from services.runtime.settings import EX_CONFIG, ConfigurationError, load
from services.runtime.terminal import AsJson, Exit

app = typer.Typer(no_args_is_help=True)
sources = typer.Typer(no_args_is_help=True, help="Sources: which shops the door serves, and why it does not serve one.")
app.add_typer(sources, name="sources")

COLUMNS = ("source", "kind", "state", "path", "secrets", "rate_max", "why")
File = Annotated[
    Path | None,
    typer.Option("--file", help="The sources file; else STUBLINE_INGEST_SOURCES_FILE."),
]


@sources.command("list")
def list_sources(*, file: File = None, as_json: AsJson = False) -> None:
    """Every source of the file, and where its secrets are. Never what they are."""
    _show(_read(file), as_json=as_json)


@sources.command("check")
def check_sources(*, file: File = None, as_json: AsJson = False) -> None:
    """As the door would start with it. Exit code 1: a source would not be served; 78: the door would not start."""
    found = _read(file)
    _show(found, as_json=as_json)
    if any(shop.refused is not None for shop in found):
        raise typer.Exit(Exit.REFUSED)


def _read(file: Path | None) -> list[Shop]:
    path = file or load(Settings).sources_file
    if path is None:
        raise typer.BadParameter("STUBLINE_INGEST_SOURCES_FILE is not set; name the file with --file")
    try:
        return list(shops.read(path).values())
    except ConfigurationError as error:
        typer.echo(f"configuration: {error}", err=True)
        raise typer.Exit(EX_CONFIG) from None


def _show(found: list[Shop], *, as_json: bool) -> None:
    settings = load(Settings)
    terminal.rows([_row(shop, settings) for shop in found], COLUMNS, as_json=as_json)


def _row(shop: Shop, settings: Settings) -> dict[str, Any]:
    return {
        "source": shop.slug,
        "kind": shop.kind,
        "state": "served" if shop.refused is None else "refused",
        "path": PREFIX + shop.slug,
        "secrets": ", ".join(shop.names),
        "rate_max": shop.rate_max or settings.door_source_rate_max,
        "why": shop.refused or "",
    }
