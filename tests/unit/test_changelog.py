"""The changelog's fragments can be joined: each is named `<issue>.<kind>.md`, and says
something.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "changelog.d"
KINDS = re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)


def test_every_fragment_has_an_issue_and_a_kind() -> None:
    names = [path.name for path in FOLDER.iterdir() if path.name != "README.md"]
    assert [
        name for name in names if not re.fullmatch(rf"\d+\.({'|'.join(KINDS)})\.md", name)
    ] == []


def test_every_fragment_is_one_paragraph() -> None:
    for path in FOLDER.glob("*.*.md"):
        text = path.read_text("utf-8").strip()
        assert text, path.name
        assert "\n\n" not in text, path.name
