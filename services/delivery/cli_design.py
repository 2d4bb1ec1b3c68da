"""`stubline design`: what authors of ticket designs work with. No database and no broker is asked
for anything.

What draws is imported where it is needed: it takes a second to load, and most commands of
`stubline` draw nothing.
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
    from services.delivery.printing.tools.target import DesignTarget

design = typer.Typer(
    no_args_is_help=True,
    help="Ticket designs: make one, look at it, check it. Needs no database and no broker.",
)
LOOK_EVERY_S = 0.3
COLUMNS = ("name", "title", "version", "sizes", "languages", "from")
LISTS = ("sizes", "languages")
FIGURES = ("what", "tickets_per_second", "ms_per_ticket", "bytes_of_the_file", "times_as_fast")
Told = dict[str, Any]

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
            metavar="NAME", help="As campaigns will say it: small letters, digits, hyphens."
        ),
    ],
    source: Annotated[
        str, typer.Option("--from", help="The design that it begins as.")
    ] = "event-ticket",
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            help="Where its folder is made; else STUBLINE_DELIVERY_DESIGNS_FOLDER, or here.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A design of your own: a copy of one that works, with a title of its own."""
    from services.delivery.printing.tools.new_design import make

    own = environment.load(DeliverySettings).designs_folder
    folder = make(name, source, into or Path(own or "."), _library())
    if as_json:
        cli_support.write_json({"name": name, "folder": str(folder), "from": source})
        return
    _say(f"{folder} is there: a copy of {source}. Now:")
    steps = [
        (
            f"stubline design preview {folder} --watch",
            "draws it again with each change that you save",
        ),
        (f"stubline design check {folder}", "says what is wrong with it, with file and line"),
        (f'design = "{name}"', "in the campaign's file uses it; with a size: " + f'"{name}-a4"'),
    ]
    if not own or folder.parent.resolve() != Path(own).resolve():
        steps.append(
            (
                f"STUBLINE_DELIVERY_DESIGNS_FOLDER={folder.parent.resolve()}",
                "on each sender, and where you apply",
            )
        )
    width = max(len(step) for step, _ in steps)
    for step, why in steps:
        _say(f"  {step:<{width}}  {why}")


