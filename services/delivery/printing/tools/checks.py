"""Finds faults of a design, and what a reader or a scanner cannot read. Each finding names file,
line and remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import zxingcpp
from PIL import Image

from services.delivery.printing.design.fitting import FittedText
from services.delivery.printing.design.library import NAME, PAGE, Design, DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.design.page import source_line as line_of
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.tools import pictures, samples
from services.delivery.printing.tools.comparison import DesignComparison, ReferencePage
from services.delivery.printing.tools.legible import (
    CODE_DPI,
    code_width,
    details,
    quiet_zone,
    squeezed,
)

FILE_BYTES_MAX = 40_000
DPI = 150
Kind = Literal["fault", "warning"]


@dataclass(frozen=True, slots=True)
class DesignFinding:
    """A fault or a warning. `size` and `language` are those of the variant, or empty if the finding
    is the same in all.
    """

    kind: Kind
    text: str
    size: str = ""
    language: str = ""


@dataclass
class DesignCheck:
    """One run. `begin` is called before each layout, with what is laid out."""

    plate_cache: PlateCache
    begin: Callable[[str], None]
    pages: int = 0  # that were compared
    codes: int = 0  # that were read
    # Of a size and language: each finding is reported once.
    _reported: set[tuple[str, str]] = field(init=False, default_factory=set)

    def run(self, design: Design, variants: Sequence[DesignVariant]) -> Iterator[DesignFinding]:
        if not NAME.fullmatch(design.name):
            yield DesignFinding(
                "warning",
                f"{design.name}: no campaign can name it: lower-case letters, digits and hyphens",
            )
        for variant in variants:
            is_first = variant.language == variants[0].language
            self._reported.clear()
            try:
                for finding in self._one(variant, is_first=is_first):
                    yield DesignFinding(finding.kind, finding.text, variant.size, variant.language)
            except DesignUnusable as error:
                yield DesignFinding("fault", error.cause, variant.size, variant.language)

    def campaign(self, variant: DesignVariant, facts: CampaignFacts) -> Iterator[DesignFinding]:
        """Check one variant with usual and with hard texts, as a campaign's start does. Its plate
        is in the plate cache afterwards.
        """
        comparison = DesignComparison(variant, facts, self.plate_cache)
        is_clean = True
        for what, texts in samples.texts(variant.design, variant.language):
            # Each layout has a time limit of its own, because a heavy design may be a good one.
            self.begin(f"{variant.size}, {variant.language}, {what}")
            for finding in self._compared(comparison, texts, what):
                is_clean = is_clean and finding.kind != "fault"
                yield finding
        if is_clean:
            self.plate_cache.put_plate(
                plate_key(variant, facts), comparison.plate, is_compared=True
            )

    def _one(self, variant: DesignVariant, *, is_first: bool) -> Iterator[DesignFinding]:
        """Check all campaigns. Hard texts are checked only in the first language, because they are
        the same in all.
        """
        for index, (what, facts) in enumerate(samples.campaigns(variant.design, variant.language)):
            comparison = self._comparison(variant, facts, what)
            if index == 0:
                yield from self._usual(comparison, is_first=is_first)
            elif is_first:
                yield from self._compared(
                    comparison, samples.usual(variant.design, variant.language), what
                )

    def _comparison(
        self, variant: DesignVariant, facts: CampaignFacts, what: str
    ) -> DesignComparison:
        self.begin(f"{variant.size}, {variant.language}, {what}")
        try:
            return DesignComparison(variant, facts, self.plate_cache)
        except DesignUnusable as error:
            if facts == samples.facts(variant.design, variant.language):
                raise
            raise type(error)(f"{error.cause} (with {what})") from None

    def _usual(self, comparison: DesignComparison, *, is_first: bool) -> Iterator[DesignFinding]:
        for what, texts in samples.texts(comparison.variant.design, comparison.variant.language):
            self.begin(f"{comparison.variant.size}, {comparison.variant.language}, {what}")
            yield from self._compared(comparison, texts, what)
            if not is_first:
                return
            if texts == samples.usual(comparison.variant.design, comparison.variant.language):
                yield from self._legible(comparison, texts)

    def _compared(
        self, comparison: DesignComparison, texts: Mapping[str, str], what: str
    ) -> Iterator[DesignFinding]:
        fitted, unstampable = comparison.split(texts)
        yield from text_warnings(comparison, texts, fitted, unstampable)
        payload = samples.payload()
        reference = comparison.reference(texts, payload)
        stamped = comparison.printed(texts, payload)
        one, other = pictures.raster(stamped, DPI), pictures.raster(reference.pdf, DPI)
        self.pages += 1
        difference = pictures.compare(one, other, DPI)
        place = differing_field(comparison, difference)
        if difference.pixels and self._is_new("differs", place):
            yield DesignFinding(
                "fault",
                f"{place}: stamped with {what} it differs from WeasyPrint's page in "
                f"{difference.pixels} pixels, by {difference.most} of 255: `stubline design "
                "preview` shows where; leave out what is unusual there",
            )
        mine, theirs = (squeezed(pictures.text_of(pdf)) for pdf in (stamped, reference.pdf))
        # A page with unstampable texts has WeasyPrint's text on both.
        if not unstampable and mine != theirs and self._is_new("reads", ""):
            yield DesignFinding(
                "fault",
                f"{comparison.variant.design.name}/{PAGE}: stamped with {what} it reads "
                f"differently than WeasyPrint's page ({first_difference(mine, theirs)}): remove "
                "what turns or divides a field's text",
            )
        yield from self._read(comparison, one, payload, what)

    def _read(
        self, comparison: DesignComparison, page: Image.Image, payload: str, what: str
    ) -> Iterator[DesignFinding]:
        is_read = payload in [code.text for code in zxingcpp.read_barcodes(page)]
        self.codes += is_read
        if not is_read and self._is_new("unread", ""):
            yield DesignFinding(
                "fault",
                f"{code_at(comparison)}: with {what} a scanner does not read the code at {DPI} "
                "dpi: let nothing cover it, and give it 4 modules of white on each side",
            )

    def _is_new(self, what: str, place: str) -> bool:
        is_new = (what, place) not in self._reported
        self._reported.add((what, place))
        return is_new

    def _legible(
        self, comparison: DesignComparison, texts: Mapping[str, str]
    ) -> Iterator[DesignFinding]:
        """Check for people and scanners: sizes, contrast, completeness and the size of the file."""
        payload = samples.payload()
        printed, reference = (
            comparison.printed(texts, payload),
            comparison.reference(texts, payload),
        )
        warnings = [
            *code_width(comparison),
            *quiet_zone(comparison, pictures.raster(printed, CODE_DPI), square_of(reference)),
        ]
        yield from (DesignFinding("warning", f"{code_at(comparison)}: {text}") for text in warnings)
        name = comparison.variant.design.name
        warnings = list(details(comparison, pictures.text_of(printed)))
        yield from (DesignFinding("warning", f"{name}/{PAGE}: {text}") for text in warnings)
        if len(printed) > FILE_BYTES_MAX:
            yield DesignFinding(
                "warning",
                f"{name}: a file of one ticket has {len(printed):,} bytes, {FILE_BYTES_MAX:,} are "
                "good: use smaller images, fewer fonts and weights",
            )


def text_warnings(
    comparison: DesignComparison,
    texts: Mapping[str, str],
    fitted: Mapping[str, FittedText],
    unstampable: Mapping[str, str],
) -> Iterator[DesignFinding]:
    if unstampable:
        names = sorted({comparison.plate.fields[name].field for name in unstampable})
        yield DesignFinding(
            "warning",
            f"{field_at(comparison, next(iter(unstampable)))}: its font lacks letters of "
            f"{max(unstampable.values(), key=len)[:40]!r} (so for {', '.join(names)}): WeasyPrint "
            "lays such pages out, at some 0.2 s each; take a font that has them, or name them as "
            "`characters` in design.toml",
        )
    if texts == samples.usual(comparison.variant.design, comparison.variant.language):
        for name in (name for name, text in fitted.items() if text.is_cut):
            yield DesignFinding(
                "warning",
                f"{field_at(comparison, name)}: even its sample is truncated; give it room, or "
                'data-fit="shrink" or "wrap"',
            )


def first_difference(mine: str, theirs: str) -> str:
    """Return where two texts begin to differ."""
    at = next(
        (at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other),
        min(len(mine), len(theirs)),
    )
    return f"`{mine[at : at + 20]}` and `{theirs[at : at + 20]}`"


def field_at(comparison: DesignComparison, name: str) -> str:
    """Return file and line of a field, by the name of its plate_field."""
    spec = comparison.template.fields[name]
    return f"{comparison.variant.design.name}/{spec.at}: field `{spec.name}`"


def code_at(comparison: DesignComparison) -> str:
    return f"{comparison.variant.design.name}/{line_of(comparison.variant.design, 'data-qr')}"


def differing_field(comparison: DesignComparison, difference: pictures.PixelDifference) -> str:
    """Return the field in which the difference begins, or the page."""
    if difference.box is not None:
        left, top, right, bottom = difference.box
        for name, plate_field in comparison.plate.fields.items():
            box = plate_field.box
            if (
                left < plate_field.x + box.width
                and right > plate_field.x
                and top < plate_field.y + box.height
                and bottom > plate_field.y
            ):
                return field_at(comparison, name)
    return f"{comparison.variant.design.name}/{PAGE}"


def square_of(reference: ReferencePage) -> tuple[float, float, float]:
    if reference.laid_out.square is None:
        raise DesignUnusable("the code has no place")  # compiling would have refused it
    return reference.laid_out.square
