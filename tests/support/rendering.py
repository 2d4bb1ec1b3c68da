"""Designs, printed both ways: stamped, and as WeasyPrint itself prints them; and what can be seen
on a page.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pypdfium2
import zxingcpp
from PIL import Image, ImageChops

from services.delivery.printing import qr
from services.delivery.printing.compile import compiler
from services.delivery.printing.compile.layout import PageFont, PageTemplate
from services.delivery.printing.compile.unstampable import UnstampableFitter, plate_with_texts
from services.delivery.printing.design.fitting import CHARS_MAX, FittedText
from services.delivery.printing.design.library import Design, DesignLibrary, DesignVariant, read
from services.delivery.printing.design.page import CampaignFacts, UnstampableText
from services.delivery.printing.documents import Document, TicketPage
from services.delivery.printing.fonts import faces
from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.pdf.metadata import DocumentMetadata
from services.delivery.printing.pdf.writer import PdfWriter
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.plates import Plate
from services.delivery.printing.renderer import Renderer, facts_of
from services.delivery.printing.stamping import NotStampable, PageStamp, normalized
from tests.support.corpus import ODD

DESIGNS = ("raffle-entry", "event-ticket", "e-ticket")
SIZES = ("a5", "a4", "phone")
VARIANTS = tuple(f"{design}-{size}" for design in DESIGNS for size in SIZES)
AT = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
SPRING = CampaignFacts(
    "spring",
    "Spring Draw",
    "Saturday, 6 March 2027, 19:30 (Europe/Dublin)",
    "Example Hall, Dublin",
    "#8c1d40",
)
ADA = {
    "number": "R-000123",
    "holder": "Ada Lovelace",
    "purchaser": "Grace Hopper",
    "email": "grace@example.org",
    "order": "7001",
    "status": "Active",
    "issued": "21 November 2026",
    "position": "1 of 1",
}
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def payload(number: int = 0) -> str:
    """Return a ticket's payload: another for each number."""
    digits = [BASE32[(number // 32**at + 7 * at) % 32] for at in range(26)]
    return "STUBLINE:" + "".join(digits)


@dataclass
class SubsetStore:
    """Font subsets of this process: the part of the plate cache that stamps use, without a disk."""

    subsets: dict[str, FontSubset] = field(default_factory=dict)

    def subset(self, digest: str) -> FontSubset | None:
        return self.subsets.get(digest)

    def subset_of(self, font: PageFont, characters: str, tags: frozenset[str]) -> FontSubset:
        digest = faces.digest_of(font.content, font.index, font.family, characters, tags)
        if digest not in self.subsets:
            self.subsets[digest] = faces.compile_subset(
                font.content, font.index, font.family, characters, tags
            )
        return self.subsets[digest]


SUBSETS = SubsetStore()
qr_template = cache(qr.build_qr_template)


@dataclass(frozen=True)
class CompiledDesign:
    """One design in one size for one campaign."""

    template: PageTemplate
    plate: Plate
    stamp: PageStamp
    writer: PdfWriter
    tried: dict[tuple[str, ...], dict[str, UnstampableText]] = field(default_factory=dict)

    def split(self, texts: Mapping[str, str]) -> tuple[dict[str, FittedText], dict[str, str]]:
        """Return what is fitted for stamping, and what cannot be stamped, by the names of the
        plate's plate_fields.
        """
        fitted, unstampable = dict[str, FittedText](), dict[str, str]()
        for name, plate_field in self.plate.fields.items():
            try:
                fitted[name] = self.stamp.fitted(name, normalized(texts[plate_field.field]))
            except NotStampable:
                unstampable[name] = normalized(texts[plate_field.field])
        return fitted, unstampable

    def ours(self, texts: Mapping[str, str], code: str = payload()) -> bytes:
        """Print as the sender does: stamped, and laid out what cannot be."""
        _, unstampable = self.split(texts)
        stamp = (
            PageStamp(self.plate_with_texts_of(unstampable), SUBSETS, self.stamp.qr_template)
            if unstampable
            else self.stamp
        )
        return self.writer.write([stamp.page(texts, code)], about())

    def plate_with_texts_of(self, unstampable: Mapping[str, str]) -> Plate:
        return plate_with_texts(self.template, self.plate, unstampable, SUBSETS.subset_of)

    def weasyprints(self, texts: Mapping[str, str], code: str = payload()) -> bytes:
        """Return the same page as WeasyPrint writes it to a file: its fonts, its operators, its
        objects; nothing of ours.
        """
        matrix, side = qr.draw_matrix(code, self.stamp.qr_template)
        square = (qr.svg_path(matrix, side), side)
        return written(self.template, {**self.split(texts)[0], **self.unstampable(texts)}, square)

    def unstampable(self, texts: Mapping[str, str]) -> dict[str, UnstampableText]:
        """Return sizes and heights at which WeasyPrint sets what cannot be stamped."""
        key = tuple(texts.values())
        if key not in self.tried:
            fitted, unstampable = self.split(texts)
            short = {name: text[:CHARS_MAX] for name, text in unstampable.items()}
            fitter = UnstampableFitter(
                self.template, self.plate, short, fitted, compiler.blank_square(self.plate.modules)
            )
            self.tried[key] = fitter.fitted()
        return self.tried[key]


def written(
    template: PageTemplate,
    split: Mapping[str, FittedText | UnstampableText],
    square: tuple[str, int],
) -> bytes:
    pdf: bytes = template.lay_out(split, square).document.write_pdf(
        pdf_tags=True, pdf_variant="pdf/ua-1"
    )
    return pdf


def about(title: str = "Spring Draw: order 7001", language: str = "en") -> DocumentMetadata:
    return DocumentMetadata(title, "1 ticket, order 7001", language, AT)


def compile_template(template: PageTemplate) -> CompiledDesign:
    plate = compiler.compile_plate(template, SUBSETS.subset_of, modules=qr_template(35).side)
    return CompiledDesign(
        template, plate, PageStamp(plate, SUBSETS, qr_template(35)), PdfWriter(SUBSETS)
    )


@cache
def compiled_design(reference: str, facts: CampaignFacts = SPRING) -> CompiledDesign:
    """Return a built-in design, compiled once per process."""
    return compile_template(PageTemplate(DesignLibrary().choose(reference), facts))


def compile_design(
    design: Design, size: str = "", language: str = "", facts: CampaignFacts = SPRING
) -> CompiledDesign:
    """Compile a design that a test made. Raises what a check raises."""
    return compile_template(template_of(design, size, language, facts))


def template_of(
    design: Design, size: str = "", language: str = "", facts: CampaignFacts = SPRING
) -> PageTemplate:
    manifest = design.manifest
    return PageTemplate(
        DesignVariant(
            design, size or next(iter(manifest.sizes)), language or manifest.languages[0]
        ),
        facts,
    )


MANIFEST = """\
title = "Test"
version = 1
languages = ["en"]
[sizes]
a5 = "148mm 210mm"
[fields.number]
sample = "R-000123"
[fields.holder]
sample = "Ada Lovelace"
"""
PAGE = """\
<!doctype html>
<html>
<head>
<title>{{ campaign.name }}</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
<h1>{{ campaign.name }}</h1>
<div class="number" data-field="number">R-000123</div>
<div class="holder" data-field="holder">Ada Lovelace</div>
<div class="code" data-qr="code"></div>
</body>
</html>
"""
STYLE = """\
@font-face { font-family: Source; src: url("fonts:SourceSansPro-Regular.ttf") }
html { font-family: Source; font-size: 12pt }
body { margin: 0 }
h1, .number, .holder, .code { position: absolute; left: 20mm; width: 80mm; height: 12mm; margin: 0 }
h1 { top: 10mm }
.number { top: 30mm }
.holder { top: 50mm }
.code { top: 80mm; width: 40mm; height: 40mm }
"""


def make_design(
    folder: Path,
    *,
    page: tuple[str, str] = ("", ""),
    style: str = "",
    manifest: tuple[str, str] = ("", ""),
    files: Mapping[str, bytes] | None = None,
) -> Design:
    """Return a sound design with one change: (old text, new text). `style` is appended."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, plate_with_texts_of, (old, new) in (
        ("page.html", PAGE, page),
        ("design.toml", MANIFEST, manifest),
        ("style.css", STYLE, ("", "")),
    ):
        assert old in plate_with_texts_of, f"{old!r} is not in {name}"
        text = plate_with_texts_of.replace(old, new, 1) if old else plate_with_texts_of + new
        (folder / name).write_text(text + (style if name == "style.css" else ""), "utf-8")
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return read(folder)


def ticket(at: int = 0, /, **changes: str) -> TicketPage:
    """One page of an order."""
    texts = {
        "number": f"R-{at:06}",
        "campaign_id": SPRING.campaign_id,
        "campaign": SPRING.name,
        "when": SPRING.when,
        "venue": SPRING.venue,
        "holder": "Ada Lovelace",
        "status": "Active",
        "issued": "21 November 2026",
        "payload": payload(at),
        "design": "event-ticket",
        "position": f"{at + 1} of 9",
    }
    return TicketPage(**{**texts, **changes})


def document_of(
    *pages: TicketPage,
    order: str = "7001",
    purchaser: str = "Grace Hopper",
    email: str = "g@example.org",
) -> Document:
    return Document(order, purchaser, email, pages, AT)


# One that is stamped, and one that WeasyPrint has to set, twice.
SAMPLES = {
    "one": document_of(ticket()),
    "all set whole": document_of(
        *(ticket(at, holder=ODD[name]) for at, name in enumerate(("Chinese", "Thai")))
    ),
}


def renderer(folder: Path, *pages: TicketPage, library: DesignLibrary | None = None) -> Renderer:
    """Return a renderer with the plates of these pages in its cache: no process is started for
    them.
    """
    new = Renderer(library or DesignLibrary(), PlateCache(folder))
    for page in pages:
        variant, facts = new.library.choose(page.design, page.language), facts_of(page)
        key = plate_key(variant, facts)
        if new.plate_cache.plate(key) is None:
            modules = new.plate_cache.qr_template().side
            new.plate_cache.put_plate(
                key,
                compiler.compile_plate(
                    PageTemplate(variant, facts), new.plate_cache.subset_of, modules=modules
                ),
            )
    return new


def picture(pdf: bytes, dpi: float, page: int = 0) -> Image.Image:
    shown: Image.Image = (
        pypdfium2.PdfDocument(pdf)[page].render(scale=dpi / 72).to_pil().convert("RGB")
    )
    return shown


def picture_wide(pdf: bytes, pixels: int, page: int = 0) -> Image.Image:
    """Rasterise a page as wide as a phone's screen."""
    return picture(pdf, 72 * pixels / pypdfium2.PdfDocument(pdf)[page].get_width(), page)


def difference(one: Image.Image, other: Image.Image, tolerance: int) -> tuple[int, int]:
    """Return the largest difference in any channel of any pixel, and how many pixels are beyond the
    tolerance.
    """
    assert one.size == other.size
    differing = ImageChops.difference(one, other)
    if (box := differing.getbbox()) is None:
        return 0, 0
    red, green, blue = differing.crop(box).split()
    counts = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()
    return max((level for level, count in enumerate(counts) if count), default=0), sum(
        counts[tolerance + 1 :]
    )


def text_of(pdf: bytes, page: int = 0) -> str:
    """Return the text as a reader's search and its clipboard see it, in the order of the page's
    content.
    """
    text: str = pypdfium2.PdfDocument(pdf)[page].get_textpage().get_text_range()
    return text


def squeezed(text: str) -> str:
    """Return the text without what depends on where lines end: blanks, and hyphens there (pdfium
    writes those as U+FFFE).
    """
    return "".join(text.replace("\ufffe", "-").split())


def scanned(shown: Image.Image) -> list[str]:
    return [barcode.text for barcode in zxingcpp.read_barcodes(shown)]


def crop(shown: Image.Image, box: Sequence[float], dpi: float) -> Image.Image:
    """Return a part of a page, given in CSS pixels: left, top, right, bottom."""
    return shown.crop(tuple(round(side * dpi / 96) for side in box))  # type: ignore[arg-type]  # four of them


def png(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()
