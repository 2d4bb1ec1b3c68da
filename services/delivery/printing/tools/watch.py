"""Runs a command at each change of a folder, until Ctrl-C. It polls times and sizes, which needs no
library and works on network disks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.delivery.printing.design.library import design_files

FolderState = frozenset[tuple[str, int, int]]


def folder_state(folder: Path) -> FolderState:
    """Return the design's files, each with its time and its size. A file that is removed meanwhile
    is left out.
    """
    files = set[tuple[str, int, int]]()
    for path in design_files(folder):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        files.add((str(path), state.st_mtime_ns, state.st_size))
    return frozenset(files)


def watch(folder: Path, on_change: Callable[[], None], wait: Callable[[], None]) -> None:
    """Call `on_change` at each change. `wait` is called between two polls. An editor writes in
    several steps, so a change is handled once nothing changes any more.
    """
    handled: FolderState | None = None
    last = folder_state(folder)
    try:
        while True:
            now = folder_state(folder)
            if now == last and now != handled:
                handled = now
                on_change()
            last = now
            wait()
    except KeyboardInterrupt:
        return
