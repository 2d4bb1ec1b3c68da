"""The fonts that come with Stubline for designs, as files of a package that the lock file pins."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import distribution


@cache
def font_names() -> dict[str, str]:
    """Return file name -> path of the TrueType files of the font package."""
    files = distribution("font-source-sans-pro").files or []
    return {path.name: str(path.locate()) for path in files if path.suffix == ".ttf"}


@cache
def font(name: str) -> bytes:
    with open(font_names()[name], "rb") as file:  # noqa: PTH123 - a path of the package, read once
        return file.read()


@cache
def fonts_digest() -> str:
    """Return the hash of all these fonts: another release of them makes another page."""
    digest = hashlib.sha256()
    for name in sorted(font_names()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(font(name)).digest())
    return digest.hexdigest()
