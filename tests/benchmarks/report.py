"""A table of figures: what was measured, what it is compared with in the same run, and the
limit.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class MeasuredFigure:
    """`is_met` is None for a figure that has no limit and is only printed."""

    what: str
    measured: str
    beside: str
    limit: str
    is_met: bool | None = None


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest rank; not a number if there are no values."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] if ranked else float("nan")


def show(title: str, figures: Sequence[MeasuredFigure]) -> None:
    table = Table(title=title)
    for heading in ("what", "measured", "beside it, in the same run", "limit", ""):
        table.add_column(heading, overflow="fold")
    words = {True: "met", False: "[bold red]missed[/]", None: "printed"}
    for figure in figures:
        table.add_row(
            figure.what, figure.measured, figure.beside, figure.limit, words[figure.is_met]
        )
    Console(width=160).print(table)
