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
from services.delivery.printing.fonts.faces import FaceKit, FaceKits, require_kit
from services.delivery.printing.fonts.shaping import UNITS, Glyphs, Spacing
from services.delivery.printing.pdf.fonts import resource_name
from services.delivery.printing.pdf.writer import StampedPage
from services.delivery.printing.plates import FieldSpot, Plate

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
    kits: FaceKits
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
                spot = self.plate.spots[part]
                stamped = self._field(spot, texts[spot.field])
                parts.append(stamped.operators)
                rare |= stamped.rare
        return StampedPage(
            self.plate, zlib.compress(b"".join(parts), LEVEL), frozenset(rare), self._links(texts)
        )

    def _links(self, texts: Mapping[str, str]) -> tuple[bytes, ...]:
        return tuple(filled_address(address, texts) for address in self.plate.links)

    def fitted(self, name: str, text: str) -> FittedText:
        """Return the lines that both ways print of a text. Raises NotStampable."""
        spot = self.plate.spots[name]
        kit, spacing = require_kit(self.kits, spot.face), self._spacing(spot)
        shown = self._capitals(name, text) if spot.upper else text
        if not kit.characters.issuperset(shown):
            raise NotStampable(name, "characters")

        def measure(words: str, scale: float) -> float:
            glyphs = kit.face.shape(words, spot.box.size * scale, spacing)
            if glyphs is None:
                raise NotStampable(name, "glyphs")
            return glyphs.width

        return fit(shown, spot.rule, spot.box, measure)

    def _capitals(self, name: str, text: str) -> str:
        """Return the text in the capital letters of the page's language, as CLDR defines them:
        Turkish has two letters i, and Greek drops accents.
        """
        language = self.plate.language.partition("-")[0].lower()
        if language == "el" and not text.isascii():
            raise NotStampable(name, "capitals")
        return (text.replace("i", "\u0130") if language in {"tr", "az"} else text).upper()

    def _spacing(self, spot: FieldSpot) -> Spacing:
        return Spacing(self.plate.language, spot.letter_spacing, dict(spot.features))

    def _code(self, payload: str) -> bytes:
        matrix, side = qr.draw_matrix(payload, self.qr_template)
        path = qr.pdf_path(matrix, side)
        own = self.plate.modules
        return path if side == own else b"%f 0 0 %f 0 0 cm\n%b" % (own / side, own / side, path)

    def _field(self, spot: FieldSpot, text: str) -> StampedField:
        key = (spot.name, text)
        if key not in self._fields:
            if len(self._fields) >= FIELDS_CACHED_MAX:
                self._fields.clear()
            self._fields[key] = self._written(spot, self.fitted(spot.name, normalized(text)))
        return self._fields[key]

    def _written(self, spot: FieldSpot, fitted: FittedText) -> StampedField:
        kit, spacing = require_kit(self.kits, spot.face), self._spacing(spot)
        pitch = spot.box.pitch_at(fitted.scale)
        y = spot.y + fitted.top + spot.baseline_at(fitted.scale, *kit.face.line(fitted.size))
        parts: list[bytes] = []
        shown_glyphs = set[int]()
        for line in fitted.lines:
            glyphs = kit.face.shape(line, fitted.size, spacing)
            if glyphs is None:
                raise NotStampable(spot.name, "glyphs")
            spare = spot.box.width - glyphs.width
            x = spot.x + (
                spare if spot.align == "right" else spare / 2 if spot.align == "center" else 0.0
            )
            written = show_glyphs(glyphs, kit, int(fitted.size * UNITS) / UNITS)
            parts.append(b"BT\n1 0 0 -1 %.6f %.6f Tm\n%bET\n" % (x, y, written))
            shown_glyphs.update(glyphs.ids)
            y += pitch
        rare = frozenset([(kit.digest, glyph) for glyph in shown_glyphs - kit.common])
        return StampedField(b"".join(parts), rare)


def show_glyphs(glyphs: Glyphs, kit: FaceKit, size: float) -> bytes:
    """Return operators such as `/K0 12 Tf [<0024>67<0039>] TJ`."""
    if not glyphs.ids:
        return b""
    parts = [b"/%b %.6f Tf\n[<" % (resource_name(kit.digest), size)]
    befores = glyphs.before or repeat(0.0)
    for glyph, before, after in zip(glyphs.ids, befores, glyphs.after):  # noqa: B905 - `repeat` has no end
        if before:
            parts.append(b">%.3f<" % -before)
        parts.append(b"%04x" % glyph)
        if after:
            parts.append(b">%d<" % after)
    parts.append(b">] TJ\n")
    return b"".join(parts).replace(b"<>", b" ")
