"""`python -m model [--quick] [--list] [NAME ...]`: runs the questions and compares the results with
expected.toml.

A law that holds must hold in the expected number of states. A run that leaves out a rule must
break the expected law.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from model.check import HOLDS, Expectation, Seen, ToolMissingError, check, expectations

QUICK_STATES_MAX = 20_000


def chosen(names: Sequence[str], *, quick: bool) -> list[Expectation]:
    """Return all runs, or those that the patterns name; quick ones are small or fail early."""
    everything = expectations()
    for pattern in names:
        if not fnmatch.filter([model.name for model in everything], pattern):
            raise SystemExit(f"model: there is no run called {pattern}; --list shows them")
    wanted = [
        model
        for model in everything
        if not names or any(fnmatch.fnmatch(model.name, name) for name in names)
    ]
    return [model for model in wanted if not quick or (model.states or 0) <= QUICK_STATES_MAX]


def answers(runs: Sequence[Expectation], jobs: int) -> Iterator[tuple[Expectation, Seen]]:
    """Yield each result in the order of the runs, as soon as it and those before it are known."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from zip(runs, pool.map(check, runs), strict=True)


def listed(runs: Sequence[Expectation]) -> Table:
    table = Table("run", "must", "states", "asks", box=SIMPLE_HEAD, pad_edge=False)
    for run in runs:
        table.add_row(run.name, must(run), f"{run.states:,}" if run.states else "", run.statement)
    return table


def must(run: Expectation) -> str:
    return "hold" if run.verdict == HOLDS else f"fail by {run.verdict}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model", description="Checks the protocol of the lanes with TLC."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="runs by name, or by patterns such as 'hold-*'"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"only runs of up to {QUICK_STATES_MAX:,} states"
    )
    parser.add_argument("--list", action="store_true", help="list the runs, each with its question")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at once, 2 GB and one core each (default 1)"
    )
    wish = parser.parse_args(arguments)
    runs, console = chosen(wish.names, quick=wish.quick), Console(highlight=False, soft_wrap=True)
    if wish.list:
        console.print(listed(runs))
        return 0
    wrong = 0
    console.print(
        f"{'run':<26} {'must':<24} {'result':<24} {'states':>10} {'seconds':>8}", style="bold"
    )
    for run, seen in answers(runs, wish.jobs):
        fits = seen.fits(run)
        wrong += not fits
        line = (
            f"{run.name:<26} {must(run):<24} {seen.verdict:<24} {seen.states:>10,} "
            f"{seen.seconds:>8.1f}"
        )
        console.print(
            line + ("" if fits else f"  <- {run.states or 0:,} states expected"),
            style=None if fits else "red",
        )
    console.print(f"{len(runs)} runs, {wrong} other than expected")
    return int(wrong > 0)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ToolMissingError as missing:
        sys.exit(f"model: {missing}")
