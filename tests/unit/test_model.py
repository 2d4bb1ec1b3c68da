"""Each run of the model has an expected result, TLC's output is understood, and the quickest runs
are checked each time.
"""

from __future__ import annotations

import re

import pytest

from model.check import HERE, HOLDS, check, expectations, states, verdict
from tests.support.sources import named, tracked

RUNS = {run.name: run for run in expectations()}
README = (HERE / "README.md").read_text("utf-8")
_, _, REQUIRED = README.partition("## What this requires of the implementation")
RULES = {
    number: name.lower()
    for number, name in re.findall(r"^(\d+)\. \*\*(.+?)\.\*\*", REQUIRED, re.MULTILINE)
}


def rules_without_a_name(text: str) -> list[str]:
    """The numbers of the rules that a text quotes without their names beside them."""
    line = " ".join(text.lower().split())
    return [
        quoted[1]
        for quoted in re.finditer(r"\brule (\d+)", line)
        if not re.match(rf",? \(?{re.escape(RULES[quoted[1]])}\b", line[quoted.end() :])
    ]


def test_a_quoted_rule_has_its_name_beside_its_number() -> None:
    assert list(RULES) == [str(number) for number in range(1, 25)]
    unnamed = {
        named(path): numbers
        for path in tracked("services/*.py", "tests/protocol/*.py")
        if (numbers := rules_without_a_name(path.read_text("utf-8")))
    }
    assert unnamed == {}
    assert rules_without_a_name("rule 19 (contiguity), rule 22, rule 7,\n compare and lock") == [
        "22",
        "7",
    ]


def test_every_configuration_has_an_expectation() -> None:
    assert sorted(RUNS) == sorted(path.stem for path in HERE.glob("*.cfg"))


def test_the_states_in_the_readme_are_those_that_are_expected() -> None:
    rows = re.findall(
        r"^\| ((?:`[\w-]+`(?:, )?)+) \| ([\d, ]+) \|",
        README,
        re.MULTILINE,
    )
    documented: dict[str, int | None] = {}
    for names, counts in rows:
        numbers = [
            int(count.replace(",", "")) for count in re.findall(r"\d{1,3}(?:,\d{3})*", counts)
        ]
        documented.update(zip(re.findall(r"[\w-]+", names), numbers, strict=True))
    assert documented == {run.name: run.states for run in RUNS.values() if run.verdict == HOLDS}


def test_a_configuration_that_holds_is_named_so() -> None:
    for run in RUNS.values():
        is_named_so = "Holds" in run.statement or run.name.startswith("ask-")
        assert is_named_so == (run.verdict == HOLDS), run.name


@pytest.mark.parametrize(
    ("output", "expected"),
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
def test_the_output_of_tlc_is_understood(output: str, expected: str) -> None:
    assert verdict(output) == expected


def test_output_without_a_verdict_is_no_verdict() -> None:
    assert verdict("java.lang.OutOfMemoryError").startswith("no verdict")
    assert (
        states("331 states generated, 110,788 distinct states found, 0 states left on queue.")
        == 110_788
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fetch-hold", "fetch-no-doubt", "topic-hold", "topic-reset"])
def test_the_checker_finds_what_it_found(name: str) -> None:
    assert check(RUNS[name]).fits(RUNS[name])
