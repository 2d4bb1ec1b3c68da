"""Checks by other packages before a command is carried out: entry points of the group
`stubline.preflight`, by name.

A service may not import another, and yet it can accept what another cannot work with. So it passes
plain content to every installed check of that name. A check refuses by raising an error of the
tree; nothing has been changed yet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from typing import Any

from services.runtime.errors import StublineError

GROUP = "stubline.preflight"
CAUSES_MAX = 10  # that one error quotes: a thousand contents may have the same problem


def run_all(name: str, contents: Sequence[Mapping[str, Any]]) -> None:
    """Check several contents at once, one per processor. Raises the first refusal, with the causes
    of the others.
    """

    def refusal(content: Mapping[str, Any]) -> StublineError | None:
        try:
            run(name, content)
        except StublineError as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        refusals = [error for error in pool.map(refusal, contents) if error is not None]
    if refusals:
        causes = [error.cause for error in refusals[:CAUSES_MAX]]
        if len(refusals) > CAUSES_MAX:
            causes.append(f"and {len(refusals) - CAUSES_MAX} more")
        raise type(refusals[0])("; ".join(causes))


def run(name: str, content: Mapping[str, Any]) -> None:
    """Run the checks of that name. Raises what a check raises."""
    for entry in sorted(entry_points(group=GROUP, name=name), key=lambda entry: entry.value):
        entry.load()(content)
