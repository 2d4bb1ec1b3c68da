"""Markdown that more than one page needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table. Each cell becomes one line, with its `|` as an HTML entity."""
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(cell(content) for content in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(content: object) -> str:
    return " ".join(str(content).split()).replace("|", "&#124;")
