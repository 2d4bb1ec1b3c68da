"""What others have to say before a command is carried out: entry points of the group
`stubline.preflight`, by name.

A service may not import another, and yet what one accepts can be what another will stumble over. So
the one asks whoever is installed, with plain content; whoever minds raises an error of the tree,
and nothing has been changed yet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from typing import Any

from services.runtime.errors import StublineError

GROUP = "stubline.preflight"
CAUSES_MAX = 10  # of those who mind: a thousand may have one cause


def run_all(name: str, contents: Sequence[Mapping[str, Any]]) -> None:
    """Side by side, as many as there are processors. Raises what the first who minds raises, with
    what the others say too.
    """

    def minded(content: Mapping[str, Any]) -> StublineError | None:
        try:
            run(name, content)
        except StublineError as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = [error for error in pool.map(minded, contents) if error is not None]
    if found:
        told = [error.cause for error in found[:CAUSES_MAX]]
        if len(found) > CAUSES_MAX:
            told.append(f"and {len(found) - CAUSES_MAX} more")
        raise type(found[0])("; ".join(told))


def run(name: str, content: Mapping[str, Any]) -> None:
    """Raises what an entry point raises. Nobody there: nobody minds."""
    for entry in sorted(entry_points(group=GROUP, name=name), key=lambda entry: entry.value):
        entry.load()(content)
