"""Documentation cannot lie: pages are made from the code, codes have sections, and the commands
that are told exist.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from deploy.docs.pages import import_everything
from services.console.cli import application
from services.runtime.errors import catalogue

ROOT = Path(__file__).resolve().parents[2]
HEADINGS = ("Meaning", "Impact", "Diagnosis", "Mitigation", "Proof that it is over")
RUNBOOK = (ROOT / "deploy" / "runbooks" / "errors.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^##? |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))

import_everything()
CODES = sorted(
    code for code, kind in catalogue().items() if kind.__module__.startswith("services.")
)


def test_the_reference_pages_are_what_the_code_says() -> None:
    """In a process of its own: this one has imported the tests' own settings and metrics."""
    command = [sys.executable, "-m", "deploy.docs", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_a_section_with_all_its_parts(code: str) -> None:
    section = SECTIONS.get(code, "")
    assert [
        heading
        for heading in HEADINGS
        if not re.search(rf"^\*\*{heading}\.\*\*\s+[^*\s]", section, re.MULTILINE)
    ] == []


def test_no_section_is_left_of_an_error_that_is_gone() -> None:
    assert sorted(SECTIONS) == CODES


def told() -> Iterator[str]:
    """Each command that a page, a next step or a help text tells its reader to type."""
    texts = {
        path.name: path.read_text("utf-8")
        for path in (ROOT / "docs").rglob("*.md")
        if path.name != "commands.md"
    }
    texts |= {
        path.name: path.read_text("utf-8") for path in (ROOT / "deploy" / "runbooks").rglob("*.md")
    }
    texts |= {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")}
    texts |= {code: kind.next_step for code, kind in catalogue().items()}
    for text in texts.values():
        yield from re.findall(r"`(stubline [^`]+)`", text)
        yield from re.findall(r"^ {4}(stubline [^|\n]+)", text, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(told())))
def test_a_command_that_is_told_exists(command: str) -> None:
    """Its name, its options and that all it needs is there; placeholders in capitals stand for what
    they name.
    """
    words = [stands_for(word) for word in shlex.split(command.replace("...", "why"))][1:]
    at = typer.main.get_command(application())
    while isinstance(at, TyperGroup) and words and not words[0].startswith("-"):
        assert words[0] in at.commands, f"{words[0]} is no command"
        at = at.commands[words.pop(0)]
    if isinstance(at, TyperGroup) or not words or "--help" in words:
        return  # named, not told to be typed with its arguments
    at.make_context("stubline", words)


def stands_for(word: str) -> str:
    numbers = {"PARTITION": "0", "N": "1", "NEXT_OFFSET": "1", "END": "1", "LIMIT": "1"}
    return numbers.get(word, "00000000-0000-0000-0000-000000000000" if word == "ID" else word)
