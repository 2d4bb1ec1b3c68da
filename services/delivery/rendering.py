"""Makes the renderer, design library and plate cache that the settings describe."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Protocol

from services.delivery.plate_store import PlateStore
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.documents import Document
from services.delivery.printing.errors import PlatesFolderUnusable
from services.delivery.printing.plate_bundle import SharedPlates
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.renderer import NoRenderTelemetry, Renderer, RenderTelemetry
from services.delivery.settings import DeliverySettings
from services.runtime.errors import StublineError


class SharedRenderTelemetry(RenderTelemetry, Protocol):
    """Receives failures of the blob store, too."""

    def file_failed(self, order_id: str, error: StublineError) -> None: ...


class SharedRenderer:
    """The renderer of a sender's connections. While one of them has a text laid out, which takes
    a few hundred times as long as a stamp, the others stamp.
    """

    def __init__(self, settings: DeliverySettings, telemetry: SharedRenderTelemetry) -> None:
        """Raises PlatesFolderUnusable, FilesUrlUnusable."""
        self._stamping, self._stamping_lock = configured_renderer(settings, telemetry), Lock()
        # Only this one compiles. What it loads or compiles is on disk then, for both.
        shared = PlateStore(settings.files_url, lambda error: telemetry.file_failed("", error))
        self._laying_out = configured_renderer(settings, telemetry, shared)
        self._layout_lock = Lock()

    def key(self, document: Document) -> bytes:
        with self._layout_lock:
            return self._laying_out.key(document)

    def language(self, design: str, requested: str) -> str:
        with self._stamping_lock:
            return self._stamping.language(design, requested)

    def stamp(self, document: Document) -> bytes | None:
        with self._stamping_lock:
            return self._stamping.stamp(document)

    def compile(self, document: Document) -> None:
        with self._layout_lock:
            self._laying_out.compile(document)

    def render(self, document: Document) -> bytes:
        with self._layout_lock:
            return self._laying_out.render(document)


def configured_renderer(
    settings: DeliverySettings,
    telemetry: RenderTelemetry | None = None,
    shared: SharedPlates | None = None,
) -> Renderer:
    """Return the renderer. Raises PlatesFolderUnusable."""
    return Renderer(
        configured_library(settings),
        configured_plate_cache(settings, shared),
        telemetry or NoRenderTelemetry(),
    )


def configured_library(settings: DeliverySettings) -> DesignLibrary:
    return DesignLibrary((Path(settings.designs_folder),) if settings.designs_folder else ())


def configured_plate_cache(
    settings: DeliverySettings, shared: SharedPlates | None = None
) -> PlateCache:
    """Return the plate cache, and create its folder. Raises PlatesFolderUnusable."""
    try:
        folder = Path(settings.plates_folder) if settings.plates_folder else default_plates_folder()
    except RuntimeError:
        raise PlatesFolderUnusable("this user has no home folder") from None
    if not folder.is_absolute():
        raise PlatesFolderUnusable(
            "a folder is named by its absolute path: a service's working directory may change"
        )
    try:
        cache = PlateCache(folder, shared)
    except OSError as error:
        raise PlatesFolderUnusable(f"{folder} cannot be created: {error.strerror}") from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PlatesFolderUnusable(f"{folder} may not be written by this user")
    return cache


def default_plates_folder() -> Path:
    """Return the folder of the XDG specification for caches; a relative path in its variable is
    ignored.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "stubline" / "plates"
