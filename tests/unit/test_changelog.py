"""The changelog has the release that the code is, and its fragments can be joined: each is named
`<issue>.<kind>.md` and is one paragraph.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "changelog.d"
KINDS = dict(
    re.findall(r"^\| `(\w+)` \| (.+) \|", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
)
RELEASES = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)[1:]


def problem(name: str, text: str) -> str | None:
    """What is wrong with a fragment."""
    if not re.fullmatch(rf"\d+\.({'|'.join(KINDS)})\.md", name):
        return f"{name}: is not named <issue>.<kind>.md"
    if not text.strip() or "\n\n" in text.strip():
        return f"{name}: is not one paragraph"
    return None


def test_every_fragment_can_be_joined() -> None:
    fragments = [path for path in FOLDER.iterdir() if path.name != "README.md"]
    assert [
        fault for path in fragments if (fault := problem(path.name, path.read_text("utf-8")))
    ] == []


@pytest.mark.parametrize(
    ("name", "text", "is_good"),
    [
        ("12.added.md", "New.", True),
        ("12.added.md", "New.\nAnd more.\n", True),
        ("12.added.md", "New.\n\nAnd more.", False),
        ("12.added.md", " \n", False),
        ("12.novel.md", "New.", False),
        ("added.md", "New.", False),
        ("12.added.txt", "New.", False),
    ],
)
def test_the_rule_for_fragments_can_fail(name: str, text: str, is_good: bool) -> None:
    assert (problem(name, text) is None) == is_good


def test_the_newest_release_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert RELEASES
    assert RELEASES[0].split()[0] == project["version"]


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.split()[0])
def test_a_release_has_the_headings_in_order(release: str) -> None:
    headings = re.findall(r"^### (.+)$", release, re.MULTILINE)
    assert headings
    assert headings == [heading for heading in KINDS.values() if heading in headings]
