"""`stubline design` as its tests call it, and designs with one thing wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.delivery.printing.design.library import Design
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.tools.checks import DesignCheck, DesignFinding
from services.delivery.printing.tools.target import variants_of
from tests.support import rendering


def made_design(folder: Path, *, style: str = "", **changes: Any) -> Design:
    """A design that holds for every name of a campaign, but for one change."""
    return rendering.make_design(
        folder, style=f"h1 {{ overflow: hidden; font-size: 8pt }} {style}", **changes
    )


def findings(design: Design, plates: Path, size: str | None = None) -> list[DesignFinding]:
    """As the command's process finds them, in this one."""
    return list(
        DesignCheck(PlateCache(plates), lambda _: None).run(design, variants_of(design, size, None))
    )
