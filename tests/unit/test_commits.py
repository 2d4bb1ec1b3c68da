"""A commit's subject fits where it is read: in 72 columns, in words and without a full stop."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUBJECT_COLUMNS_MAX = 72
# The rule holds for what came after this commit; older subjects are as they are.
BEFORE_THE_RULE = "ced1a74"


def subjects() -> list[str]:
    command = [
        "git",
        "-C",
        str(ROOT),
        "log",
        "--no-merges",
        "--format=%s",
        f"{BEFORE_THE_RULE}..HEAD",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("the history is not here: a shallow clone, or no clone at all")
    return done.stdout.splitlines()


def problem(subject: str) -> str | None:
    if len(subject) > SUBJECT_COLUMNS_MAX:
        return f"{len(subject)} columns: {subject}"
    if subject.endswith("."):
        return f"a full stop at the end: {subject}"
    if not re.match(r"[\w][\w ,/.-]*: \S|Revert |fixup! ", subject):
        return f"names no place: {subject}"
    return None


def test_every_subject_is_short_and_names_the_place() -> None:
    assert [fault for subject in subjects() if (fault := problem(subject))] == []


@pytest.mark.parametrize(
    ("subject", "is_good"),
    [
        ("issuer: claim numbers in id order", True),
        ("issuer, delivery: claim numbers in id order", True),
        ("issuer: claim numbers in id order.", False),
        ("claim numbers", False),
        ("issuer: " + "x" * 64, True),
        ("issuer: " + "x" * 65, False),
    ],
)
def test_the_rule_can_fail(subject: str, is_good: bool) -> None:
    assert (problem(subject) is None) == is_good
