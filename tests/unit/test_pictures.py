"""Pictures of the documentation show the designs as they are, are small, and stand on a page."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from deploy.docs.pictures import MADE_FROM, PICTURES, made_from, sources

DOCS = Path(__file__).resolve().parents[2] / "docs"
BYTES_MAX = 60_000


def test_the_pictures_show_the_designs_as_they_are() -> None:
    """Their bytes depend on the machine; the hashes of what they were made from do not."""
    assert (PICTURES / MADE_FROM).read_text("utf-8") == made_from(), (
        "run `python -m deploy.docs.pictures`"
    )


def test_every_picture_is_one_and_small() -> None:
    assert {path.name for path in PICTURES.iterdir()} == {*sources(), MADE_FROM}
    for name in sources():
        assert (PICTURES / name).stat().st_size < BYTES_MAX, name
        with Image.open(PICTURES / name) as picture:
            assert picture.mode == "P", name


def test_every_picture_is_shown_and_every_one_that_is_shown_is_there() -> None:
    shown = {
        (page.parent / path).resolve()
        for page in DOCS.rglob("*.md")
        for path in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    assert shown == {(PICTURES / name).resolve() for name in sources()}
