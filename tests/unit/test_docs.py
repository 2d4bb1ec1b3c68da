"""Documentation cannot lie: pages are generated from the code, every error has a section, and the
commands, paths, anchors, log lines and codes that a page names exist.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from deploy.docs.features import modules_by_feature, register
from deploy.docs.pages import import_everything
from services.console.cli import application
from services.runtime.errors import catalogue
from services.runtime.records import Effect, Record
from tests.support.sources import ROOT, called, named, tracked

TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
HEADINGS = ("Meaning", "Impact", "Diagnosis", "Mitigation", "Proof that it is over")
RUNBOOK = (ROOT / "deploy" / "runbooks" / "errors.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^##? |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))

import_everything()
CODES = sorted(
    code for code, kind in catalogue().items() if kind.__module__.startswith("services.")
)


def test_the_reference_pages_are_what_the_code_declares() -> None:
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


def test_no_section_is_left_of_an_error_that_was_removed() -> None:
    assert sorted(SECTIONS) == CODES


def commands_in_texts() -> Iterator[str]:
    """Each command that a page, a next step or a help text asks its reader to type."""
    texts = {
        path.name: path.read_text("utf-8")
        for path in (ROOT / "docs").rglob("*.md")
        if path.name != "commands.md"
    }
    texts |= {
        path.name: path.read_text("utf-8") for path in (ROOT / "deploy" / "runbooks").rglob("*.md")
    }
    texts |= {name: (ROOT / name).read_text("utf-8") for name in TOP}
    texts |= {code: kind.next_step for code, kind in catalogue().items()}
    for text in texts.values():
        yield from re.findall(r"`(stubline [^`]+)`", text)
        yield from re.findall(r"^ {4}(stubline [^|\n]+)", text, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(commands_in_texts())))
def test_a_command_in_a_text_exists(command: str) -> None:
    """Its name and its options exist, and nothing that it needs is missing; placeholders in
    capitals stand for what they name.
    """
    words = [stands_for(word) for word in shlex.split(command.replace("...", "why"))][1:]
    at = typer.main.get_command(application())
    while isinstance(at, TyperGroup) and words and not words[0].startswith("-"):
        assert words[0] in at.commands, f"{words[0]} is no command"
        at = at.commands[words.pop(0)]
    if isinstance(at, TyperGroup) or not words or "--help" in words:
        return  # named, not given to be typed with its arguments
    at.make_context("stubline", words)


def stands_for(word: str) -> str:
    numbers = {"PARTITION": "0", "N": "1", "NEXT_OFFSET": "1", "END": "1", "LIMIT": "1"}
    return numbers.get(word, "00000000-0000-0000-0000-000000000000" if word == "ID" else word)


def paths_in(page: Path) -> Iterator[str]:
    """The files and folders that a page names, in backticks or as links."""
    text = page.read_text("utf-8")
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir())
    yield from re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            yield (page.parent / link).resolve().relative_to(ROOT).as_posix()


PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    paths = [path for path in paths_in(page) if "NNNN" not in path]  # a number to be given
    assert [path for path in paths if not (ROOT / path).exists()] == []


RUNBOOKS = sorted((ROOT / "deploy" / "runbooks").glob("*.md"))
LINKED = [*PAGES, *RUNBOOKS, ROOT / "model" / "README.md"]
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_anchors(page: Path, text: str) -> list[str]:
    """The anchors, on the page itself or on another, that no heading has."""
    linked = [
        (page.parent / path if path else page, anchor)
        for path, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text)
    ]
    texts = {path: text if path == page else path.read_text("utf-8") for path, _ in linked}
    return [anchor for path, anchor in linked if anchor not in anchors(texts[path])]


@pytest.mark.parametrize("page", LINKED, ids=named)
def test_every_anchor_that_a_page_links_to_exists(page: Path) -> None:
    assert broken_anchors(page, page.read_text("utf-8")) == []


def texts_of(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def log_lines() -> Iterator[str]:
    """Each text that a service may log: the first argument of a logger's method (or of `log`, which
    is one), and what a function is given, or takes by default, as its `event`.
    """
    for path in tracked("services/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                if called(node) in LEVELS | {"log"} and node.args:
                    yield from texts_of(node.args[0])
                for keyword in node.keywords:
                    if keyword.arg == "event":
                        yield from texts_of(keyword.value)
            elif isinstance(node, ast.arguments):
                for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True):
                    if argument.arg == "event" and default is not None:
                        yield from texts_of(default)


def quoted_log_lines(text: str) -> list[str]:
    """The log lines that a page quotes: in backticks after "line" or "lines"."""
    quoted = re.findall(r"\blog\b[^.`]*\blines?\s+`([^`]+)`", text)
    return [" ".join(line.split()) for line in quoted]


LOG_LINES = frozenset(log_lines())


@pytest.mark.parametrize("page", [*PAGES, *RUNBOOKS], ids=named)
def test_every_log_line_that_a_page_quotes_is_logged(page: Path) -> None:
    assert set(quoted_log_lines(page.read_text("utf-8"))) - LOG_LINES == set()


# Words of vendors, HTTP and PostgreSQL that no code of ours holds.
FOREIGN_WORDS = frozenset({"deposit-paid", "verify-full"})


def words_of_the_code() -> frozenset[str]:
    """Each word with a hyphen in the files that are no documentation and in their paths."""
    files = [
        path
        for folder in ("services", "schemas", "deploy")
        for path in tracked(f"{folder}/*")
        if path.suffix in {".py", ".sql", ".css", ".html", ".toml", ".yml", ".yaml"}
    ]
    words = set(CODES)
    for path in files:
        words |= set(re.findall(r"[a-z]+(?:-[a-z]+)+", named(path) + path.read_text("utf-8")))
    return frozenset(words)


def quoted_codes(text: str) -> set[str]:
    """The words in backticks that have the form of an error code."""
    return set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text))


WORDS = words_of_the_code()


@pytest.mark.parametrize("page", [*PAGES, *RUNBOOKS], ids=named)
def test_every_code_that_a_page_quotes_exists(page: Path) -> None:
    assert quoted_codes(page.read_text("utf-8")) - WORDS - FOREIGN_WORDS == set()


def test_a_wrong_anchor_log_line_or_code_is_seen() -> None:
    page = ROOT / "docs" / "tutorial.md"
    text = "# A\n## B c\n[x](#b-c) [y](#b-d) [z](reference/glossary.md#terms) [z](../README.md#no)"
    assert broken_anchors(page, text) == ["b-d", "no"]
    text = "The log lines `retrying after\nerror` of a code end; the log has the line `no such`."
    assert quoted_log_lines(text) == ["retrying after error", "no such"]
    assert set(quoted_log_lines(text)) - LOG_LINES == {"no such"}
    assert quoted_codes("`lane-fenced`, `lane-fensed`") - WORDS == {"lane-fensed"}


COLUMNS_MAX = 100
ADDRESS = re.compile(r"\]\([^)]*\)|https?://\S+")
GENERATED = "<!-- Made by "


def prose(page: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page without its code blocks and tables."""
    is_code = False
    for number, line in enumerate(page.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and not line.startswith(("|", "    ")):
            yield number, line


def lines_too_long(page: str) -> list[int]:
    """The lines of prose that pass the limit; the addresses of links do not count."""
    return [number for number, line in prose(page) if len(ADDRESS.sub("", line)) > COLUMNS_MAX]


def test_prose_written_by_hand_ends_at_column_100() -> None:
    texts = {path: path.read_text("utf-8") for path in tracked("*.md")}
    assert [
        f"{path.relative_to(ROOT)}:{number}"
        for path, text in texts.items()
        if not text.startswith(GENERATED)
        for number in lines_too_long(text)
    ] == []


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("x" * 100, []),
        ("x" * 101, [1]),
        (f"- a list\n  {'x' * 99}", [2]),
        (f"[{'x' * 90}](https://stubline.example/docs)", []),
        (f"| {'x' * 101} |", []),
        (f"```\n{'x' * 101}\n```\n{'x' * 101}", [4]),
        (f"    {'x' * 101}", []),
    ],
)
def test_only_prose_has_a_limit(page: str, expected: list[int]) -> None:
    assert lines_too_long(page) == expected


