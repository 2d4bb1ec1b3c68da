"""The pictures of docs/how-to/make-a-design.md: `python -m deploy.docs.pictures` draws them.

Their bytes depend on the machine's libraries, so a test compares what they were made from instead:
docs/pictures/made-from.txt has the hash of each design.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from services.delivery.printing.design.library import (
    Design,
    DesignVariant,
    builtin,
    builtin_names,
    read,
)
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.tools import pictures, samples
from services.delivery.printing.tools.comparison import DesignComparison

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parents[1] / "docs" / "pictures"
MADE_FROM = "made-from.txt"
DPI, COMPARISON_DPI, FITS_DPI = 60, 50, 100
FITS_MM = 136  # the picture is cut here: the QR code to the right is not its subject
GAP, GROUND = 18, (229, 231, 235)


def sources() -> dict[str, Design]:
    """Return the design that each picture shows."""
    shown = {f"{name}.png": builtin(name) for name in builtin_names()}
    return shown | {
        "both-ways.png": builtin("event-ticket"),
        "fits.png": read(HERE / "designs" / "fits"),
    }


def made_from() -> str:
    return "".join(f"{design.digest}  {name}\n" for name, design in sorted(sources().items()))


def drawn(plates: PlateCache) -> Iterator[tuple[str, Image.Image]]:
    for name, design in sources().items():
        sizes = [DesignVariant(design, size, "en") for size in design.manifest.sizes]
        if name == "both-ways.png":
            yield name, both_ways(DesignComparison(sizes[0], samples.facts(design), plates))
        elif name == "fits.png":
            image = page(DesignComparison(sizes[0], samples.facts(design), plates), FITS_DPI)
            yield name, image.crop((0, 0, round(FITS_MM * FITS_DPI / 25.4), image.height))
        else:
            comparisons = [DesignComparison(size, samples.facts(design), plates) for size in sizes]
            yield name, in_a_row([page(comparison, DPI) for comparison in comparisons])


def page(comparison: DesignComparison, dpi: float) -> Image.Image:
    return pictures.raster(
        comparison.printed(samples.usual(comparison.variant.design), samples.payload()), dpi
    )


def both_ways(comparison: DesignComparison) -> Image.Image:
    texts, payload = samples.usual(comparison.variant.design), samples.payload()
    one = pictures.raster(comparison.printed(texts, payload), COMPARISON_DPI)
    other = pictures.raster(comparison.reference(texts, payload).pdf, COMPARISON_DPI)
    return pictures.side_by_side(one, other, pictures.compare(one, other, COMPARISON_DPI))


def in_a_row(pages: list[Image.Image]) -> Image.Image:
    width = sum(image.width + GAP for image in pages) + GAP
    height = max(image.height for image in pages) + 2 * GAP
    ground, x = Image.new("RGB", (width, height), GROUND), GAP
    for image in pages:
        ground.paste(image, (x, GAP))
        x += image.width + GAP
    return ground


def main() -> int:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in drawn(PlateCache(Path(folder))):
            content = pictures.small_png(picture)
            (PICTURES / name).write_bytes(content)
            print(
                f"docs/pictures/{name}: {picture.width} x {picture.height}, {len(content):,} bytes"
            )
    (PICTURES / MADE_FROM).write_text(made_from(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
