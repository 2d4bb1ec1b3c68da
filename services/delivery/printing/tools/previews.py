"""Previews: a page stamped, the same page by WeasyPrint, and both side by side with their
differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.tools import pictures, samples
from services.delivery.printing.tools.comparison import DesignComparison

DPI = 120


def preview(variant: DesignVariant, plate_cache: PlateCache, out: Path) -> Iterator[Path]:
    """Write the files, each completely or not at all, so that a viewer never shows half of one."""
    comparison = DesignComparison(
        variant, samples.facts(variant.design, variant.language), plate_cache
    )
    texts, payload = samples.usual(variant.design, variant.language), samples.payload()
    stamped, reference = (
        comparison.printed(texts, payload),
        comparison.reference(texts, payload).pdf,
    )
    one, other = pictures.raster(stamped, DPI), pictures.raster(reference, DPI)
    side_by_side = pictures.side_by_side(one, other, pictures.compare(one, other, DPI))
    files = {
        "stamped.pdf": stamped,
        "stamped.png": pictures.png(one),
        "weasyprint.pdf": reference,
        "weasyprint.png": pictures.png(other),
        "side-by-side.png": pictures.png(side_by_side),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = out / f"{variant.size}-{variant.language}-{name}"
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        part.replace(path)
        yield path
