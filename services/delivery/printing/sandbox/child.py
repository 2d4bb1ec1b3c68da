"""The layout process: it lays pages out under its limits, and replies with the results.

It ends as soon as no further request can come, because its parent closed the pipe or was killed,
even during a request.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from pathlib import Path

from services.delivery.printing import plates
from services.delivery.printing.compile.compiler import compile_plate
from services.delivery.printing.compile.layout import PageTemplate
from services.delivery.printing.compile.unstampable import plate_with_texts
from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.errors import DesignUnusable, PlatesFolderUnusable
from services.delivery.printing.lru_cache import LruCache
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.plates import Plate
from services.delivery.printing.sandbox import wire
from services.delivery.printing.sandbox.limits import (
    CAUSE_CHARS_MAX,
    limit_process,
    renew_cpu_limit,
)
from services.delivery.printing.sandbox.wire import WireMessage

TEMPLATES_CACHED_MAX = 8


class LayoutRequests:
    """Handles requests. Templates are parsed once and laid out for many texts."""

    def __init__(self) -> None:
        self._plate_caches: dict[str, PlateCache] = {}
        self._templates: LruCache[str, tuple[PageTemplate, Plate]] = LruCache(
            entries_max=TEMPLATES_CACHED_MAX
        )

    def handle(self, request: WireMessage) -> WireMessage:
        """Return a reply to every request. A request that takes all memory ends the process."""
        try:
            if request.head["do"] == "set_texts":
                return self._set_texts(request)
            return self._compiled(request)
        except DesignUnusable as error:
            return WireMessage({"status": "unusable", "cause": error.cause})
        except PlatesFolderUnusable as error:
            return WireMessage({"status": "unavailable", "cause": error.cause})
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a customer's text may do anything to a layout
            self._templates.clear()  # a failed layout may have left them in any state
            return WireMessage(
                {"status": "failed", "cause": f"{type(error).__name__}: {error}"[:CAUSE_CHARS_MAX]}
            )

    def _compiled(self, request: WireMessage) -> WireMessage:
        compile_and_store(
            *wire.decode_request(request), self._plate_cache(request), request.head["key"]
        )
        return WireMessage({"status": "done"})

    def _set_texts(self, request: WireMessage) -> WireMessage:
        key = request.head["key"]
        if key not in self._templates and "name" not in request.head:
            return WireMessage({"status": "unknown"})
        template, plate = self._templates.get_or(
            key,
            lambda: (
                PageTemplate(*wire.decode_request(request)),
                plates.from_bytes(request.blobs[-1]),
            ),
        )
        result = plate_with_texts(
            template, plate, request.head["unstampable"], self._plate_cache(request).subset_of
        )
        return WireMessage(
            {"status": "plate", "resident": resident_bytes()}, [plates.to_bytes(result)]
        )

    def _plate_cache(self, request: WireMessage) -> PlateCache:
        folder = request.head["plate_cache"]
        if folder not in self._plate_caches:
            self._plate_caches[folder] = PlateCache(Path(folder))
        return self._plate_caches[folder]


def compile_and_store(
    variant: DesignVariant, facts: CampaignFacts, plate_cache: PlateCache, key: str
) -> None:
    plate_cache.put_plate(
        key,
        compile_plate(
            PageTemplate(variant, facts),
            plate_cache.subset_of,
            modules=plate_cache.qr_template().side,
        ),
    )


def resident_bytes() -> int:
    """Return the resident memory. Without /proc it is 0, and the process is renewed only by the
    number of its requests.
    """
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except OSError:
        return 0


def listen(source: int, requests: queue.SimpleQueue[WireMessage]) -> None:
    """Read requests in a thread of its own, so that the end of the pipe is seen during a long
    request.
    """
    try:
        while (request := wire.read(source)) is not None:
            requests.put(request)
    finally:
        os._exit(0)


def main() -> None:
    bytes_max, seconds_max = map(int, sys.argv[1:])
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # for the parent, which finishes its work
    replies = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no reply
    limit_process(bytes_max)
    handler, requests = LayoutRequests(), queue.SimpleQueue[WireMessage]()
    threading.Thread(target=listen, args=(0, requests), daemon=True).start()
    wire.write(replies, WireMessage({"status": "ready"}))
    while True:
        request = requests.get()
        renew_cpu_limit(seconds_max)
        wire.write(replies, handler.handle(request))


if __name__ == "__main__":
    main()
