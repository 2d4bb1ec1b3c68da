"""What prints at this installation: its designs, its shelf of compiled ones, where the settings
say.
"""

from __future__ import annotations

import os
from pathlib import Path

from services.delivery.printing.errors import PlatesFolderUnusable
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.renderer import NoRenderTelemetry, Renderer, RenderTelemetry
from services.delivery.settings import DeliverySettings


def renderer(settings: DeliverySettings, narrator: RenderTelemetry | None = None) -> Renderer:
    """Raises PlatesFolderUnusable."""
    return Renderer(library(settings), shelf(settings), narrator or NoRenderTelemetry())


def library(settings: DeliverySettings) -> DesignLibrary:
    return DesignLibrary((Path(settings.designs_folder),) if settings.designs_folder else ())


def shelf(settings: DeliverySettings) -> PlateCache:
    """Raises PlatesFolderUnusable."""
    try:
        folder = Path(settings.plates_folder) if settings.plates_folder else default_folder()
    except RuntimeError:
        raise PlatesFolderUnusable("this user has no home") from None
    if not folder.is_absolute():
        raise PlatesFolderUnusable(
            "a folder is named by its whole path: a service's place may change"
        )
    try:
        made = PlateCache(folder)
    except OSError as error:
        raise PlatesFolderUnusable(f"{folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PlatesFolderUnusable(f"{folder} may not be written by this user")
    return made


def default_folder() -> Path:
    """As the XDG specification has it: what a program can do without; a relative path there is
    none.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "stubline" / "plates"
