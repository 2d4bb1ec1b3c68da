"""What is wrong with a design, and what a reader or a scanner will mind. Each finding names file,
line and remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import zxingcpp
from PIL import Image

from services.delivery.printing.design.library import NAME, PAGE, Design, DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.design.page import source_line as line_of
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.tools import pictures, samples
from services.delivery.printing.tools.legible import (
    CODE_DPI,
    code_width,
    details,
    quiet_zone,
    squeezed,
)
from services.delivery.printing.tools.proof import DesignProof, ReferencePage

FILE_BYTES_MAX = 40_000
DPI = 150
Kind = Literal["fault", "warning"]


@dataclass(frozen=True, slots=True)
class DesignFinding:
    """`size` and `language`: where it was found; empty, when it is the same in all."""

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
    _places: set[tuple[str, str]] = field(
        init=False, default_factory=set
    )  # of a size and language: each is told once

    def run(self, design: Design, all_chosen: Sequence[DesignVariant]) -> Iterator[DesignFinding]:
        if not NAME.fullmatch(design.name):
            yield DesignFinding(
                "warning",
                f"{design.name}: no campaign can name it: small letters, digits and hyphens",
            )
        for variant in all_chosen:
            is_first = variant.language == all_chosen[0].language
            self._places.clear()
            try:
                for finding in self._one(variant, is_first=is_first):
                    yield DesignFinding(finding.kind, finding.text, variant.size, variant.language)
            except DesignUnusable as error:
                yield DesignFinding("fault", error.cause, variant.size, variant.language)

    def campaign(self, variant: DesignVariant, facts: CampaignFacts) -> Iterator[DesignFinding]:
        """What a campaign's start asks: this one, with usual and with hard texts. Its plate is on
        the shelf then.
        """
        proof = DesignProof(variant, facts, self.plate_cache)
        is_whole = True
        for what, texts in samples.texts(variant.design, variant.language):
            self.begin(
                f"{variant.size}, {variant.language}, {what}"
            )  # each has its own time: a heavy design is no bad one
            for finding in self._compared(proof, texts, what):
                is_whole = is_whole and finding.kind != "fault"
                yield finding
        if is_whole:
            self.plate_cache.put_plate(plate_key(variant, facts), proof.plate, is_proven=True)

    def _one(self, variant: DesignVariant, *, is_first: bool) -> Iterator[DesignFinding]:
        """All campaigns; texts that are hard only in the first language, for they are the same in
        all.
        """
        for place, (what, facts) in enumerate(samples.campaigns(variant.design, variant.language)):
            proof = self._proof(variant, facts, what)
            if place == 0:
                yield from self._usual(proof, is_first=is_first)
            elif is_first:
                yield from self._compared(
                    proof, samples.usual(variant.design, variant.language), what
                )

    def _proof(self, variant: DesignVariant, facts: CampaignFacts, what: str) -> DesignProof:
        self.begin(f"{variant.size}, {variant.language}, {what}")
        try:
            return DesignProof(variant, facts, self.plate_cache)
        except DesignUnusable as error:
            if facts == samples.facts(variant.design, variant.language):
                raise
            raise type(error)(f"{error.cause} (with {what})") from None

    def _usual(self, proof: DesignProof, *, is_first: bool) -> Iterator[DesignFinding]:
        for what, texts in samples.texts(proof.variant.design, proof.variant.language):
            self.begin(f"{proof.variant.size}, {proof.variant.language}, {what}")
            yield from self._compared(proof, texts, what)
            if not is_first:
                return
            if texts == samples.usual(proof.variant.design, proof.variant.language):
                yield from self._legible(proof, texts)

    def _compared(
        self, proof: DesignProof, texts: Mapping[str, str], what: str
    ) -> Iterator[DesignFinding]:
        fitted, odd = proof.split(texts)
        if odd:
            names = sorted({proof.plate.spots[name].field for name in odd})
            yield DesignFinding(
                "warning",
                f"{field_at(proof, next(iter(odd)))}: its font lacks letters of "
                f"{max(odd.values(), key=len)[:40]!r} (so for "
                f"{', '.join(names)}): WeasyPrint lays such pages out whole, at some 0.2 s each; "
                "take a font that has them, or "
                "name them as `characters` in design.toml",
            )
        if texts == samples.usual(proof.variant.design, proof.variant.language):
            for name in (name for name, it in fitted.items() if it.is_cut):
                yield DesignFinding(
                    "warning",
                    (
                        f"{field_at(proof, name)}: even its sample is cut; give it room, or "
                        'data-fit="shrink" or "wrap"'
                    ),
                )
        payload = samples.payload()
        own = proof.whole(texts, payload)
        stamped = proof.printed(texts, payload)
        one, other = pictures.raster(stamped, DPI), pictures.raster(own.pdf, DPI)
        self.pages += 1
        found = pictures.compare(one, other, DPI)
        place = differing_field(proof, found)
        if found.pixels and self._is_new("differs", place):
            yield DesignFinding(
                "fault",
                f"{place}: stamped with {what} it differs from WeasyPrint's page in "
                f"{found.pixels} pixels, by "
                f"{found.most} of 255: `stubline design preview` shows where; leave out what is "
                "unusual there",
            )
        mine, theirs = (squeezed(pictures.text_of(pdf)) for pdf in (stamped, own.pdf))
        if (
            not odd and mine != theirs and self._is_new("reads", "")
        ):  # what is set whole is WeasyPrint's on both
            yield DesignFinding(
                "fault",
                f"{proof.variant.design.name}/{PAGE}: stamped with {what} it reads otherwise than "
                f"WeasyPrint's page ({first_difference(mine, theirs)}): "
                "take away what turns or divides a field's text",
            )
        yield from self._read(proof, one, payload, what)

    def _read(
        self, proof: DesignProof, page: Image.Image, payload: str, what: str
    ) -> Iterator[DesignFinding]:
        said = [it.text for it in zxingcpp.read_barcodes(page)]
        self.codes += payload in said
        if payload not in said and self._is_new("unread", ""):
            yield DesignFinding(
                "fault",
                f"{code_at(proof)}: with {what} a scanner does not read the code at {DPI} dpi: "
                "let nothing run over it, and give it "
                "4 modules of white on each side",
            )

    def _is_new(self, what: str, place: str) -> bool:
        is_new = (what, place) not in self._places
        self._places.add((what, place))
        return is_new

    def _legible(self, proof: DesignProof, texts: Mapping[str, str]) -> Iterator[DesignFinding]:
        """For people and scanners: how large, how clear, how complete, how heavy."""
        payload = samples.payload()
        printed, own = proof.printed(texts, payload), proof.whole(texts, payload)
        told = [
            *code_width(proof),
            *quiet_zone(proof, pictures.raster(printed, CODE_DPI), square_of(own)),
        ]
        yield from (DesignFinding("warning", f"{code_at(proof)}: {text}") for text in told)
        name = proof.variant.design.name
        found = details(proof, pictures.text_of(printed))
        yield from (DesignFinding("warning", f"{name}/{PAGE}: {text}") for text in found)
        if len(printed) > FILE_BYTES_MAX:
            yield DesignFinding(
                "warning",
                f"{name}: a file of one ticket has {len(printed):,} bytes, {FILE_BYTES_MAX:,} are "
                "good: use smaller images, "
                "fewer fonts and weights",
            )


def first_difference(mine: str, theirs: str) -> str:
    """Where two texts part."""
    at = next(
        (at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other),
        min(len(mine), len(theirs)),
    )
    return f"`{mine[at : at + 20]}` and `{theirs[at : at + 20]}`"


def field_at(proof: DesignProof, name: str) -> str:
    """file:line of a field, by the name of its spot."""
    said = proof.template.fields[name]
    return f"{proof.variant.design.name}/{said.at}: field `{said.name}`"


def code_at(proof: DesignProof) -> str:
    return f"{proof.variant.design.name}/{line_of(proof.variant.design, 'data-qr')}"


def differing_field(proof: DesignProof, found: pictures.PixelDifference) -> str:
    """The field that the difference begins in; else the page."""
    if found.box is not None:
        left, top, right, bottom = found.box
        for name, spot in proof.plate.spots.items():
            box = spot.box
            if (
                left < spot.x + box.width
                and right > spot.x
                and top < spot.y + box.height
                and bottom > spot.y
            ):
                return field_at(proof, name)
    return f"{proof.variant.design.name}/{PAGE}"


def square_of(own: ReferencePage) -> tuple[float, float, float]:
    if own.laid_out.square is None:
        raise DesignUnusable("the code has no place")  # compiling has refused it before
    return own.laid_out.square
