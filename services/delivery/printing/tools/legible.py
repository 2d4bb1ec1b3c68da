"""Checks whether a scanner can read the code, and whether the page shows all that its holder needs.
The checks compare figures and no taste.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from services.delivery.printing.tools import samples
from services.delivery.printing.tools.comparison import DesignComparison

CODE_DPI = 200
CSS_PIXELS_PER_INCH, MM_PER_INCH = 96, 25.4
PAPER_MM_MIN, PHONE_MM_MIN, PHONE = 26.0, 34.0, "phone"
QUIET_MODULES, STEPS_PER_MODULE = 4, 2
WHITE = 225  # of 255, for red, green and blue: cream is accepted, a tint is not
NEEDED = ("number", "holder", "purchaser", "order", "status")


def code_width(comparison: DesignComparison) -> Iterator[str]:
    width = comparison.plate.square * MM_PER_INCH / CSS_PIXELS_PER_INCH
    is_phone = comparison.variant.size == PHONE
    least = PHONE_MM_MIN if is_phone else PAPER_MM_MIN
    if width < least - 0.05:
        seen = "on a screen" if is_phone else "on paper"
        yield f"the code is {width:.1f} mm wide; {seen} a scanner needs {least:.0f} mm"


def quiet_zone(
    comparison: DesignComparison, page: Image.Image, square: tuple[float, float, float]
) -> Iterator[str]:
    """Yield a warning if the white around the code is too narrow. Rings of half a module are
    checked outwards, until one is not white or leaves the page.
    """
    x, y, side = (length * CODE_DPI / CSS_PIXELS_PER_INCH for length in square)
    step = side / comparison.plate.modules / STEPS_PER_MODULE
    dark = (
        page.point(lambda level: 0 if level >= WHITE else 255)
        .convert("L")
        .point(lambda level: 255 if level else 0)
    )
    code_with_edges = (int(x) - 1, int(y) - 1, int(x + side) + 2, int(y + side) + 2)
    dark.paste(0, code_with_edges)
    white = 0
    for ring in range(1, QUIET_MODULES * STEPS_PER_MODULE + 1):
        # One pixel less: where the zone ends, its neighbour's edge is smoothed into it.
        box = (
            x - ring * step + 1,
            y - ring * step + 1,
            x + side + ring * step - 1,
            y + side + ring * step - 1,
        )
        left, top, right, bottom = (round(edge) for edge in box)
        if left < 0 or top < 0 or right > page.width or bottom > page.height:
            break
        if dark.crop((left, top, right, bottom)).getbbox() is not None:
            break
        white = ring
    if white < QUIET_MODULES * STEPS_PER_MODULE:
        yield (
            f"{white / STEPS_PER_MODULE:g} modules of white around the code; it needs "
            f"{QUIET_MODULES} on each side, "
            f"{QUIET_MODULES * side / comparison.plate.modules * MM_PER_INCH / CODE_DPI:.1f} mm "
            "here"
        )


def details(comparison: DesignComparison, text: str) -> Iterator[str]:
    """Yield what a ticket has to show and does not show: number, campaign, holder, purchaser,
    order, date, status.
    """
    size, fields = comparison.variant.size, comparison.fields
    for name in NEEDED:
        if name not in fields:
            yield (
                f'does not show the {name} in size {size}: add an element with data-field="{name}"'
            )
    shown = squeezed(text)
    campaign = samples.facts(comparison.variant.design, comparison.variant.language)
    if not all(squeezed(word) in shown for word in campaign.name.split()):
        yield f"does not show the campaign's name in size {size}: use {{{{ campaign.name }}}}"
    if "issued" not in fields and not (campaign.when and squeezed(campaign.when) in shown):
        yield (
            f"does not show a date in size {size}: use {{{{ campaign.when }}}}, or "
            'data-field="issued"'
        )


def squeezed(text: str) -> str:
    """Return the text without differences of case and of line ends (pdfium writes a hyphen there as
    U+FFFE).
    """
    return "".join(text.replace("\ufffe", "-").split()).casefold()
