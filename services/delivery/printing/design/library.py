"""A design: a folder that is read once, within limits, and identified by the hash of its
content.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from services.delivery.printing.errors import DesignUnknown, DesignUnusable

MANIFEST, PAGE = "design.toml", "page.html"
FILES_MAX, FILE_BYTES_MAX, DESIGN_BYTES_MAX = 200, 8_000_000, 32_000_000
SIDE_MM_MIN, SIDE_MM_MAX = 20, 2_000
SIZE = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?)mm ([0-9]{1,4}(?:\.[0-9]{1,3})?)mm")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
ALIASES = {"plain": "event-ticket"}  # the name in campaigns of the first release

FieldName = Literal[
    "number", "holder", "purchaser", "email", "order", "status", "issued", "position"
]
CODE = "code"  # of the element with data-qr
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]


def printable(size: str) -> str:
    sides = SIZE.fullmatch(size)
    if sides is None:
        raise ValueError('a size is its width and height, such as "148mm 210mm"')
    if not all(SIDE_MM_MIN <= float(side) <= SIDE_MM_MAX for side in sides.groups()):
        raise ValueError(f"a side has from {SIDE_MM_MIN} to {SIDE_MM_MAX:,} mm")
    return size


class ManifestTable(BaseModel):
    """A table of a manifest. An unknown key is refused, so that a misspelt one is found."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class FieldDeclaration(ManifestTable):
    sample: str = Field(max_length=1_000)


class CampaignSample(ManifestTable):
    """The texts that previews show in place of a campaign's own."""

    name: str = "Spring Draw"
    when: str = "Saturday, 6 March 2027, 19:30 (Europe/Dublin)"
    venue: str = "Example Hall, Dublin"


class Manifest(ManifestTable):
    """The content of design.toml."""

    title: str = Field(min_length=1, max_length=120)
    version: int = Field(
        ge=1, description="Raised by the author; the content's hash is what counts."
    )
    languages: tuple[Language, ...] = Field(min_length=1, max_length=40)
    sizes: dict[Slug, Annotated[str, AfterValidator(printable)]] = Field(
        min_length=1,
        max_length=12,
        description='Name -> "width height" in mm. The first is the default.',
    )
    fields: dict[FieldName, FieldDeclaration]
    characters: str = Field(
        "", max_length=2_000, description="To be compiled beyond Latin with all European accents."
    )
    campaign: CampaignSample = CampaignSample()
    text: dict[Language, dict[str, str]] = Field(default_factory=dict)


REMEDIES = {  # by pydantic's type of a fault; its message in the braces
    "extra_forbidden": "nothing of that name is read here: correct its name or take it out",
    "missing": "is missing: add it",
}


@dataclass(frozen=True)
class Design:
    """All files of a design. Nothing is read again later, so what was checked is printed."""

    name: str
    contents: Mapping[str, bytes] = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """Return the hash of every file's name and bytes, so any edit makes another design."""
        digest = hashlib.sha256()
        for path, content in sorted(self.contents.items()):
            digest.update(f"{len(path)}:{path}:{len(content)}:".encode() + content)
        return digest.hexdigest()

    @cached_property
    def manifest(self) -> Manifest:
        text = self.text_of(MANIFEST)
        try:
            manifest = Manifest.model_validate(tomllib.loads(text))
        except RecursionError:
            raise DesignUnusable(
                f"{self.name}/{MANIFEST}: is nested too deeply: make it flatter"
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise DesignUnusable(f"{self.name}/{MANIFEST}: is not TOML: {error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"] if part != "[key]")
            fault = REMEDIES.get(first["type"], "{}").format(
                first["msg"].removeprefix("Value error, ")
            )
            raise DesignUnusable(
                f"{self.name}/{MANIFEST}{line_of(text, first['loc'])}: `{where}`: {fault}"
            ) from None
        for language in manifest.languages:
            if (
                missing := manifest.text.get(manifest.languages[0], {}).keys()
                - manifest.text.get(language, {}).keys()
            ):
                raise DesignUnusable(
                    f"{self.name}/{MANIFEST}: [text.{language}] lacks `{min(missing)}`, which "
                    f"[text.{manifest.languages[0]}] has"
                )
        return manifest

    def text_of(self, path: str) -> str:
        if path not in self.contents:
            raise DesignUnusable(
                f"{self.name} has no {path}: each design has {MANIFEST} and {PAGE}"
            )
        try:
            return self.contents[path].decode()
        except UnicodeDecodeError as error:
            raise DesignUnusable(
                f"{self.name}/{path}: is not UTF-8 at byte {error.start}: save it as UTF-8"
            ) from None


