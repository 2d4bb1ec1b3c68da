"""Again with each change of a folder, until Ctrl-C. It asks for times and sizes: no library, and it
works on network disks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.delivery.printing.design.library import design_files

FolderState = frozenset[tuple[str, int, int]]


def folder_state(folder: Path) -> FolderState:
    """Files that belong to the design, when they were written and how large they are. One that goes
    meanwhile is gone.
    """
    found = set[tuple[str, int, int]]()
    for path in design_files(folder):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.add((str(path), state.st_mtime_ns, state.st_size))
    return frozenset(found)


def watch(folder: Path, again: Callable[[], None], wait: Callable[[], None]) -> None:
    """`wait`: between two looks. An editor writes in several steps, so a change is worked once
    nothing moves any more.
    """
    worked: FolderState | None = None
    last = folder_state(folder)
    try:
        while True:
            now = folder_state(folder)
            if now == last and now != worked:
                worked = now
                again()
            last = now
            wait()
    except KeyboardInterrupt:
        return