def test_the_page_of_the_architecture_names_where_to_begin() -> None:
    """Each change under its last heading names a file or a page to open first."""
    page = ROOT / "docs" / "explanation" / "architecture.md"
    _, _, changes = page.read_text("utf-8").partition("## Which file to open for a change")
    first_lines = re.findall(r"^### .+\n\n(.+)", changes, re.MULTILINE)
    assert len(first_lines) == changes.count("\n### ") >= 6
    assert [line for line in first_lines if not line.startswith("Open ")] == []
    assert len(set(paths_in(page))) > 40


class Statements:
    """A session that keeps what it is asked to execute."""

    def __init__(self) -> None:
        self.executed: list[tuple[str, list[int]]] = []

    def execute(self, statement: str, arguments: list[int]) -> None:
        self.executed.append((statement, arguments))


def test_the_service_of_the_readme_is_one() -> None:
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - the code of the page is what is tested
    totals, session = names["totals"], Statements()
    records = [Record("numbers.v1", 0, offset, 0, None, b"%d" % offset, ()) for offset in (1, 2)]
    numbers = [totals.parse(record) for record in records]
    assert totals.handle(numbers, session) == [Effect(), Effect()]
    assert session.executed == [("update totals set total = total + %s", [3])]
    assert totals.input_topics == ("numbers.v1", "example.totals.replay.v1")


def test_every_mark_of_a_feature_is_in_the_register() -> None:
    known = {name for features in register().values() for name in features}
    assert known >= set(modules_by_feature((ROOT / "tests").rglob("test_*.py")))


def test_the_register_has_one_short_sentence_for_each_id() -> None:
    rows = [row for features in register().values() for row in features.items()]
    assert [name for name, _ in rows] == [f"SF-{number:03d}" for number in range(1, 229)]
    assert [name for name, text in rows if not re.fullmatch(r"[A-Z][^.]{10,98}\.", text)] == [], (
        "one sentence, in one line"
    )
