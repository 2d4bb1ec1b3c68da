"""`stubline design`: the tools for authors of ticket designs. It needs no database and no broker.

The modules that lay out are imported where they are needed: they take a second to load, and most
commands of `stubline` lay out nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from services.delivery.settings import DeliverySettings
from services.runtime import settings as environment
from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import AsJson, ExitCode
from services.runtime.text import one_line

if TYPE_CHECKING:
    from services.delivery.printing.design.library import DesignLibrary
    from services.delivery.printing.plate_cache import PlateCache
    from services.delivery.printing.tools.bench import Figure
    from services.delivery.printing.tools.target import DesignTarget

design = typer.Typer(
    no_args_is_help=True,
    help="Ticket designs: make one, look at it, check it. Needs no database and no broker.",
)
WATCH_INTERVAL_S = 0.3
COLUMNS = ("name", "title", "version", "sizes", "languages", "from")
LISTS = ("sizes", "languages")
FIGURES = ("what", "tickets_per_second", "ms_per_ticket", "bytes_of_the_file", "times_as_fast")
FindingRow = dict[str, Any]

Which = Annotated[
    str,
    typer.Argument(
        metavar="FOLDER",
        help="The design's folder, or the name of a design that `stubline design list` shows.",
    ),
]
Size = Annotated[str | None, typer.Option("--size", help="Only this one of the design's sizes.")]
Language = Annotated[
    str | None, typer.Option("--language", help="Only this one of the design's languages.")
]


@design.command("new")
def new_design(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="As campaigns will name it: lower-case letters, digits, hyphens."
        ),
    ],
    source: Annotated[
        str, typer.Option("--from", help="The design that it begins as.")
    ] = "event-ticket",
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            help="Where its folder is created; else STUBLINE_DELIVERY_DESIGNS_FOLDER, or here.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A design of your own: a copy of one that works, with a title of its own."""
    from services.delivery.printing.tools.new_design import create

    own = environment.load(DeliverySettings).designs_folder
    folder = create(name, source, into or Path(own or "."), _library())
    if as_json:
        cli_support.write_json({"name": name, "folder": str(folder), "from": source})
        return
    _print(f"{folder} was created: a copy of {source}. Now:")
    is_installed = bool(own) and folder.parent.resolve() == Path(own).resolve()
    _print_next_steps(name, folder, is_installed=is_installed)


def _print_next_steps(name: str, folder: Path, *, is_installed: bool) -> None:
    steps = {
        f"stubline design preview {folder} --watch": "draws it again at each change that you save",
        f"stubline design check {folder}": "lists what is wrong with it, with file and line",
        f'design = "{name}"': f'in the campaign\'s file uses it; with a size: "{name}-a4"',
    }
    if not is_installed:
        setting = f"STUBLINE_DELIVERY_DESIGNS_FOLDER={folder.parent.resolve()}"
        steps[setting] = "on each sender, and where you apply campaigns"
    width = max(map(len, steps))
    for step, purpose in steps.items():
        _print(f"  {step:<{width}}  {purpose}")


@design.command("list")
def list_designs(*, as_json: AsJson = False) -> None:
    """The built-in designs, and those of STUBLINE_DELIVERY_DESIGNS_FOLDER. Your own design replaces
    a built-in one of its name.
    """
    from services.delivery.printing.tools.target import list_designs

    rows = list(list_designs(_library()))
    if not as_json:
        rows = [row | {key: ", ".join(row[key]) for key in LISTS} for row in rows]
    cli_support.rows(rows, COLUMNS, as_json=as_json)


@design.command("check")
def check_design(
    *, folder: Which, size: Size = None, language: Language = None, as_json: AsJson = False
) -> None:
    """Faults and warnings, each with file, line and remedy. Exit code 1: a campaign with this
    design would be refused.

    Every size and language is laid out for usual and for hard campaigns, stamped, and compared with
    WeasyPrint's own page.
    """
    from services.delivery.printing.tools.isolated import run_isolated

    target, findings, counts = _target(folder, size, language), list[FindingRow](), FindingRow()
    with Console(stderr=True).status(f"{target.name} ...") as status:
        for event in run_isolated("check", target, _plate_cache(), size=size, language=language):
            if "at" in event:
                status.update(f"{target.name}: {event['at']} ...")
            elif "kind" in event:
                findings.append(event)
            else:
                counts = event
    rows = merge_findings(findings)
    faults = sum(row["kind"] == "fault" for row in rows)
    if as_json:
        cli_support.write_json({"design": target.name, "findings": rows, **counts})
    else:
        _show(rows)
        _print(
            f"{target.name}: {_count(faults, 'fault')}, "
            f"{_count(len(rows) - faults, 'warning')}{_compared(counts)}"
        )
    if faults:
        raise typer.Exit(ExitCode.REFUSED)


@design.command("preview")
def preview_design(
    *,
    folder: Which,
    size: Size = None,
    language: Language = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where files are written; else `preview` in the design's folder."
        ),
    ] = None,
    is_watching: Annotated[
        bool, typer.Option("--watch", help="Again with each change, until Ctrl-C.")
    ] = False,
) -> None:
    """PDF and PNG of each size: stamped, laid out by WeasyPrint, and both side by side with what
    differs.
    """
    from services.delivery.printing.tools.watch import watch

    target = _target(folder, size, language)
    into = _out(target, out)

    def draw() -> int:
        return _drawn(target, into, size, language)

    if not is_watching:
        if draw():
            raise typer.Exit(ExitCode.REFUSED)
        return
    if target.folder is None:
        raise typer.BadParameter(
            f"{target.name} is built in and does not change; `stubline design new` copies it"
        )
    _print(f"watching {target.folder}; Ctrl-C ends")
    watch(
        target.folder,
        lambda: _print(f"{time.strftime('%H:%M:%S')}  {_count(draw(), 'fault')}"),
        _wait,
    )


