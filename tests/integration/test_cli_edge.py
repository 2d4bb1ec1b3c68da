"""Laws of the command line's edge: whatever an argument or a file contains, a command ends with its
code and one sentence.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
import typer
from typer.core import TyperGroup

from deploy.local.roles import as_role
from services.console import cli
from services.runtime.records import pack_headers
from services.runtime.settings import EX_CONFIG

PROGRAM = str(Path(sys.executable).with_name("stubline"))
UNAVAILABLE = {
    "DATABASE_URL": "postgresql://127.0.0.1:1/nobody",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
}
WORDS = {
    "not UTF-8": "\udcff",
    "a control character": "\x1b[2J",
    "a second control character": "\x9b2J",
    "longer than 10000 characters": "x" * 10_001,
    "NUL": "\0",
}


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


TREE = typer.main.get_command(cli.application())
assert isinstance(TREE, TyperGroup)
ALL = sorted(commands(TREE))


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS.keys())
@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_a_word_that_nothing_can_take_is_refused_by_every_command(
    command: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((*command, word), (*command, "--actor", word), (*command, f"--reason={word}")):
        assert cli.run(words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("usage: argument ")
        assert len(printed.err.splitlines()) == 1


def test_bytes_that_are_no_utf_8_end_in_one_line_from_the_shell_too() -> None:
    for arguments, more in (
        ([b"orders", b"show", b"shop:\xff\xfe"], {}),
        ([b"pause", b"ingest"], {b"STUBLINE_ACTOR": b"\xff"}),
    ):
        environment = {
            os.fsencode(name): os.fsencode(value)
            for name, value in {**os.environ, **UNAVAILABLE}.items()
        } | more
        done = subprocess.run(
            [os.fsencode(PROGRAM), *arguments],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def deep(folder: Path) -> Path:
    (folder / "deep.toml").write_text("a = " + "[" * 100_000)
    return folder / "deep.toml"


def large(folder: Path) -> Path:
    with (folder / "large.toml").open("wb") as file:
        file.truncate(2**33)  # sparse
    return folder / "large.toml"


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


FILES: dict[str, Callable[[Path], Path]] = {
    "deep": deep,
    "large": large,
    "fifo": fifo,
    "device": lambda _: Path("/dev/zero"),
    "folder": lambda folder: folder,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("campaigns", "apply", "FILE"), 1),
        (("sources", "check", "--file", "FILE"), EX_CONFIG),
        (("sources", "list", "--file", "FILE"), EX_CONFIG),
        (("check-event", "FILE"), 2),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_every_file_that_a_command_reads_is_bounded(
    command: Sequence[str], code: int, kind: str, tmp_path: Path
) -> None:
    words = [str(FILES[kind](tmp_path)) if word == "FILE" else word for word in command]
    done = subprocess.run(
        [PROGRAM, *words],
        env={**os.environ, **UNAVAILABLE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", sorted(FILES.keys() - {"deep"}))
def test_a_secret_that_is_no_file_of_a_few_characters_stops_its_source_alone(
    kind: str, tmp_path: Path
) -> None:
    """`file:/dev/zero` and a FIFO would be read for ever."""
    sources = tmp_path / "sources.toml"
    secret = FILES[kind](tmp_path)
    sources.write_text(f'[sources.shop]\nkind = "woocommerce"\nsecrets = ["file:{secret}"]\n')
    done = subprocess.run(
        [PROGRAM, "sources", "check", "--file", str(sources), "--json"],
        env={**os.environ, **UNAVAILABLE}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot be used: it " in done.stdout


DEAD_LETTER = """
insert into runtime.dead_letters (consumer_group, topic, topic_id, partition, "offset",
    key, value, value_sha256, headers, stage, code, text, code_version)
values ('stubline.ingest', 'callbacks.received.v1', 'id', 0, 7,
    %(key)s, %(value)s, sha256(%(value)s), %(headers)s,
    'parse', 'record-unexpected-error', %(text)s, '1')
returning id
"""
FORGED = "\nstate           discarded\n    stubline dead discard --code all"


def test_what_a_dead_letter_holds_cannot_imitate_a_line_of_the_command(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", as_role(database_url, "operator"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "80")
    with psycopg.connect(database_url) as owner:
        forged = FORGED.encode()
        headers = pack_headers([(f"h{FORGED}", forged)])
        content = {
            "key": b"k" + forged,
            "value": b"v" + forged,
            "headers": headers,
            "text": f"boom{FORGED}",
        }
        row = owner.execute(DEAD_LETTER.encode(), content).fetchone()
        assert row is not None
    assert cli.run(["dead", "show", str(row[0])]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert not [
        line for line in shown if line.startswith(("state           discarded", "    stubline"))
    ]
    assert "|     stubline dead discard --code all" in shown
    assert cli.run(["dead", "list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if str(row[0]) in line]
    assert "record-unexpected-error" in line
    assert "boom" in line
