"""A plate: one compiled page, as parts of a PDF with placeholders between them. It holds what a
stamp needs, and nothing of WeasyPrint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

from services.delivery.printing.design.fitting import FieldBox, FittingRule
from services.delivery.printing.errors import PlateUnreadable

MAGIC = b"stubline-plate-4\n"

# What fills a placeholder: the number of an object of the plate that all pages share, of one that
# each page has for itself, or of one of the document.
Placeholder = tuple[
    Literal[
        "shared", "page", "document", "pages", "content", "struct", "annotation", "fonts", "link"
    ],
    int,
]


@dataclass(frozen=True, slots=True)
class PlateObject:
    """A PDF object: texts[0] placeholders[0] texts[1] ... texts[n]."""

    texts: tuple[bytes, ...]
    placeholders: tuple[Placeholder, ...] = ()
    stream: bytes | None = None  # after its dictionary, and compressed already

    def filled(self, numbers: Mapping[Placeholder, bytes]) -> bytes:
        if not self.placeholders:
            return self.texts[0]
        parts = [self.texts[0]]
        for placeholder, text in zip(self.placeholders, self.texts[1:], strict=True):
            parts += (numbers[placeholder], text)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class PlateField:
    """A field of a plate, with all that the stamp needs to set a text in it: its FieldPlacement,
    its fitting rule and its font. Lengths are in CSS pixels, as WeasyPrint draws.
    """

    name: str  # unique on the page: `holder.2` if it shows the holder twice
    field: str  # the field whose text it shows
    rule: FittingRule
    x: float
    y: float
    box: FieldBox
    baseline: float
    height: float
    align: str
    letter_spacing: float
    upper: bool
    features: tuple[tuple[str, int], ...]
    face: str  # digest of its font subset

    def baseline_at(self, scale: float, ascent: float, height: float) -> float:
        """Return how far the baseline is below the top of its line: half of the leading and the
        ascent. At full size it is where WeasyPrint laid it out.
        """
        return self.baseline if scale == 1 else (self.box.pitch_at(scale) - height) / 2 + ascent


@dataclass(frozen=True)
class Plate:
    """A page that WeasyPrint has laid out once, ready for stamping."""

    digest: str
    title: str
    language: str
    media: tuple[float, float]  # points
    shared: tuple[PlateObject, ...]
    resources: int  # the index of the resources in `shared`
    page: tuple[PlateObject, ...]  # of each page; the first is the page itself
    roots: tuple[int, ...]  # those of `page` whose parent is the structure's document element
    marks: tuple[int, ...]  # marked content id -> its element in `page`
    annotated: tuple[tuple[int, int], ...]  # annotation and element, both in `page`
    content: tuple[bytes | str, ...]  # operators, and the names of what is stamped between them
    rare: tuple[tuple[str, int], ...]  # face and glyph: uncommon ones of the page's own text
    fields: Mapping[str, PlateField]
    square: float  # the code's side in CSS pixels
    faces: tuple[str, ...]
    modules: int  # of the code's side in its square
    links: tuple[str, ...]  # addresses with `{field}` in them
    missing: str = ""  # characters of texts set in it that no font has: shown as U+FFFD

    @cached_property
    def slots(self) -> tuple[str, ...]:
        return tuple(part for part in self.content if isinstance(part, str))


@dataclass
class PlateBlobs:
    """Binary parts after a JSON head."""

    parts: list[bytes] = field(default_factory=list)

    def add(self, blob: bytes) -> int:
        self.parts.append(blob)
        return len(self.parts) - 1


def pack(magic: bytes, head: Any, blobs: PlateBlobs) -> bytes:
    head_bytes = orjson.dumps({"head": head, "sizes": [len(blob) for blob in blobs.parts]})
    return b"".join([magic, b"%d\n" % len(head_bytes), head_bytes, *blobs.parts])


def unpack(magic: bytes, packed: bytes) -> tuple[Any, list[bytes]]:
    if not packed.startswith(magic):
        raise PlateUnreadable(f"it does not begin with {magic!r}")
    try:
        start = packed.index(b"\n", len(magic)) + 1
        size = int(packed[len(magic) : start - 1])
        envelope = orjson.loads(packed[start : start + size])
        at, blobs = start + size, []
        for length in envelope["sizes"]:
            blobs.append(packed[at : at + length])
            at += length
    except (ValueError, KeyError, TypeError) as error:
        raise PlateUnreadable(str(error)) from None
    if at != len(packed):
        raise PlateUnreadable("it is truncated, or has more after it")
    return envelope["head"], blobs


PLATE_SCALARS = (
    "digest",
    "title",
    "language",
    "media",
    "resources",
    "roots",
    "marks",
    "annotated",
    "square",
    "faces",
    "modules",
    "rare",
    "links",
    "missing",
)
FIELD_SCALARS = (
    "name",
    "field",
    "x",
    "y",
    "baseline",
    "height",
    "align",
    "letter_spacing",
    "upper",
    "features",
    "face",
)


def to_bytes(plate: Plate) -> bytes:
    blobs = PlateBlobs()

    def packed_object(plate_object: PlateObject) -> list[Any]:
        return [
            blobs.add(b"\0".join(plate_object.texts)),
            plate_object.placeholders,
            None if plate_object.stream is None else blobs.add(plate_object.stream),
        ]

    head = {name: getattr(plate, name) for name in PLATE_SCALARS} | {
        "shared": [packed_object(plate_object) for plate_object in plate.shared],
        "page": [packed_object(plate_object) for plate_object in plate.page],
        "content": [part if isinstance(part, str) else blobs.add(part) for part in plate.content],
        "spots": [field_to_json(plate_field) for plate_field in plate.fields.values()],
    }
    return pack(MAGIC, head, blobs)


def field_to_json(plate_field: PlateField) -> dict[str, Any]:
    rule, box = plate_field.rule, plate_field.box
    return {name: getattr(plate_field, name) for name in FIELD_SCALARS} | {
        "rule": [rule.fit, rule.lines, rule.shrink, rule.valign],
        "box": [box.width, box.height, box.size, box.pitch, box.pitch_scales],
    }


def from_bytes(packed: bytes) -> Plate:
    """Raises PlateUnreadable."""
    head, blobs = unpack(MAGIC, packed)
    try:
        return plate_from_json(head, blobs)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PlateUnreadable(str(error)) from None


def plate_from_json(head: dict[str, Any], blobs: list[bytes]) -> Plate:
    def plate_object(packed: list[Any]) -> PlateObject:
        texts, placeholders, stream = packed
        return PlateObject(
            tuple(blobs[texts].split(b"\0")),
            tuple((kind, at) for kind, at in placeholders),
            None if stream is None else blobs[stream],
        )

    plain = {name: as_tuples(head[name]) for name in PLATE_SCALARS}
    return Plate(
        **plain,
        shared=tuple(map(plate_object, head["shared"])),
        page=tuple(map(plate_object, head["page"])),
        content=tuple(part if isinstance(part, str) else blobs[part] for part in head["content"]),
        fields={row["name"]: field_from_json(row) for row in head["spots"]},
    )


def field_from_json(row: dict[str, Any]) -> PlateField:
    plain: dict[str, Any] = {name: as_tuples(row[name]) for name in FIELD_SCALARS}
    return PlateField(**plain, rule=FittingRule(*row["rule"]), box=FieldBox(*row["box"]))


def as_tuples(value: Any) -> Any:
    """Return lists of JSON as the tuples that they were."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def join_texts(
    texts: Iterable[bytes | Placeholder],
) -> tuple[tuple[bytes, ...], tuple[Placeholder, ...]]:
    """Join neighbouring texts, so that one is before, between and after all placeholders."""
    joined, placeholders = [b""], list[Placeholder]()
    for part in texts:
        if isinstance(part, bytes):
            joined[-1] += part
        else:
            placeholders.append(part)
            joined.append(b"")
    return tuple(joined), tuple(placeholders)
