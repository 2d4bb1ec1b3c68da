"""The other process: lays out what it is asked for, under its ceiling, and says what came of it.

It ends when nobody can ask any more, even in the middle of a job: its parent closed the pipe, or
was killed.
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
    """Sheets are parsed once and laid out for many texts."""

    def __init__(self) -> None:
        self._shelves: dict[str, PlateCache] = {}
        self._sheets: LruCache[str, tuple[PageTemplate, Plate]] = LruCache(
            entries_max=TEMPLATES_CACHED_MAX
        )

    def done(self, job: WireMessage) -> WireMessage:
        """Every job has an answer. What eats all memory ends the process."""
        try:
            return self._whole(job) if job.head["do"] == "whole" else self._compiled(job)
        except DesignUnusable as error:
            return WireMessage({"said": "unusable", "cause": error.cause})
        except PlatesFolderUnusable as error:
            return WireMessage({"said": "away", "cause": error.cause})
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's text may do anything to a layout
            self._sheets.clear()  # whatever state it was left in
            return WireMessage(
                {"said": "failed", "cause": f"{type(error).__name__}: {error}"[:CAUSE_CHARS_MAX]}
            )

    def _compiled(self, job: WireMessage) -> WireMessage:
        compile_and_store(*wire.decode_request(job), self._shelf(job), job.head["key"])
        return WireMessage({"said": "done"})

    def _whole(self, job: WireMessage) -> WireMessage:
        key = job.head["key"]
        if key not in self._sheets and "name" not in job.head:
            return WireMessage({"said": "unknown"})
        template, plate = self._sheets.get_or(
            key, lambda: (PageTemplate(*wire.decode_request(job)), plates.from_bytes(job.blobs[-1]))
        )
        made = plate_with_texts(template, plate, job.head["odd"], self._shelf(job).kit_of)
        return WireMessage({"said": "plate", "resident": resident_bytes()}, [plates.to_bytes(made)])

    def _shelf(self, job: WireMessage) -> PlateCache:
        folder = job.head["shelf"]
        if folder not in self._shelves:
            self._shelves[folder] = PlateCache(Path(folder))
        return self._shelves[folder]


def compile_and_store(
    variant: DesignVariant, facts: CampaignFacts, plate_cache: PlateCache, key: str
) -> None:
    plate_cache.put_plate(
        key,
        compile_plate(
            PageTemplate(variant, facts), plate_cache.kit_of, modules=plate_cache.stencil().side
        ),
    )


def resident_bytes() -> int:
    """Bytes now. Without /proc: unknown, and only the number of jobs renews the process."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except OSError:
        return 0


def listen(source: int, jobs: queue.SimpleQueue[WireMessage]) -> None:
    """Beside the work, so that a job at hand does not hide that nobody waits for it."""
    try:
        while (said := wire.read(source)) is not None:
            jobs.put(said)
    finally:
        os._exit(0)


def main() -> None:
    bytes_max, seconds_max = map(int, sys.argv[1:])
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            signum, signal.SIG_IGN
        )  # meant for the parent, which finishes what it has in hand
    answers = os.dup(1)
    os.dup2(2, 1)  # a library that prints does not speak for us
    limit_process(bytes_max)
    work, jobs = LayoutRequests(), queue.SimpleQueue[WireMessage]()
    threading.Thread(target=listen, args=(0, jobs), daemon=True).start()
    wire.write(answers, WireMessage({"said": "ready"}))
    while True:
        job = jobs.get()
        renew_cpu_limit(seconds_max)
        wire.write(answers, work.done(job))


if __name__ == "__main__":
    main()
