"""Creates a new design as a copy of one that works."""

from __future__ import annotations

import re
from pathlib import Path

from services.delivery.printing.design.library import ALIASES, MANIFEST, NAME, DesignLibrary
from services.delivery.printing.errors import DesignNotMade
from services.delivery.printing.tools.target import find

TITLE = re.compile(r"^title\s*=.*$", re.MULTILINE)
VERSION = re.compile(r"^version\s*=.*$", re.MULTILINE)


def create(name: str, source: str, into: Path, library: DesignLibrary) -> Path:
    """Return the new folder. Raises DesignNotMade, and DesignUnknown for the source."""
    if not NAME.fullmatch(name):
        raise DesignNotMade(
            f"{name[:80]!r} is not a name for a design: lower-case letters, digits and hyphens, 64 "
            "at most, no path"
        )
    if name in ALIASES:
        raise DesignNotMade(
            f"`{name}` means `{ALIASES[name]}` for all campaigns; choose another name"
        )
    design = find(source, library).read()
    manifest = design.text_of(MANIFEST)
    manifest = TITLE.sub(f'title = "{title_of(name)}"', manifest, count=1)
    manifest = VERSION.sub("version = 1", manifest, count=1)
    folder = into / name
    try:
        into.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        for path, content in (dict(design.contents) | {MANIFEST: manifest.encode()}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except FileExistsError:
        raise DesignNotMade(f"{folder} exists already; nothing in it was changed") from None
    except OSError as error:
        raise DesignNotMade(f"{folder} cannot be written: {error.strerror}") from None
    return folder


def title_of(name: str) -> str:
    """Return `Entry pass` for `entry-pass`."""
    return name.replace("-", " ").strip().capitalize()
