"""Finds the design that a command names: a folder, or the name of an installed one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.delivery.printing.design.library import (
    ALIASES,
    MANIFEST,
    NAME,
    Design,
    DesignLibrary,
    DesignVariant,
    builtin,
    builtin_names,
    read,
)
from services.delivery.printing.errors import DesignUnknown, DesignUnusable


@dataclass(frozen=True, slots=True)
class DesignTarget:
    """A design by its name. `folder` is None for a built-in one."""

    name: str
    folder: Path | None

    def read(self) -> Design:
        """Raises DesignUnusable."""
        return builtin(self.name) if self.folder is None else read(self.folder, self.name)


def find(reference: str, library: DesignLibrary) -> DesignTarget:
    """Find a design. A folder comes before a name. Raises DesignUnknown."""
    path, named = Path(reference), by_name(ALIASES.get(reference, reference), library)
    if (path / MANIFEST).is_file() or (path.is_dir() and named is None):
        return DesignTarget(path.resolve().name, path.resolve())
    if named is not None:
        return named
    reason = (
        "is a file; name the folder that it is in"
        if path.is_file()
        else "is neither a folder nor the name of a design"
    )
    raise DesignUnknown(f"{reference[:200]} {reason}; there are {', '.join(library.names())}")


def by_name(name: str, library: DesignLibrary) -> DesignTarget | None:
    if not NAME.fullmatch(name):
        return None
    own = (folder / name for folder in library.folders if (folder / name / MANIFEST).is_file())
    if (folder := next(own, None)) is not None:
        return DesignTarget(name, folder)
    return DesignTarget(name, None) if name in builtin_names() else None


def variants_of(design: Design, size: str | None, language: str | None) -> list[DesignVariant]:
    """Return the variants of all sizes and languages, or of the requested ones. Raises
    DesignUnknown and DesignUnusable.
    """
    manifest = design.manifest
    sizes = requested(size, list(manifest.sizes), f"{design.name} has no size")
    languages = requested(language, list(manifest.languages), f"{design.name} has no language")
    return [
        DesignVariant(design, size_name, language_name)
        for size_name in sizes
        for language_name in languages
    ]


def requested(name: str | None, known: list[str], otherwise: str) -> list[str]:
    if name is None:
        return known
    if name not in known:
        raise DesignUnknown(f"{otherwise} `{name[:80]}`; it has {', '.join(known)}")
    return [name]


def list_designs(library: DesignLibrary) -> Iterator[dict[str, Any]]:
    """Yield every design by its name. One that cannot be read has the reason for its title."""
    for name in library.names():
        target = by_name(name, library)
        row: dict[str, Any] = {
            "name": name,
            "title": "",
            "version": None,
            "sizes": [],
            "languages": [],
            "from": "",
        }
        if target is None:
            yield row | {
                "title": "no campaign can name it: lower-case letters, digits and hyphens",
                "from": "own",
            }
            continue
        row["from"] = "built in" if target.folder is None else str(target.folder)
        try:
            manifest = target.read().manifest
        except DesignUnusable as error:
            yield row | {"title": error.cause}
            continue
        yield row | {
            "title": manifest.title,
            "version": manifest.version,
            "sizes": list(manifest.sizes),
            "languages": list(manifest.languages),
        }
