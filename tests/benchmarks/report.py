"""One table of figures: what was measured, its limit or peer of the same run, the ratio, and what
is asked.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """`asked` reads the measured value against it: `is_met` is None for figures that are only
    printed.
    """

    what: str
    measured: str
    beside: str
    asked: str
    is_met: bool | None = None


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; of no values, not a number."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] if ranked else float("nan")


def show(title: str, figures: Sequence[Figure]) -> None:
    table = Table(title=title)
    for heading in ("what", "measured", "beside it, in the same run", "asked", ""):
        table.add_column(heading, overflow="fold")
    words = {True: "met", False: "[bold red]missed[/]", None: "printed"}
    for figure in figures:
        table.add_row(
            figure.what, figure.measured, figure.beside, figure.asked, words[figure.is_met]
        )
    Console(width=160).print(table)
