"""The model's runs are all asked about, TLC's answers are understood, and the quickest questions
are asked each time.
"""

from __future__ import annotations

import re

import pytest

from model.check import HERE, HOLDS, check, expectations, states, verdict

RUNS = {run.name: run for run in expectations()}


def test_every_configuration_has_an_expectation() -> None:
    assert sorted(RUNS) == sorted(path.stem for path in HERE.glob("*.cfg"))


def test_what_the_readme_says_of_states_is_what_is_expected() -> None:
    rows = re.findall(
        r"^\| ((?:`[\w-]+`(?:, )?)+) \| ([\d, ]+) \|",
        (HERE / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    told: dict[str, int | None] = {}
    for names, counts in rows:
        numbers = [
            int(count.replace(",", "")) for count in re.findall(r"\d{1,3}(?:,\d{3})*", counts)
        ]
        told.update(zip(re.findall(r"[\w-]+", names), numbers, strict=True))
    assert told == {run.name: run.states for run in RUNS.values() if run.verdict == HOLDS}


def test_a_configuration_that_holds_says_so() -> None:
    for run in RUNS.values():
        says = "Holds" in run.asks or run.name.startswith("ask-")
        assert says == (run.verdict == HOLDS), run.name


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (
            "Error: Invariant I1_NotLost is violated.\nError: The behavior up to this point is:",
            "I1_NotLost",
        ),
        ("Error: Action property Epochs is violated.", "Epochs"),
        ("Error: Temporal properties were violated.\n", "temporal"),
        ("Error: Deadlock reached.", "deadlock"),
        ("Model checking completed. No error has been found.\n12,345 states generated", HOLDS),
    ],
)
def test_what_tlc_says_is_understood(told: str, meant: str) -> None:
    assert verdict(told) == meant


def test_no_answer_is_none() -> None:
    assert verdict("java.lang.OutOfMemoryError").startswith("no verdict")
    assert (
        states("331 states generated, 110,788 distinct states found, 0 states left on queue.")
        == 110_788
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fetch-hold", "fetch-no-doubt", "topic-hold", "topic-reset"])
def test_the_checker_finds_what_it_found(name: str) -> None:
    assert check(RUNS[name]).fits(RUNS[name])
