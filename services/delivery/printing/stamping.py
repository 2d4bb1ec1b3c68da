"""Stamps a ticket's page: writes its texts and its code between the plate's operators. Nothing is
laid out, so a page takes microseconds.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import repeat

from services.delivery.printing import qr
from services.delivery.printing.design.fitting import FittedText, fit
from services.delivery.printing.design.library import CODE
from services.delivery.printing.design.links import filled_address
from services.delivery.printing.fonts.faces import FontSubset, FontSubsets, require_subset
from services.delivery.printing.fonts.shaping import UNITS, Glyphs, TextStyle
from services.delivery.printing.pdf.fonts import resource_name
from services.delivery.printing.pdf.writer import StampedPage
from services.delivery.printing.plates import Plate, PlateField

FIELDS_CACHED_MAX = 8_192  # per plate: an order's tickets have the same names
LEVEL = 1  # of zlib: pages are small, and the fonts are compressed already


class NotStampable(Exception):
    """The field cannot be stamped, so WeasyPrint sets it. `reason` is for the metric."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


def normalized(text: str) -> str:
    """Return the text that both ways print: one line, with accents joined to their letters."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass(frozen=True, slots=True)
class StampedField:
    """A field as it is written on a page."""

    operators: bytes
    rare: frozenset[tuple[str, int]]  # face and glyph of what it shows beside common glyphs


@dataclass
class PageStamp:
    """Stamps pages with one plate. Not shared between threads."""

    plate: Plate
    subsets: FontSubsets
    qr_template: qr.QrTemplate | None
    _fields: dict[tuple[str, str], StampedField] = field(
        init=False, default_factory=dict, repr=False
    )

    def page(self, texts: Mapping[str, str], payload: str) -> StampedPage:
        """Return a page with the texts of all fields of the plate. Raises NotStampable."""
        parts: list[bytes] = []
        rare = set(self.plate.rare)
        for part in self.plate.content:
            if isinstance(part, bytes):
                parts.append(part)
            elif part == CODE:
                parts.append(self._code(payload))
            else:
                plate_field = self.plate.fields[part]
                stamped = self._field(plate_field, texts[plate_field.field])
                parts.append(stamped.operators)
                rare |= stamped.rare
        return StampedPage(
            self.plate, zlib.compress(b"".join(parts), LEVEL), frozenset(rare), self._links(texts)
        )

    def _links(self, texts: Mapping[str, str]) -> tuple[bytes, ...]:
        return tuple(filled_address(address, texts) for address in self.plate.links)

    def fitted(self, name: str, text: str) -> FittedText:
        """Return the lines that both ways print of a text. Raises NotStampable."""
        plate_field = self.plate.fields[name]
        subset, style = require_subset(self.subsets, plate_field.face), self._style(plate_field)
        shown = self._capitals(name, text) if plate_field.upper else text
        if not subset.characters.issuperset(shown):
            raise NotStampable(name, "characters")

        def measure(words: str, scale: float) -> float:
            glyphs = subset.face.shape(words, plate_field.box.size * scale, style)
            if glyphs is None:
                raise NotStampable(name, "glyphs")
            return glyphs.width

        return fit(shown, plate_field.rule, plate_field.box, measure)

    def _capitals(self, name: str, text: str) -> str:
        """Return the text in the capital letters of the page's language, as CLDR defines them:
        Turkish has two letters i, and Greek drops accents.
        """
        language = self.plate.language.partition("-")[0].lower()
        if language == "el" and not text.isascii():
            raise NotStampable(name, "capitals")
        return (text.replace("i", "\u0130") if language in {"tr", "az"} else text).upper()

    def _style(self, plate_field: PlateField) -> TextStyle:
        return TextStyle(
            self.plate.language, plate_field.letter_spacing, dict(plate_field.features)
        )

    def _code(self, payload: str) -> bytes:
        matrix, side = qr.draw_matrix(payload, self.qr_template)
        path = qr.pdf_path(matrix, side)
        own = self.plate.modules
        return path if side == own else b"%f 0 0 %f 0 0 cm\n%b" % (own / side, own / side, path)

    def _field(self, plate_field: PlateField, text: str) -> StampedField:
        key = (plate_field.name, text)
        if key not in self._fields:
            if len(self._fields) >= FIELDS_CACHED_MAX:
                self._fields.clear()
            self._fields[key] = self._written(
                plate_field, self.fitted(plate_field.name, normalized(text))
            )
        return self._fields[key]

    def _written(self, plate_field: PlateField, fitted: FittedText) -> StampedField:
        subset, style = require_subset(self.subsets, plate_field.face), self._style(plate_field)
        pitch = plate_field.box.pitch_at(fitted.scale)
        y = (
            plate_field.y
            + fitted.top
            + plate_field.baseline_at(fitted.scale, *subset.face.line(fitted.size))
        )
        parts: list[bytes] = []
        shown_glyphs = set[int]()
        for line in fitted.lines:
            glyphs = subset.face.shape(line, fitted.size, style)
            if glyphs is None:
                raise NotStampable(plate_field.name, "glyphs")
            spare = plate_field.box.width - glyphs.width
            x = plate_field.x + (
                spare
                if plate_field.align == "right"
                else spare / 2
                if plate_field.align == "center"
                else 0.0
            )
            written = show_glyphs(glyphs, subset, int(fitted.size * UNITS) / UNITS)
            parts.append(b"BT\n1 0 0 -1 %.6f %.6f Tm\n%bET\n" % (x, y, written))
            shown_glyphs.update(glyphs.ids)
            y += pitch
        rare = frozenset([(subset.digest, glyph) for glyph in shown_glyphs - subset.common])
        return StampedField(b"".join(parts), rare)


def show_glyphs(glyphs: Glyphs, subset: FontSubset, size: float) -> bytes:
    """Return operators such as `/K0 12 Tf [<0024>67<0039>] TJ`."""
    if not glyphs.ids:
        return b""
    parts = [b"/%b %.6f Tf\n[<" % (resource_name(subset.digest), size)]
    befores = glyphs.before or repeat(0.0)
    for glyph, before, after in zip(glyphs.ids, befores, glyphs.after):  # noqa: B905 - `repeat` has no end
        if before:
            parts.append(b">%.3f<" % -before)
        parts.append(b"%04x" % glyph)
        if after:
            parts.append(b">%d<" % after)
    parts.append(b">] TJ\n")
    return b"".join(parts).replace(b"<>", b" ")
