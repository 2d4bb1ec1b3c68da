"""Again with each change of a folder, until Ctrl-C. It asks for times and sizes: no library, and it
works on network disks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.delivery.printing.design.library import entries

Seen = frozenset[tuple[str, int, int]]


def seen(folder: Path) -> Seen:
    """Files that belong to the design, when they were written and how large they are. One that goes
    meanwhile is gone.
    """
    found = set[tuple[str, int, int]]()
    for path in entries(folder):
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
    worked: Seen | None = None
    last = seen(folder)
    try:
        while True:
            now = seen(folder)
            if now == last and now != worked:
                worked = now
                again()
            last = now
            wait()
    except KeyboardInterrupt:
        return
