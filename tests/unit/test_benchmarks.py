"""What a benchmark prints can be compared with what another commit prints."""

from __future__ import annotations

import contextlib
import io

import pytest

from tests.benchmarks.__main__ import without_comparison
from tests.benchmarks.against import readings
from tests.benchmarks.report import MeasuredFigure, show


def test_the_first_number_of_each_figure_is_read_from_a_printed_table() -> None:
    figures = [
        MeasuredFigure("orders a second", "3,440/s", "raw inserts 16,000/s", "5,000/s", False),
        MeasuredFigure("idle", "0.187 core", "kafka 0.096, " * 20, "<= 0.12", None),
        MeasuredFigure("a long name of a figure " * 3, "paid to mailed p50 0.23 s " * 4, "", ""),
        MeasuredFigure("memory", "+1.5% over", "", "flat", True),
        MeasuredFigure("a word", "flat", "", "printed"),
    ]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        show("Figures", figures)
    assert readings(printed.getvalue()) == {
        "orders a second": 3440.0,
        "idle": 0.187,
        ("a long name of a figure " * 3).strip(): 50.0,
        "memory": 1.5,
    }


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["--only", "pipeline", "--against", "HEAD~1"], ["--only", "pipeline"]),
        (["--against=HEAD~1", "--rounds", "5", "--orders=10"], ["--orders=10"]),
        (["--against"], []),
    ],
)
def test_both_commits_get_the_options_but_those_of_the_comparison(
    typed: list[str], passed: list[str]
) -> None:
    assert list(without_comparison(iter(typed))) == passed
