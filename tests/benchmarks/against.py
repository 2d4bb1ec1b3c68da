"""Runs a benchmark on another commit and on this one, in turn, and compares what both print.

The other commit is checked out beside this one and set up by its own lock file, so any commit that
prints a table of figures can be compared.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.local.stack import STATE
from tests.benchmarks.report import median

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = 5  # of `report.show`
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
Readings = Mapping[str, float]  # the first number of each figure, by its name


def readings(printed: str) -> dict[str, float]:
    """Return the figures of a printed table. A cell of several lines is put together again: only
    the first line of a row says in the last column whether the figure is met.
    """
    rows: list[tuple[str, str]] = []
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if len(cells) < COLUMNS + 2:
            continue
        name, measured, is_first = cells[1], cells[2], bool(cells[COLUMNS])
        if is_first:
            rows.append((name, measured))
        elif rows:
            rows[-1] = (f"{rows[-1][0]} {name}".strip(), f"{rows[-1][1]} {measured}".strip())
    matches = {name: NUMBER.search(measured) for name, measured in rows}
    return {name: float(match[0].replace(",", "")) for name, match in matches.items() if match}


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yield a tree of that commit, set up and removed again."""
    sha = git("rev-parse", "--verify", f"{commit}^{{commit}}")
    folder = STATE / "bench" / sha[:12]
    git("worktree", "add", "--force", "--detach", str(folder), sha)
    try:
        subprocess.run(["make", "setup"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run(tree: Path, options: Sequence[str]) -> dict[str, float]:
    """Run the benchmark of a tree with its own interpreter. A missed limit is no error."""
    python = tree / ".venv" / "bin" / "python"
    command = [str(python), "-m", "tests.benchmarks", *options]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if not (figures := readings(ended.stdout)):
        raise SystemExit(f"{tree.name} printed no figures:\n{ended.stdout}{ended.stderr}"[-4_000:])
    return figures


def compare(commit: str, options: Sequence[str], rounds: int) -> None:
    """Print each figure's medians of both commits, and their ratio."""
    before: list[Readings] = []
    now: list[Readings] = []
    with checked_out(commit) as tree:
        for number in range(1, rounds + 1):
            for folder, runs in ((tree, before), (ROOT, now)):
                print(f"round {number} of {rounds}: {folder.name}", file=sys.stderr, flush=True)
                runs.append(run(folder, options))
    show(commit, before, now)


def show(commit: str, before: Sequence[Readings], now: Sequence[Readings]) -> None:
    table = Table(title=f"Against {commit}, medians of {len(before)}")
    for heading in ("what", "before", "now", "now / before", "all of before", "all of now"):
        table.add_column(heading, overflow="fold")
    for name in now[0]:
        values = [[run[name] for run in runs if name in run] for runs in (before, now)]
        old, new = (median(of_runs) if of_runs else float("nan") for of_runs in values)
        ratio = f"{new / old:.3f}" if old else "-"
        every = [", ".join(f"{value:,g}" for value in of_runs) for of_runs in values]
        table.add_row(name, f"{old:,g}", f"{new:,g}", ratio, *every)
    Console(width=160).print(table)
