"""Laws of files named by a setting or an argument: reading one returns it or one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.runtime.files import (
    DEPTH_MAX,
    FileUnusableError,
    parse_toml,
    read_bytes,
    read_text,
    read_toml,
)
from services.runtime.text import one_line, quoted

SETTINGS = settings(max_examples=100)


def test_a_file_is_read_up_to_its_bound_and_not_a_byte_further(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_bytes(file, 5) == b"12345"
    with pytest.raises(FileUnusableError, match="larger than 4 bytes"):
        read_bytes(file, 4)


@pytest.mark.parametrize(
    "name",
    [
        "/dev/zero",
        "/dev/tty",
        "/",
        "/proc/self/mem",
        "fifo",
        "missing",
        "nul\0",
        "\udcff",
        "x" * 5_000,
    ],
)
def test_what_is_no_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    """A FIFO without a writer, a device that never ends, a name that no file can have."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileUnusableError):
        read_bytes(tmp_path / name, 1_000)


def test_bytes_that_are_no_utf_8_are_refused_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"ab\xff")
    with pytest.raises(FileUnusableError, match="not UTF-8 at byte 2"):
        read_text(tmp_path / "file", 100)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 40 + "]" * 40,
        "{" * 9_000,
        ".".join("a" * 5_000) + " = 1",
        "a." * 1_000_000 + "a = 1",
        "[" + "'a' . " * 500_000 + "a]",
        'a = { "b"' + ".b" * 1_000_000 + " = 1 }",
    ],
    ids=[
        "lists",
        "lists that end",
        "tables",
        "dots",
        "a million dots",
        "dots of a table",
        "dots in a table",
    ],
)
def test_a_document_that_is_nested_deeply_is_refused(text: str) -> None:
    with pytest.raises(FileUnusableError):
        parse_toml(text)


def test_a_document_of_the_usual_depth_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("[a.b.c]\nd = [{e = 1}]\n")
    assert read_toml(tmp_path / "file") == {"a": {"b": {"c": {"d": [{"e": 1}]}}}}
    assert parse_toml("a = " + "[" * (DEPTH_MAX - 2) + "]" * (DEPTH_MAX - 2))


@SETTINGS
@example(text="a\u2028b\u2029c\x85d")
@given(st.text())
def test_text_from_outside_stays_on_its_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
    assert all(line.startswith("| ") for line in quoted(text).split("\n"))
    assert not any(
        ord(character) < 32 or 127 <= ord(character) < 160 for character in one_line(text)
    )
