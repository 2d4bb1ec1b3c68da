"""The pictures of docs/how-to/make-a-design.md, drawn by the same tools:
`python -m deploy.docs.pictures`.

Their bytes depend on the machine's libraries, so a test does not compare them. It compares what
they were made from: docs/pictures/made-from.txt has the hash of each design.
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
from services.delivery.printing.tools.proof import DesignProof

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parents[1] / "docs" / "pictures"
MADE_FROM = "made-from.txt"
DPI, PROOF_DPI, FITS_DPI = 60, 50, 100
FITS_MM = 136  # behind it stands the code, which is not the point there
GAP, GROUND = 18, (229, 231, 235)


def sources() -> dict[str, Design]:
    """Picture -> the design that it shows."""
    found = {f"{name}.png": builtin(name) for name in builtin_names()}
    return found | {
        "both-ways.png": builtin("event-ticket"),
        "fits.png": read(HERE / "designs" / "fits"),
    }


def made_from() -> str:
    return "".join(f"{design.digest}  {name}\n" for name, design in sorted(sources().items()))


def drawn(plate_cache: PlateCache) -> Iterator[tuple[str, Image.Image]]:
    for name, design in sources().items():
        sizes = [DesignVariant(design, size, "en") for size in design.manifest.sizes]
        if name == "both-ways.png":
            yield name, both_ways(DesignProof(sizes[0], samples.facts(design), plate_cache))
        elif name == "fits.png":
            whole = page(DesignProof(sizes[0], samples.facts(design), plate_cache), FITS_DPI)
            yield name, whole.crop((0, 0, round(FITS_MM * FITS_DPI / 25.4), whole.height))
        else:
            yield (
                name,
                in_a_row(
                    [page(DesignProof(it, samples.facts(design), plate_cache), DPI) for it in sizes]
                ),
            )


def page(proof: DesignProof, dpi: float) -> Image.Image:
    return pictures.raster(
        proof.printed(samples.usual(proof.variant.design), samples.payload()), dpi
    )


def both_ways(proof: DesignProof) -> Image.Image:
    texts, payload = samples.usual(proof.variant.design), samples.payload()
    one = pictures.raster(proof.printed(texts, payload), PROOF_DPI)
    other = pictures.raster(proof.reference(texts, payload).pdf, PROOF_DPI)
    return pictures.side_by_side(one, other, pictures.compare(one, other, PROOF_DPI))


def in_a_row(pages: list[Image.Image]) -> Image.Image:
    width, height = (
        sum(it.width + GAP for it in pages) + GAP,
        max(it.height for it in pages) + 2 * GAP,
    )
    ground, x = Image.new("RGB", (width, height), GROUND), GAP
    for it in pages:
        ground.paste(it, (x, GAP))
        x += it.width + GAP
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