@design.command("bench")
def bench_design(
    *, folder: Which, size: Size = None, language: Language = None, as_json: AsJson = False
) -> None:
    """Its stamping rate, and WeasyPrint's on the same pages in the same run: medians of three
    rounds, about a minute.
    """
    from services.delivery.printing.tools.bench import DesignBench
    from services.delivery.printing.tools.isolated import run_isolated
    from services.delivery.printing.tools.target import variants_of

    target = _target(folder, size, language)
    one = variants_of(target.read(), size, language)[0]
    events = list(
        run_isolated("compile", target, _plate_cache(), size=one.size, language=one.language)
    )
    if faults := merge_findings([event for event in events if "kind" in event]):
        _show(faults)
        raise typer.Exit(ExitCode.REFUSED)
    with Console(stderr=True).status(f"{target.name}, {one.size}, {one.language} ..."):
        figures = DesignBench(one, _plate_cache()).figures()
    rows = _figure_rows(figures)
    if as_json:
        cli_support.write_json(
            {"design": target.name, "size": one.size, "language": one.language, "figures": rows}
        )
        return
    _print(f"{target.name}, {one.size}, {one.language}; times as fast: stamping, than that line")
    cli_support.rows(rows, FIGURES, as_json=False)


def _figure_rows(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    measured = list(figures)
    fastest = {
        figure.tickets: figure.seconds for figure in measured if figure.what.startswith("stamped")
    }
    return [
        {
            "what": figure.what,
            "tickets_per_second": round(1 / figure.seconds, 1),
            "ms_per_ticket": round(figure.seconds * 1_000, 3),
            "bytes_of_the_file": figure.bytes,
            "times_as_fast": round(figure.seconds / fastest[figure.tickets], 1),
        }
        for figure in measured
    ]


def merge_findings(findings: Iterable[FindingRow]) -> list[FindingRow]:
    """Merge equal findings of several sizes and languages into one row. Faults come first."""
    places: dict[tuple[str, str], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for event in findings:
        sizes, languages = places[event["kind"], event["text"]]
        sizes.add(event.get("size", ""))
        languages.add(event.get("language", ""))
    rows = [
        {
            "kind": kind,
            "text": text,
            "sizes": sorted(sizes - {""}),
            "languages": sorted(languages - {""}),
        }
        for (kind, text), (sizes, languages) in places.items()
    ]
    return sorted(rows, key=lambda row: row["kind"] != "fault")


def _drawn(target: DesignTarget, out: Path, size: str | None, language: str | None) -> int:
    """Draw the previews. Return how many faults there are."""
    from services.delivery.printing.tools.isolated import run_isolated

    events = list(
        run_isolated("preview", target, _plate_cache(), size=size, language=language, out=str(out))
    )
    for event in events:
        if "file" in event:
            _print(event["file"])
    faults = merge_findings([event for event in events if "kind" in event])
    _show(faults)
    return len(faults)


def _compared(counts: FindingRow) -> str:
    if not counts.get("pages"):
        return ""
    return (
        f"; {_count(counts['pages'], 'page')} stamped and compared with WeasyPrint's, "
        f"{counts['codes']} codes read"
    )


def _show(rows: Iterable[FindingRow]) -> None:
    for row in rows:
        where = "; ".join(filter(None, [", ".join(row["sizes"]), ", ".join(row["languages"])]))
        style = "bold red" if row["kind"] == "fault" else "yellow"
        line = Text(f"{row['kind']:<8}", style=style) + Text(one_line(row["text"]))
        _console().print(line + Text(f"  ({where})" if where else "", style="dim"))


def _out(target: DesignTarget, out: Path | None) -> Path:
    """Return the folder of the pictures. In the design's folder they would be part of the design,
    except in `preview`.
    """
    if out is None:
        return (
            target.folder / "preview" if target.folder else Path(f"{target.name}-preview").resolve()
        )
    inside = target.folder is not None and out.resolve().is_relative_to(target.folder)
    if inside and "preview" not in out.resolve().relative_to(target.folder or Path()).parts:
        raise typer.BadParameter(
            f"{out} would be part of the design; leave --out out, or name a folder outside of it"
        )
    return out


def _target(reference: str, size: str | None, language: str | None) -> DesignTarget:
    """Raise DesignUnknown for a design, size or language that does not exist; a manifest that
    cannot be read is reported later.
    """
    from services.delivery.printing.errors import DesignUnknown, DesignUnusable
    from services.delivery.printing.tools.target import find, variants_of

    target = find(reference, _library())
    try:
        variants_of(target.read(), size, language)
    except DesignUnknown:
        raise
    except DesignUnusable:
        return target
    return target


def _library() -> DesignLibrary:
    from services.delivery.rendering import configured_library

    return configured_library(environment.load(DeliverySettings))


def _plate_cache() -> PlateCache:
    from services.delivery.rendering import configured_plate_cache

    return configured_plate_cache(environment.load(DeliverySettings))


def _wait() -> None:
    time.sleep(WATCH_INTERVAL_S)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _print(text: str) -> None:
    _console().print(Text(one_line(text)))


def _console() -> Console:
    """Return a console that does not break lines, so that they can be copied."""
    return Console(highlight=False, soft_wrap=True)