def line_of(text: str, location: Sequence[int | str]) -> str:
    """Return the line of a fault, as `:12`: that of the last name of its location that the manifest
    contains. Empty if it contains none.
    """
    lines = text.splitlines()
    for name in reversed([part for part in location if isinstance(part, str) and part != "[key]"]):
        for number, line in enumerate(lines, 1):
            if re.match(rf"\s*(\[.*\b)?{re.escape(name)}\b", line):
                return f":{number}"
    return ""


def read(folder: Path, name: str | None = None) -> Design:
    """Read a design. Raises DesignUnusable for a missing folder, a link out of it, and more files
    or bytes than a design may have.
    """
    if not folder.is_dir():
        raise DesignUnusable(f"{folder} is not a folder")
    contents: dict[str, bytes] = {}
    for path in sorted(design_files(folder)):
        inside = path.relative_to(folder).as_posix()
        if not inside.isprintable():  # a name that is not UTF-8 is not printable either
            raise DesignUnusable(
                f"{folder.name}/{inside!a}: a file whose name cannot be printed: give it another"
            )
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DesignUnusable(
                f"{folder.name}/{inside}: a link out of the design's folder; copy the file into it"
            )
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DesignUnusable(
                f"{folder.name}/{inside}: more than {FILE_BYTES_MAX // 1_000_000} MB; make it "
                "smaller"
            )
        contents[inside] = path.read_bytes()
        if len(contents) > FILES_MAX or sum(map(len, contents.values())) > DESIGN_BYTES_MAX:
            raise DesignUnusable(
                f"{folder.name}: more than {FILES_MAX} files or {DESIGN_BYTES_MAX // 1_000_000} MB"
            )
    return Design(name or folder.name, contents)


def design_files(folder: Path) -> Iterator[Path]:
    """Yield the author's files, without hidden ones, backup copies and Stubline's previews."""
    for path in folder.rglob("*"):
        parts = PurePosixPath(path.relative_to(folder).as_posix()).parts
        if path.is_file() and not any(
            part.startswith(".") or part.endswith("~") or part == "preview" for part in parts
        ):
            yield path


@dataclass(frozen=True, slots=True)
class DesignVariant:
    """A design in one of its sizes and languages, as a campaign names it."""

    design: Design
    size: str
    language: str

    @property
    def page_size(self) -> str:
        return self.design.manifest.sizes[self.size]


@dataclass(frozen=True)
class DesignLibrary:
    """The designs of this installation: the operator's folders, then the built-in ones."""

    folders: tuple[Path, ...] = ()

    def names(self) -> list[str]:
        own = [path.parent.name for folder in self.folders for path in folder.glob(f"*/{MANIFEST}")]
        return sorted({*own, *builtin_names()})

    def choose(self, reference: str, language: str = "") -> DesignVariant:
        """Return the variant for `event-ticket`, or with a size after it, `event-ticket-a4`. Raises
        DesignUnknown and DesignUnusable.
        """
        if not NAME.fullmatch(reference):
            raise DesignUnknown(f"{reference[:80]!r} is not a name of a design")
        for name, size in name_and_size(reference):
            design = self.design(name) or self.design(ALIASES.get(name, name))
            if design is None or (size and size not in design.manifest.sizes):
                continue
            languages = design.manifest.languages
            variant_language = best_language(language, languages) or languages[0]
            return DesignVariant(
                design, size or next(iter(design.manifest.sizes)), variant_language
            )
        raise DesignUnknown(
            f"`{reference}`; there are {', '.join(self.names())}, each with `-SIZE` after it or "
            "without"
        )

    def design(self, name: str) -> Design | None:
        for folder in self.folders:
            if (folder / name / MANIFEST).is_file():
                return read(folder / name)
        return builtin(name) if name in builtin_names() else None


def best_language(requested: str, languages: Sequence[str]) -> str | None:
    """Look a language up as RFC 4647 does: `pt-BR` is served by `pt`, and `pt` not by `pt-BR`."""
    known = {name.lower(): name for name in reversed(languages)}
    parts = requested.lower().split("-")
    while parts:
        if (language := known.get("-".join(parts))) is not None:
            return language
        parts.pop()
    return None


def name_and_size(reference: str) -> Iterator[tuple[str, str]]:
    """Yield the complete name first: a folder may be called `door-a4`."""
    yield reference, ""
    name, _, size = reference.rpartition("-")
    if name:
        yield name, size


def builtin_names() -> list[str]:
    return sorted(
        entry.name for entry in files(__package__).joinpath("builtin").iterdir() if entry.is_dir()
    )


def builtin(name: str) -> Design:
    folder = files(__package__).joinpath("builtin", name)
    return Design(
        name, {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    )