@design.command("list")
def list_designs(*, as_json: AsJson = False) -> None:
    """The built-in designs, and those of STUBLINE_DELIVERY_DESIGNS_FOLDER. One of your own stands
    before a built-in one.
    """
    from services.delivery.printing.tools.target import listed

    rows = list(listed(_library()))
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
    from services.delivery.printing.tools.isolated import asked

    target, found, counts = _target(folder, size, language), list[Told](), Told()
    with Console(stderr=True).status(f"{target.name} ...") as status:
        for told in asked("check", target, _shelf(), size=size, language=language):
            if "at" in told:
                status.update(f"{target.name}: {told['at']} ...")
            elif "kind" in told:
                found.append(told)
            else:
                counts = told
    rows = summed(found)
    faults = sum(row["kind"] == "fault" for row in rows)
    if as_json:
        cli_support.write_json({"design": target.name, "findings": rows, **counts})
    else:
        _show(rows)
        _say(
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
    """PDF and PNG of each size: stamped, by WeasyPrint whole, and both side by side with what
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
    _say(f"watching {target.folder}; Ctrl-C ends")
    watch(
        target.folder,
        lambda: _say(f"{time.strftime('%H:%M:%S')}  {_count(draw(), 'fault')}"),
        _wait,
    )


@design.command("bench")
def bench_design(
    *, folder: Which, size: Size = None, language: Language = None, as_json: AsJson = False
) -> None:
    """How fast it is stamped, and WeasyPrint on the same pages in the same run: medians of three
    rounds, about a minute.
    """
    from services.delivery.printing.tools.isolated import asked
    from services.delivery.printing.tools.bench import DesignBench
    from services.delivery.printing.tools.target import chosen

    target = _target(folder, size, language)
    one = chosen(target.read(), size, language)[0]
    told = list(asked("compile", target, _shelf(), size=one.size, language=one.language))
    if faults := summed([it for it in told if "kind" in it]):
        _show(faults)
        raise typer.Exit(ExitCode.REFUSED)
    with Console(stderr=True).status(f"{target.name}, {one.size}, {one.language} ..."):
        figures = DesignBench(one, _shelf()).figures()
    best = {
        figure.tickets: figure.seconds for figure in figures if figure.what.startswith("stamped")
    }
    rows = [
        {
            "what": figure.what,
            "tickets_per_second": round(1 / figure.seconds, 1),
            "ms_per_ticket": round(figure.seconds * 1_000, 3),
            "bytes_of_the_file": figure.bytes,
            "times_as_fast": round(figure.seconds / best[figure.tickets], 1),
        }
        for figure in figures
    ]
    if as_json:
        cli_support.write_json(
            {"design": target.name, "size": one.size, "language": one.language, "figures": rows}
        )
        return
    _say(f"{target.name}, {one.size}, {one.language}; times as fast: stamped, beside that line")
    cli_support.rows(rows, FIGURES, as_json=False)


def summed(found: Iterable[Told]) -> list[Told]:
    """What was found in several sizes and languages is told once. Faults come first."""
    where: dict[tuple[str, str], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for told in found:
        sizes, languages = where[told["kind"], told["text"]]
        sizes.add(told.get("size", ""))
        languages.add(told.get("language", ""))
    rows = [
        {
            "kind": kind,
            "text": text,
            "sizes": sorted(sizes - {""}),
            "languages": sorted(languages - {""}),
        }
        for (kind, text), (sizes, languages) in where.items()
    ]
    return sorted(rows, key=lambda row: row["kind"] != "fault")


def _drawn(target: DesignTarget, out: Path, size: str | None, language: str | None) -> int:
    """How many faults."""
    from services.delivery.printing.tools.isolated import asked

    told = list(asked("preview", target, _shelf(), size=size, language=language, out=str(out)))
    for it in told:
        if "file" in it:
            _say(it["file"])
    faults = summed([it for it in told if "kind" in it])
    _show(faults)
    return len(faults)


def _compared(counts: Told) -> str:
    if not counts.get("pages"):
        return ""
    return (
        f"; {_count(counts['pages'], 'page')} stamped and compared with WeasyPrint's, "
        f"{counts['codes']} codes read"
    )


def _show(rows: Iterable[Told]) -> None:
    for row in rows:
        where = "; ".join(filter(None, [", ".join(row["sizes"]), ", ".join(row["languages"])]))
        style = "bold red" if row["kind"] == "fault" else "yellow"
        line = Text(f"{row['kind']:<8}", style=style) + Text(one_line(row["text"]))
        _console().print(line + Text(f"  ({where})" if where else "", style="dim"))


def _out(target: DesignTarget, out: Path | None) -> Path:
    """Pictures in the design's folder would be part of the design, but for those in `preview`."""
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


def _target(said: str, size: str | None, language: str | None) -> DesignTarget:
    """Raises DesignUnknown for a design, size or language that is not there; a manifest that cannot
    be read is told later.
    """
    from services.delivery.printing.errors import DesignUnknown, DesignUnusable
    from services.delivery.printing.tools.target import chosen, find

    target = find(said, _library())
    try:
        chosen(target.read(), size, language)
    except DesignUnknown:
        raise
    except DesignUnusable:
        return target
    return target


def _library() -> DesignLibrary:
    from services.delivery.printer import library

    return library(environment.load(DeliverySettings))


def _shelf() -> PlateCache:
    from services.delivery.printer import shelf

    return shelf(environment.load(DeliverySettings))


def _wait() -> None:
    time.sleep(LOOK_EVERY_S)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    _console().print(Text(one_line(text)))


def _console() -> Console:
    """A line stays in one piece, to be copied."""
    return Console(highlight=False, soft_wrap=True)
